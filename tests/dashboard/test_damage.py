"""Optional files missing or damaged, and runs of any size: every page stands, and says what it lacks."""

from collections.abc import Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import results
from core.config import BASELINES, CLASSES, ROOT, TRIO
from dashboard.components.lightbox import find_looks
from tests.dashboard.conftest import VIEWS, open_page
from tests.fake_run import make_run

OPTIONAL = {  # of a run named run, or beside it: files of which no page needs two, and then all at once
    "one": ["run/fusion/robustness.csv", "run/fusion/attributions.npz", "human_votes.parquet"],
    "two": ["run/fusion/probe.parquet", "run/fusion/embedding.parquet", "run/fusion/epoch_predicted.csv", "label_errors.parquet"],
    "three": ["run/fusion/features.parquet", "run/fusion/branch_resnet18.parquet", "near_duplicates.parquet"],
    "four": ["run/fusion/train_sample.parquet", "run/fusion/epoch_correct.csv"],
}
OPTIONAL["all"] = [name for group in OPTIONAL.values() for name in group]
SHOWN = ("markdown", "caption", "info", "warning", "error")


def visit_all() -> Iterator[tuple[str, AppTest]]:
    """Each view, in one session, through Home.py."""
    app = AppTest.from_file(str(ROOT / "dashboard" / "Home.py"), default_timeout=120).run()
    for view in VIEWS:
        app.switch_page(f"views/{view}.py").run()
        assert not app.exception, f"{view}: {app.exception[0].value}"
        yield view, app


def read_all(app: AppTest) -> str:
    drawn = [block.proto.body for block in app.get("html")]
    return "\n".join([*(str(block.value) for kind in SHOWN for block in app.get(kind)), *map(unescape, drawn)])


@pytest.fixture
def small_run(tmp_path, monkeypatch) -> Path:
    """A results folder with a run of 60 test images."""
    make_run(tmp_path, "run", n_test=60)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("group", OPTIONAL)
def test_a_damaged_optional_file_costs_only_what_needs_it(group, small_run):
    names = OPTIONAL[group]
    for name in names:
        (small_run / name).write_bytes(b"damaged")
    said = ""
    for view, app in visit_all():
        assert app.title, f"{view} is empty"
        assert not app.error, f"{view}: {app.error[0].value}"
        said += read_all(app)
    for name in names:
        if name.endswith(("robustness.csv", "embedding.parquet", "probe.parquet", "human_votes.parquet", "label_errors.parquet")):
            assert f"{Path(name).name} cannot be read" in said, name


def test_missing_optional_files_are_named_with_their_command(small_run):
    for path in [*(small_run / "run").glob("*/robustness.csv"), *(small_run / "run").glob("*/embedding.parquet")]:
        path.unlink()
    said = ""
    for view, app in visit_all():
        assert app.title and not app.error and not app.main.warning, view
        said += read_all(app)
    assert "robustness.csv is made with the models' weights" in said and "scripts/evaluate.py" in said


@pytest.mark.parametrize("models", [TRIO, BASELINES, ("fusion",), ("resnet18",), ("resnet18", "fusion")], ids="-".join)
@pytest.mark.parametrize("n", [1, 25])
def test_runs_of_any_size_open_on_every_page(n, models, tmp_path, monkeypatch):
    """One to 25 images, so most classes are absent."""
    make_run(tmp_path, "run", n_test=n, models=models)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    for view, app in visit_all():
        assert app.title, f"{view} is empty"
        assert not app.error, f"{view}: {app.error[0].value}"


def test_maps_that_were_computed_before_are_shown_where_none_can_be(small_run):
    """Those of the predicted class, of this image, and of no difference of classes."""
    run = results.load_run(small_run / "run")
    predicted = results.load_predictions(run, "fusion").logits.argmax(axis=1)
    other = (predicted[5] + 1) % 10
    rows = {"index": np.array([3, 5, 7]), "target": np.array([predicted[3], other, predicted[7]]), "minus": np.array([-1, -1, other])}
    maps = {"grad_cam": {branch: np.ones((3, 32, 32), np.float32) for branch in BASELINES}}
    results.write_attributions(run.path / "fusion" / "attributions.npz", rows, maps, {}, {"image_size": 96})
    (picture,) = find_looks(run, 3)["pictures"]
    assert picture["text"] == f"Fusion: {CLASSES[predicted[3]]}" and picture["uri"].startswith("data:image/")
    for index in (0, 4, 5, 7, 9):
        assert "was not computed before for this image" in find_looks(run, index)["why"], index


def test_damaged_maps_are_named_in_the_lightbox(small_run):
    (small_run / "run" / "fusion" / "attributions.npz").write_bytes(b"damaged")
    assert "attributions.npz cannot be read" in find_looks(results.load_run(small_run / "run"), 0)["why"]


def test_models_corrupted_on_other_images_are_not_compared(small_run):
    """As scripts/robustness.py --model fusion --images 50 leaves them."""
    path = small_run / "run" / "fusion" / "robustness.csv"
    results.write_robustness(path, results.load_robustness(results.load_run(small_run / "run"), "fusion")[:, :50])
    said = "were not tried on the same corrupted images (ResNet18 on 60, MobileNetV2 on 60, Fusion on 50, Ensemble on 60)"
    for view in ("robustness", "overview", "present", "report"):
        app = open_page(view)
        assert view != "robustness" or any(said in warning.value for warning in app.warning)
