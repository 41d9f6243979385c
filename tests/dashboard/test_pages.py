"""Every page opens through Home.py and shows what it should; broken results are named, never a traceback."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support
from streamlit.testing.v1 import AppTest

from core import results, summaries
from core.config import BASELINES, CLASSES, ROOT, TRIO
from core.findings import seed_accuracies
from dashboard import data
from tests.dashboard.conftest import component, open_page
from tests.fake_run import make_run


def figure(app: AppTest, position: int = 0) -> dict:
    return json.loads(app.get("plotly_chart")[position].proto.spec)


def values(axis: list | dict) -> np.ndarray:
    """An axis of a figure's JSON, which holds arrays as base64."""
    return np.frombuffer(base64.b64decode(axis["bdata"]), axis["dtype"]) if isinstance(axis, dict) else np.array(axis)


def test_overview_shows_the_accuracies_of_the_predictions(visit, fake_results):
    app = visit()
    summary = summaries.per_model(results.load_run(fake_results / "imagenet-96-seed0"))
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Fusion"] == f"{summary.set_index('model').loc['fusion', 'accuracy']:.2%}"
    assert set(shown) == {"ResNet18", "MobileNetV2", "Fusion", "Ensemble", "Oracle"}
    assert app.title[0].value == "Does fusing two CNN backbones beat either alone?"


def test_overview_draws_each_interval_where_it_lies(visit, fake_results):
    summary = summaries.per_model(results.load_run(fake_results / "imagenet-96-seed0")).set_index("model")
    html = "".join(block.proto.body for block in visit().get("html"))
    low, high = map(int, re.search(r"(\d+) % to (\d+) %", html).groups())
    assert low <= 100 * summary["low"].min() and 100 * summary["high"].max() <= high
    for model, row in summary.iterrows():
        text = f"{100 * row['accuracy']:.2f} % [{100 * row['low']:.2f}, {100 * row['high']:.2f}]"
        mark = re.search(rf'aria-label="{re.escape(text)}".*?<b style="left:([\d.]+)%">', html, re.S)
        assert low + (high - low) * float(mark[1]) / 100 == pytest.approx(100 * row["accuracy"], abs=0.01), model
    assert html.count("<td>–</td>") == 5  # the oracle costs nothing and has no mean over seeds
    runs = [results.load_run(fake_results / f"imagenet-96-seed{seed}") for seed in (0, 1)]
    means = seed_accuracies(runs).mean()
    assert all(f"<td>{100 * mean:.2f}</td>" in html for mean in means) and "<small>2 seeds, %</small>" in html


def test_what_the_first_page_shows_is_read_before_the_first_visit(visit, fake_results, monkeypatch):
    data.read_ahead()
    for module, reader in ((summaries, "per_model"), (summaries, "per_image"), (results, "load_predictions")):
        monkeypatch.delattr(module, reader)
    app = visit()
    assert app.metric and not app.exception


def test_reading_ahead_leaves_damage_to_the_visit(own_results, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results, "RESULTS", tmp_path / "none")
        data.read_ahead()
    (own_results / "test_images.parquet").write_bytes(b"damaged")
    data.read_ahead()
    assert "test_images.parquet cannot be read" in open_page().error[0].value


def test_overview_draws_the_network_with_its_real_dimensions(visit):
    html = "".join(block.proto.body for block in visit().get("html"))
    for text in ("512 features", "1,280 features", "= 1,792 features", "linear 1,792 → 512", "resized to 96×96"):
        assert text in html


def test_training_curves_mark_the_phase_boundary_and_follow_the_history(visit, fake_results):
    loss = figure(visit("training"))
    history = results.load_history(results.load_run(fake_results / "imagenet-96-seed0"), "fusion")
    curve = next(trace for trace in loss["data"] if trace["name"] == "Fusion: validation")
    np.testing.assert_allclose(values(curve["y"]), history["val_loss"])
    assert loss["layout"]["shapes"][0]["x0"] == 1.5
    assert loss["layout"]["hovermode"] == "x unified"


def test_training_shows_the_spread_of_all_seeds(visit):
    app = visit("training", seeds="true")
    bands = [trace for trace in figure(app)["data"] if trace.get("fill") == "toself"]
    assert len(bands) == 6  # three models, training and validation
    assert app.subheader[0].value == "Class by class, seed 0"  # the part that is of one seed says so


def test_hiding_a_model_hides_its_curves(visit):
    names = {trace["name"] for trace in figure(visit("training", models=["Fusion"]))["data"]}
    assert names == {"Fusion: training", "Fusion: validation"}


def test_a_cell_chosen_in_the_url_shows_its_images(visit, fake_results):
    app = visit("confusion", true_class="cat", predicted_class="dog")
    predictions = summaries.per_image(results.load_run(fake_results / "imagenet-96-seed0"))
    n = int(((predictions["label"] == CLASSES.index("cat")) & (predictions["fusion_predicted"] == CLASSES.index("dog"))).sum())
    assert any(f"**{n:,}** images of true class **cat**" in block.value for block in app.markdown)


@pytest.mark.parametrize("show", ["one model", "side by side", "difference"])
def test_confusion_figures_hold_every_cell_for_clicks(visit, show):
    app = visit("confusion", show=show, normalised="true", order="by similarity")
    clickable = figure(app)["data"][-1]
    assert len(clickable["customdata"]) == 100
    if show != "difference":
        assert sum(cell[2] for cell in clickable["customdata"]) == 10_000


def test_confusion_compares_models_of_two_runs(visit, fake_results):
    """The same model trained with another seed: the difference of the matrices, its images, and the way to their errors."""
    other = "imagenet-96-seed1/fusion"
    app = visit("confusion", show="difference", other=other, true="cat", predicted="dog", of=other)
    counts = []
    for name in ("imagenet-96-seed0", "imagenet-96-seed1"):
        predictions = summaries.per_image(results.load_run(fake_results / name))
        counts.append(
            int(((predictions["label"] == CLASSES.index("cat")) & (predictions["fusion_predicted"] == CLASSES.index("dog"))).sum())
        )
    spec = figure(app)
    assert spec["layout"]["title"]["text"].replace("<br>", " ") == "Where does Fusion differ from Fusion of imagenet-96-seed1? (images)"
    cell = spec["data"][-1]["customdata"].index(["cat", "dog", counts[0]])
    assert spec["data"][-1]["text"][cell] == f"{counts[0] - counts[1]:+.0f}"
    said = f"**{counts[1]:,}** images of true class **cat** that Fusion of imagenet-96-seed1 calls **dog**"
    assert said in [block.value for block in app.markdown]
    link = next(one.proto for one in app.get("page_link") if one.proto.label == "All of them, with every filter")
    assert "run=imagenet-96-seed1" in link.query_string and "model=fusion" in link.query_string


def test_the_confusion_page_counts_each_class_against_the_rest(visit, fake_results):
    predictions = summaries.per_image(results.load_run(fake_results / "imagenet-96-seed0"))
    table, label = visit("confusion", model="fusion").dataframe[-1].value, predictions["label"]
    scores = {one: precision_recall_fscore_support(label, predictions[f"{one}_predicted"])[:3] for one in TRIO}
    for position, name in enumerate(("precision", "recall", "f1")):
        np.testing.assert_allclose(table[name], 100 * scores["fusion"][position])
        harder = np.maximum(*(scores[one][position] for one in BASELINES))
        np.testing.assert_allclose(table[f"{name} Δ"], 100 * (scores["fusion"][position] - harder), atol=1e-9)
    counts = multilabel_confusion_matrix(label, predictions["fusion_predicted"]).reshape(10, 4)
    assert np.array_equal(table[["TN", "FP", "FN", "TP"]], counts) and table["class"].tolist() == list(CLASSES)


def test_the_calibration_page_shows_the_runs_numbers(visit, fake_results):
    run = results.load_run(fake_results / "imagenet-96-seed0")
    expected, (_, labels, logits) = summaries.calibration(run), results.load_logits(run)
    choices = (("as trained", "equal width", 1), ("with fitted temperature", "equal mass", expected.loc["fusion", "temperature"]))
    for confidence_of, bins, temperature in choices:
        app = visit("calibration", confidence_of=confidence_of, bins=bins)
        pd.testing.assert_frame_equal(app.dataframe[-1].value.drop(columns="model"), expected, check_like=True)
        titles = [figure(app, position)["layout"]["title"]["text"].replace("<br>", " ") for position in (0, 1)]
        assert all(title.endswith(", with a fitted temperature?") == (temperature != 1) for title in titles)  # also where it is exported
        assert any("Label smoothing makes" in one.value for one in app.caption) == (temperature == 1)
        curve = next(trace for trace in figure(app)["data"] if trace["name"] == "Fusion")
        confidence, accuracy, n = (values(curve[key]) for key in ("x", "y", "customdata"))
        means = softmax(logits["fusion"] / temperature, axis=1).max(axis=1).mean(), (logits["fusion"].argmax(axis=1) == labels).mean()
        assert [np.average(one, weights=n) for one in (confidence, accuracy)] == pytest.approx([100 * one for one in means])
        assert n.sum() == 10_000 and (bins == "equal mass") == (n.max() < 1.01 * n.min())


def test_robustness_follows_the_files(visit, fake_results):
    run = results.load_run(fake_results / "imagenet-96-seed0")
    curve = next(trace for trace in figure(visit("robustness"))["data"] if trace["name"] == "Fusion")
    rows = results.load_robustness(run, "fusion").mean(axis=1)
    np.testing.assert_allclose(values(curve["y"]), 100 * np.array([rows[0], *rows[1:].reshape(8, 5).mean(axis=0)]))
    app = visit("robustness", corruption="JPEG", image="17")
    curve = next(trace for trace in figure(app)["data"] if trace["name"] == "Ensemble")
    rows = results.load_robustness(run, "ensemble").mean(axis=1)
    np.testing.assert_allclose(values(curve["y"]), 100 * np.array([rows[0], *rows[21:26]]))
    shown = "".join(block.proto.body for block in app.get("html"))
    assert shown.count("<img") == 8 * 6 and 'alt="JPEG, severity 5"' in shown
    named = visit("robustness", corruption="<b>", image="99999")
    assert named.title[0].value == "Robustness" and not named.error


def test_a_run_without_robustness_names_the_command(own_results):
    (own_results / "imagenet-96-seed0" / "fusion" / "robustness.csv").unlink()
    app = open_page("robustness")
    said = app.info[0].value
    assert f"run python scripts/evaluate.py {own_results}/imagenet-96-seed0 where its checkpoints are" in said and not app.error


def test_errors_filter_by_what_people_say(made_results, tmp_path, monkeypatch):
    folder = shutil.copytree(made_results, tmp_path / "results")
    monkeypatch.setattr(results, "RESULTS", folder)
    predictions = summaries.per_image(results.load_run(folder / "imagenet-96-seed0"))
    votes = np.zeros((10_000, 10), int)
    votes[np.arange(10_000), predictions["label"]] = 50
    unsure = np.flatnonzero(~predictions["fusion_correct"])[:7]
    votes[unsure, (predictions["label"].to_numpy()[unsure] + 1) % 10] = 50  # half of the people see another class
    results.write_human_votes(folder / "human_votes.parquet", votes)
    zero = dict.fromkeys(results.LABEL_ERROR_COLUMNS, 0)
    results.write_label_errors(folder / "label_errors.parquet", [zero | {"index": int(i), "votes_neither": 5} for i in unsure[:3]])

    app = open_page("errors", people=["0.2", "0.8"])
    assert not app.error and any("**7** of 10,000" in block.value for block in app.markdown)
    app = open_page("errors", doubted="true", image=str(unsure[0]))
    assert not app.error and any("**3** of 10,000" in block.value for block in app.markdown)
    shown = component(app, "lightbox")["details"][0]
    assert shown["marks"] == ["⚑ label doubted by people"]
    assert shown["people"].startswith("People say") and "50%" in shown["people"]


def test_errors_filter_by_class_and_model(visit, fake_results):
    app = visit("errors", model="ResNet18", true=["cat", "dog"], outcome="model wrong")
    predictions = summaries.per_image(results.load_run(fake_results / "imagenet-96-seed0"))
    wanted = predictions[predictions["label"].isin([3, 5]) & ~predictions["resnet18_correct"]]
    assert any(f"**{len(wanted):,}** of 10,000" in block.value for block in app.markdown)


@pytest.mark.parametrize(
    "parameters",
    [
        {"model": "vgg"},
        {"true": "<script>alert(1)</script>"},
        {"image": "99999"},
        {"image": "-1"},
        {"image": "x"},
        {"page": "99999"},
        {"page": "-3"},
        {"per_page": "7"},
        {"confidence": "2"},
        {"outcome": "x" * 2000},
        {"run": "../../etc"},
        {"models": "nothing"},
        {"sort": "'; drop table"},
    ],
)
@pytest.mark.parametrize("view", ["errors", "confusion"])
def test_a_nonsense_url_falls_back(visit, view, parameters):
    app = visit(view, **parameters)
    assert app.title[0].value.lower().startswith(view)
    assert not app.error


def test_no_results_says_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    app = open_page()
    assert app.title[0].value == "No results yet"
    assert "scripts/train.py --recipe" in app.markdown[0].value


def change_table(**columns) -> Callable[[Path], None]:
    return lambda path: pd.read_parquet(path).assign(**columns).to_parquet(path, index=False)


def link_out(path: Path) -> None:
    path.rename(path.parents[3] / "outside")
    path.symlink_to(path.parents[3] / "outside")


FAULTS = {  # of a run -> its file, and what happens to it
    "truncated": ("fusion/predictions.parquet", lambda path: path.write_bytes(path.read_bytes()[:1000])),
    "wrong dtype": ("fusion/predictions.parquet", change_table(logit_0=lambda f: f["logit_0"].astype(str))),
    "missing column": ("fusion/history.csv", lambda path: path.write_text(path.read_text().replace("val_loss", "loss"))),
    "shuffled labels": ("fusion/predictions.parquet", change_table(label=lambda f: f["label"].sample(frac=1, random_state=0).to_numpy())),
    "NaN logits": ("resnet18/predictions.parquet", change_table(logit_3=lambda f: f["logit_3"].where(f.index != 7))),
    "link out of results": ("mobilenet_v2/history.csv", link_out),
    "2 GB": ("fusion/embedding.parquet", lambda path: os.truncate(path, 2 * 10**9)),
    "no record": ("run.json", Path.unlink),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_run_is_named_and_the_others_open(fault, own_results):
    name, spoil = FAULTS[fault]
    spoil(own_results / "imagenet-96-seed0" / name)
    app = open_page()
    assert f"imagenet-96-seed0/{name}" in app.sidebar.warning[0].value
    assert "run python scripts/evaluate.py" in app.sidebar.warning[0].value or "put the file itself there" in app.sidebar.warning[0].value
    assert app.sidebar.selectbox[0].options == ["imagenet-96-seed1"]
    assert app.metric


@pytest.mark.parametrize(
    "name", ["naïve 実験 🔬", "<img src=x onerror=alert(1)>", "a" * 250, "..  run", "100% **bold** [x](y)", "run;rm -rf"]
)
def test_any_name_of_a_run_is_shown_as_it_is(name, own_results):
    for seed in (0, 1):
        (own_results / f"imagenet-96-seed{seed}").rename(own_results / f"{name}{seed}"[-255:])
    app = open_page(run=f"{name}1"[-255:])
    if name.startswith("."):  # a hidden folder is no run
        assert app.title[0].value == "No results yet"
    else:
        assert app.sidebar.selectbox[0].value == f"{name}1"[-255:] and app.metric


def test_missing_test_images_are_named_with_the_command(own_results):
    (own_results / "test_images.parquet").unlink()
    app = open_page()
    assert "test_images.parquet" in app.info[0].value
    assert "scripts/evaluate.py --images" in app.info[0].value


def test_the_pages_open_without_torch(made_results):
    """A process of its own: torch is in this one already."""
    code = (
        "import sys; from pathlib import Path; from core import results; results.RESULTS = Path(sys.argv[1])\n"
        "from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('dashboard/Home.py', default_timeout=60).run()\n"
        "views = 'training', 'evidence', 'calibration', 'robustness', 'rescued', 'embedding', 'confusion', 'errors'\n"
        "for view in views: app.switch_page(f'views/{view}.py').run()\n"
        "assert not app.exception and app.title[0].value == 'Errors'\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made_results)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_foreign_page_is_refused_without_asking_another_host():
    code = (
        "import socket\n"
        "def refuse(*_): raise SystemExit('another host was asked')\n"
        "socket.socket.connect = refuse\n"
        "from dashboard import Home\n"
        "from streamlit.web.server.server_util import is_url_from_allowed_origins as allowed\n"
        "assert allowed('http://localhost:8501') and not allowed('http://elsewhere.example')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_classes_are_followed_over_epochs(visit, fake_results):
    """Each class's curve ends at its recall on validation; the matrix is that of the epoch in the address."""
    app = visit("training", model="resnet18", epoch="2")
    run = results.load_run(fake_results / "imagenet-96-seed0")
    labels, correct = results.load_predictions(run, "resnet18", "val").labels, results.load_epoch_correct(run, "resnet18")["val"]
    curves = {trace["name"]: values(trace["y"]) for trace in figure(app, 4)["data"]}
    assert list(curves) == list(CLASSES)
    for i, name in enumerate(CLASSES):
        np.testing.assert_allclose(curves[name], 100 * correct[:, labels == i].mean(axis=1))
    spec = figure(app, 5)
    assert "after epoch 2?" in spec["layout"]["title"]["text"].replace("<br>", " ")
    predicted = results.load_epoch_predicted(run, "resnet18")["val"][1]
    cells = {(true, wrong): n for true, wrong, n in spec["data"][-1]["customdata"]}
    assert cells["cat", "dog"] == ((labels == 3) & (predicted == 5)).sum() > 0
    assert sum(cells.values()) == len(labels)


def test_epochs_without_a_record_cost_their_chart_and_a_line(visit, tmp_path, monkeypatch):
    run = make_run(tmp_path, "run", n_test=60, models=("fusion",))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert len(visit("training").get("plotly_chart")) == 6
    (run / "fusion" / "epoch_predicted.csv").unlink()
    app = visit("training")
    assert len(app.get("plotly_chart")) == 5 and "kept no predicted classes of its epochs" in app.info[0].value
    (run / "fusion" / "epoch_correct.csv").unlink()
    app = visit("training")
    assert len(app.get("plotly_chart")) == 4 and "kept no predictions of its epochs" in app.info[0].value and not app.error


@pytest.mark.parametrize(("models", "headed"), [(("resnet18",), False), (("resnet18", "mobilenet_v2", "fusion"), True)])
def test_claims_have_a_heading_only_where_there_are_some(visit, tmp_path, monkeypatch, models, headed):
    make_run(tmp_path, "run", n_test=60, models=models)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert ("What may be claimed" in [header.value for header in visit("overview").subheader]) == headed


def test_classes_that_lost_are_named_beside_those_that_won(own_results):
    run = own_results / "imagenet-96-seed0"
    one = results.load_run(run)
    labels = results.load_predictions(one, "fusion").labels
    cats = np.where((labels == 3)[:, None], np.eye(10)[5], np.eye(10)[labels]).astype(np.float32)  # every cat a dog, all else correct
    for model, logits in (("fusion", cats), ("resnet18", np.eye(10, dtype=np.float32)[np.where(labels == 8, 9, labels)])):
        val = results.load_predictions(one, model, "val")
        splits = {"val": (val.index, val.labels, val.logits), "test": (np.arange(len(labels)), labels, logits)}
        results.write_predictions(run / model / "predictions.parquet", splits)
    said = [caption.value for caption in open_page("evidence", against="resnet18").caption]
    assert any("Significantly better in ship, worse in cat. " in one for one in said), said
