"""Attributions: the page shows Captum's maps of the models at hand, steps through the filter, and says how far to trust them."""

import base64
import io
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from core import results, summaries
from core.config import BASELINES, CLASSES, TRIO
from core.images import Crop
from dashboard import diagram, inference, selection, theme
from tests.dashboard.conftest import component, open_page


def html(app) -> str:
    return "".join(block.proto.body for block in app.get("html"))


def charts(app) -> dict[str, dict]:
    """Plotly figures by title."""
    figures = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return {figure["layout"]["title"]["text"].replace("<br>", " "): figure for figure in figures}


def values(axis: list | dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(axis["bdata"]), axis["dtype"]) if isinstance(axis, dict) else np.array(axis)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def predictions(tiny_results):
    return summaries.per_image(results.load_run(tiny_results / "imagenet-96-seed1"))


def test_every_model_gets_a_map_of_every_method(visit_tiny, predictions):
    app = visit_tiny("attributions", image="17", methods=["saliency", "grad_cam"])
    score = {m: CLASSES[predictions[f"{m}_predicted"][17]] for m in TRIO}
    shown = html(app)
    for text in (
        f"ResNet18: {score['resnet18']}",
        f"MobileNetV2: {score['mobilenet_v2']}",
        f"Fusion: {score['fusion']}",
        f"Fusion, ResNet18 branch: {score['fusion']}",
        f"Fusion, MobileNetV2 branch: {score['fusion']}",
    ):
        assert re.search(rf"<figcaption>{text}( \(blank\))?</figcaption>", shown)
    assert any("It misleads" in caption.value for caption in app.caption)
    places = "At 32 pixels the last block has 1×1 places"  # the size of the made-up run
    assert any(caption.value.startswith(places) for caption in app.caption)


def test_the_branches_add_up_to_the_change_of_the_score(visit_tiny, tiny_results, predictions):
    from core.evaluate import load_shipped_model
    from core.explain.score import Question, pick_images, score_change

    app = visit_tiny("attributions", image="5", methods=["integrated_gradients"], explain="horse")
    figure = charts(app)["How much does each branch add for horse?"]
    run = results.load_run(tiny_results / "imagenet-96-seed1")
    images = pick_images(results.load_test_images(tiny_results), [5])
    change = score_change(Question.about(load_shipped_model(run, "fusion"), images, CLASSES.index("horse"), 32))[0]
    assert values(figure["data"][0]["x"]).sum() == pytest.approx(change, rel=0.02, abs=0.02)


def test_predicted_minus_true_leaves_out_the_models_that_are_right(visit_tiny, predictions):
    index = int(predictions.index[predictions["resnet18_correct"] & ~predictions["fusion_correct"]][0])
    app = visit_tiny("attributions", image=str(index), methods=["saliency"], explain="predicted − true")
    row = predictions.iloc[index]
    shown = html(app)
    assert f"Fusion: {CLASSES[row['fusion_predicted']]} − {CLASSES[row['label']]}" in shown
    assert "<figcaption>ResNet18:" not in shown


def test_all_right_leaves_nothing_to_contrast(visit_tiny, predictions):
    index = int(predictions.index[predictions[[f"{m}_correct" for m in TRIO]].all(axis=1)][0])
    app = visit_tiny("attributions", image=str(index), explain="predicted − true")
    assert "Every model shown is correct" in app.info[-1].value


def test_strength_alone_has_no_sign(visit_tiny):
    said = {}
    for absolute in ("false", "true"):
        app = visit_tiny("attributions", image="17", methods=["occlusion"], models=["ResNet18"], absolute=absolute)
        said[absolute] = " ".join(caption.value for caption in app.caption)
    assert "blue against it" in said["false"] and "blue against it" not in said["true"] and "Orange: strength" in said["true"]


def test_next_and_previous_walk_through_the_filter(visit_tiny, predictions):
    app = visit_tiny("attributions", true=["cat"], methods=["saliency"], models=["Fusion"])
    order = selection.select_images(predictions[~predictions["fusion_correct"]], "fusion", ["cat"], sort="most confident first").tolist()
    image = next(box for box in app.number_input if box.key == "image")
    assert image.value == order[0]
    next(button for button in app.button if button.label.startswith("Next")).click().run()
    assert next(box for box in app.number_input if box.key == "image").value == order[1]
    for _ in range(2):
        next(button for button in app.button if button.label == "Previous").click().run()
    assert next(box for box in app.number_input if box.key == "image").value == order[-1]
    assert not app.exception


def test_the_checks_report_their_measures(visit_tiny):
    app = visit_tiny("attributions", image="17", methods=["saliency"], models=["ResNet18"], check="true")
    figures = charts(app)
    correlation = values(figures["Does the map notice random weights?"]["data"][0]["y"])
    assert len(correlation) == 7 and correlation[0] == pytest.approx(1)
    deletion = next(trace for trace in figures["Do the pixels it names matter?"]["data"] if trace["name"] == "deletion")
    assert len(values(deletion["y"])) == 33
    assert {metric.label for metric in app.metric} == {"Infidelity", "Max-sensitivity"}


def test_a_blank_map_is_not_checked(visit_tiny, monkeypatch):
    """It would be the most stable of all, and notice random weights at once."""
    monkeypatch.setattr(inference.Question, "ask", lambda self, task, *_, **__: {"whole": np.zeros((1, 32, 32), np.float32)})
    app = visit_tiny("attributions", image="17", methods=["saliency"], models=["ResNet18"], check="true")
    assert any("This map is blank: there is nothing to check." in info.value for info in app.info) and not app.metric and not app.exception


def test_an_uploaded_image_is_explained(visit_tiny):
    app = visit_tiny("attributions", methods=["saliency"], models=["Fusion"])
    app.get("file_uploader")[0].upload("mine.png", png(np.full((40, 60, 3), 90, np.uint8)), "image/png").run()
    assert not app.exception
    assert "your image at 32×32" in html(app)


def test_maps_have_a_scale_each_unless_one_is_asked_for(visit_tiny, monkeypatch):
    drawn, overlay = [], diagram.overlay_map

    def note(image, values, scale, opacity):
        drawn.append((float(np.abs(values).max()), scale))
        return overlay(image, values, scale, opacity)

    monkeypatch.setattr(diagram, "overlay_map", note)
    for shared in ("false", "true"):
        drawn.clear()
        app = visit_tiny("attributions", image="17", methods=["saliency"], shared=shared)
        peaks, scales = zip(*drawn[:3], strict=True)
        said = next(caption.value for caption in app.caption if "It misleads" in caption.value)
        if shared == "true":
            assert set(scales) == {max(peaks)} and f"one scale for all, full colour at {max(peaks):.3g}." in said
        else:
            assert scales == peaks and len(set(peaks)) == 3 and "each on its own scale." in said


def test_a_blank_map_says_so_and_offers_the_signed_one(visit_tiny, monkeypatch):
    """One branch whose features speak against every class: what Grad-CAM shows of it is nothing."""
    from core.explain import methods

    monkeypatch.setattr(methods, "weigh_cells", lambda score, question: {n: -torch.ones(1, 1, 3, 3) for n in score.model.backbones})
    app = visit_tiny("attributions", image="23", methods=["grad_cam"], models=["fusion"])
    assert html(app).count("(blank)</figcaption>") == 2
    assert sum("blank.** It saw no place that speaks for" in caption.value for caption in app.caption) == 2
    next(button for button in app.button if button.label == "Show the signed maps").click().run()
    assert not app.exception and any(header.value == "Signed Grad-CAM" for header in app.subheader)
    assert not any(button.label == "Show the signed maps" for button in app.button)


def test_blank_maps_are_counted_on_those_that_ship(visit_tiny, tiny_results, tmp_path, monkeypatch):
    shutil.copytree(tiny_results, tmp_path / "results")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    maps = {part: np.ones((3, 32, 32)) for part in BASELINES}
    maps["mobilenet_v2"][:2] = 0
    rows = {"index": np.array([4, 9, 12]), "target": np.array([1, 2, 3]), "minus": np.full(3, -1)}
    results.write_attributions(tmp_path / "results/imagenet-96-seed1/fusion/attributions.npz", rows, {"grad_cam": maps}, {}, {})
    app = open_page("attributions", image="4", methods=["grad_cam"], models=["fusion"])
    counted = "Blank among Fusion's Grad-CAM maps that ship with this run: 2 of 3 of its MobileNetV2 branch."
    assert any(caption.value == counted for caption in app.caption)


def test_the_part_that_is_cropped_is_explained(visit_tiny):
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 200
    app = visit_tiny("attributions", methods=["saliency"], models=["fusion"])
    app.get("file_uploader")[0].upload("mine.png", png(halves), "image/png").run()
    seen = {}
    for x in (0, 1):
        app.session_state["crop"] = app.session_state["own_picture"].file_id, Crop(x=x)
        app.run()
        pixels = component(app, "crop_picker")["seen"].split(",")[1]
        seen[x] = np.asarray(Image.open(io.BytesIO(base64.b64decode(pixels)))).mean()
    assert not app.exception and seen[0] < 5 and seen[1] > 195


def test_previous_goes_to_the_last_from_outside_the_filter(visit_tiny, predictions):
    order = selection.select_images(predictions[~predictions["fusion_correct"]], "fusion", ["cat"], sort="most confident first").tolist()
    outside = next(i for i in range(len(predictions)) if i not in order)
    for name, expected in (("Previous", order[-1]), ("Next", order[0])):
        app = visit_tiny("attributions", true=["cat"], image=str(outside), methods=["saliency"], models=["fusion"])
        next(button for button in app.button if button.label.startswith(name)).click().run()
        assert next(box for box in app.number_input if box.key == "image").value == expected


def test_a_run_without_weights_says_what_to_do(visit):
    app = visit("attributions", image="17")
    assert "python scripts/evaluate.py" in app.info[0].value


@pytest.mark.parametrize("parameters", [{"image": "99999"}, {"image": "x"}, {"explain": "<b>"}, {"methods": "magic"}, {"opacity": "7"}])
def test_a_nonsense_url_falls_back(visit_tiny, parameters):
    app = visit_tiny("attributions", **({"methods": "saliency", "models": "ResNet18"} | parameters))
    assert app.title[0].value == "Attributions" and not app.error


def test_a_first_visit_asks_for_quick_methods_alone(visit_tiny):
    app = visit_tiny("attributions", image="17", models=["Fusion"])
    chosen = next(one for one in app.get("button_group") if one.label == "Methods")
    assert chosen.value == ["grad_cam", "saliency"]
    assert any("Choose Integrated Gradients above" in caption.value for caption in app.caption)


def test_what_branches_carry_over_the_test_set_names_its_command(visit_tiny):
    app = visit_tiny("attributions", image="17", methods=["saliency"], models=["Fusion"])
    assert any("scripts/explain.py" in info.value and "--branches" in info.value for info in app.info)


def test_branch_shares_group_by_class_and_by_outcome(predictions):
    contributions = {"resnet18": np.arange(10_000.0), "mobilenet_v2": np.ones(10_000)}
    by_class = selection.share_branches(predictions, contributions, "class").set_index("group")
    cats = np.flatnonzero(predictions["label"] == CLASSES.index("cat"))
    assert by_class.loc["cat", "resnet18"] == pytest.approx(cats.mean())
    by_outcome = selection.share_branches(predictions, contributions, "outcome").set_index("group")
    rescued = predictions["fusion_correct"] & ~predictions["resnet18_correct"] & ~predictions["mobilenet_v2_correct"]
    assert by_outcome.loc["fixed", "resnet18"] == pytest.approx(np.flatnonzero(rescued).mean())
    assert set(by_outcome.index) == {"fixed", "broken", "other correct", "other wrong"}


def test_overlay_colours_what_speaks_for_and_against():
    image = np.full((32, 32, 3), 100, np.uint8)
    attribution = np.zeros((32, 32))
    attribution[0, 0], attribution[1, 1] = 2.0, -2.0
    overlaid = diagram.overlay_map(image, attribution, scale=2.0, opacity=1.0)

    def rgb(color: str) -> list[int]:
        return [int(color[i : i + 2], 16) for i in (1, 3, 5)]

    assert overlaid[0, 0].tolist() == rgb(theme.FOR) and overlaid[1, 1].tolist() == rgb(theme.AGAINST)
    assert overlaid[5, 5].tolist() == [100, 100, 100]


def test_visitors_who_ask_the_same_wait_for_one_answer(tiny_results, monkeypatch):
    from core.explain import methods

    asked, attribute = [], methods.attribute

    def attribute_slowly(question, method, **options):
        asked.append(method)
        time.sleep(0.3)
        return attribute(question, method, **options)

    monkeypatch.setattr(results, "RESULTS", tiny_results)
    monkeypatch.setattr(methods, "attribute", attribute_slowly)
    run = results.load_run(tiny_results / "imagenet-96-seed1")
    image = np.full((32, 32, 3), 77, np.uint8)
    with ThreadPoolExecutor(6) as visitors:
        predictions = list(
            visitors.map(lambda _: inference.Question(run, "resnet18", image, 3).ask("attribute", method="saliency"), range(6))
        )
    assert asked == ["saliency"]
    assert all(answer is predictions[0] for answer in predictions)


def test_next_stays_within_the_filter_of_the_link(visit_tiny, predictions):
    order = selection.select_images(predictions[~predictions["fusion_correct"]], "fusion", ["cat"], ["dog"], "most confident first")
    chosen = {"true": ["cat"], "predicted": ["dog"], "methods": ["saliency"], "models": ["fusion"]}
    app = visit_tiny("attributions", image=str(order[0]), **chosen)
    next(button for button in app.button if button.label == f"Next of {len(order):,}").click().run()
    assert not app.exception and app.session_state["image"] == order[1]


def test_a_link_to_the_first_image_keeps_its_address(visit_tiny, predictions):
    """Else the server would write another, and Back would need a second step."""
    first = selection.select_images(predictions[~predictions["fusion_correct"]], "fusion", ["cat"], [], "most confident first")[0]
    app = visit_tiny("attributions", image=str(first), true=["cat"], methods=["saliency"], models=["fusion"])
    assert app.query_params["image"] in (str(first), [str(first)])
