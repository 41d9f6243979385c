"""Try an image: the page's answers are the model's own, hostile uploads get one line, missing weights name their remedy."""

import base64
import io
import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from core import results
from core.config import CLASSES, ROOT, TRIO, Recipe
from dashboard import inference
from tests.dashboard.conftest import component


@pytest.fixture
def open_page(visit_tiny):
    """Open the page with query parameters, on results that ship weights."""
    return partial(visit_tiny, "try_image")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def logits_by_hand(folder, model: str, pixels: np.ndarray) -> np.ndarray:
    import torch
    from safetensors.torch import load_file

    from core.data import to_input
    from core.models import build_model

    built = build_model(model, "none", 16, 0.0).eval()
    built.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in load_file(folder).items()})
    with torch.no_grad():
        return built(to_input(torch.tensor(pixels).permute(2, 0, 1)[None], 32))[0].numpy()


def test_a_test_image_is_answered_by_all_models_and_the_ensemble(open_page, tiny_results):
    app = open_page(image="123")
    pixels = results.load_test_images(tiny_results).decode(123)
    run = results.load_run(tiny_results / "imagenet-96-seed1")
    logits = inference.predict_image(run, pixels)
    assert list(logits) == [*TRIO, "ensemble"]
    for model in TRIO:
        np.testing.assert_allclose(logits[model], logits_by_hand(run.path / model / "weights.safetensors", model, pixels), atol=1e-4)
    shares = [np.exp(logits[m]) / np.exp(logits[m]).sum() for m in ("resnet18", "mobilenet_v2")]
    np.testing.assert_allclose(np.exp(logits["ensemble"]), np.mean(shares, axis=0), rtol=1e-4)
    answers = {CLASSES[values.argmax()] for values in logits.values()}
    assert all(any(f"**{answer}**" in block.value for block in app.markdown) for answer in answers)
    label = results.load_test_images(tiny_results).labels[123]
    assert any(f"True class: **{CLASSES[label]}**" in block.value for block in app.markdown)


def test_the_models_shown_are_those_that_answer(open_page):
    app = open_page(image="5", models="mobilenet_v2")
    assert any(block.value.startswith("### MobileNetV2: **") for block in app.markdown)
    assert len(json.loads(app.get("plotly_chart")[0].proto.spec)["data"]) == 1


def test_an_upload_is_shown_as_it_came_and_as_the_models_see_it(open_page):
    app = open_page()
    app.file_uploader[0].set_value([("photo.png", png(np.full((60, 90, 3), 200, np.uint8)), "image/png")]).run()
    assert not app.exception
    sent = component(app, "crop_picker")
    assert sent["label"] == "As it came: 90×60 pixels" and sent["box"] == [15, 0, 75, 60]
    assert Image.open(io.BytesIO(base64.b64decode(sent["seen"].split(",")[1]))).size == (32, 32)
    assert len(app.get("plotly_chart")) == 1
    assert not any("True class" in block.value for block in app.markdown)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PK\x03\x04 a zip", "no PNG, JPEG or WebP"), (png(np.zeros((64, 64, 3), np.uint8))[:60], "damaged|no PNG"), (b"", "no PNG")],
)
def test_an_upload_that_is_no_image_gets_one_line(open_page, content, words):
    app = open_page()
    app.file_uploader[0].set_value([("photo.png", content, "image/png")]).run()
    assert not app.exception and len(app.error) == 1
    assert any(word in app.error[0].value for word in words.split("|"))


def test_what_the_browser_refuses_says_why_on_the_page(open_page):
    """Streamlit tells screen readers alone; the rule that shows it to all stands on the page, beside the limits."""
    app = open_page()
    assert any(".stFileChip [role=alert] { position: static" in block.proto.body for block in app.get("html"))
    assert app.file_uploader[0].label == "PNG, JPEG or WebP, at most 5 MB and 25 megapixels"


@pytest.mark.parametrize("image", ["99999", "-1", "x", "<script>"])
def test_a_nonsense_image_in_the_url_is_none(open_page, image):
    app = open_page(image=image)
    assert not app.error and any("Upload an image" in block.value for block in app.info)


def test_without_weights_the_page_names_a_run_that_has_them_and_the_command(open_page):
    app = open_page(run="imagenet-96-seed0")
    (info,) = app.info
    assert "`imagenet-96-seed1`" in info.value and re.search(r"python scripts/evaluate\.py /\S+/imagenet-96-seed0", info.value)
    assert not app.get("file_uploader")


def test_damaged_weights_are_named(tiny_results, tmp_path, monkeypatch):
    shutil.copytree(tiny_results, tmp_path / "results")
    path = tmp_path / "results" / "imagenet-96-seed1" / "fusion" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    app = AppTest.from_file(str(ROOT / "dashboard" / "Home.py"), default_timeout=120)
    app.query_params["image"] = "1"
    app.run().switch_page("views/try_image.py").run()
    assert not app.exception
    assert "fusion/weights.safetensors" in app.error[0].value and "python scripts/evaluate.py" in app.error[0].value
    assert Recipe.from_dict(results.load_run(path.parent.parent).record["recipe"]).image_size == 32


def test_a_picture_goes_along_to_the_attributions(open_page):
    app = open_page()
    app.file_uploader[0].set_value([("photo.png", png(np.full((60, 90, 3), 200, np.uint8)), "image/png")]).run()
    app.query_params["own"] = "true"  # as the link says
    app.switch_page("views/attributions.py").run()
    assert not app.exception and app.file_uploader[0].value is None
    assert any("your image at 32×32" in block.proto.body for block in app.get("html"))
    app.query_params.clear()
    app.query_params["image"] = "17"  # a link to a test image is not about the visitor's own
    app.switch_page("views/try_image.py").run()
    app.switch_page("views/attributions.py").run()
    assert not any("your image at 32×32" in block.proto.body for block in app.get("html"))
