"""Results as an outsider may write them, from results/README.md alone: every page opens, or a line names file and field."""

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from core import findings, results, summaries
from core.config import BASELINES, TRIO, UserError
from core.results import schema
from dashboard import data, diagram, report
from tests.dashboard.conftest import VIEWS, component, open_page
from tests.fake_run import make_run, make_test_images

LAX = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow], "derandomize": True}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([0, 1, -1, 10**30, "", "0", "fusion"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(TRIO), inner, max_size=3),
    max_leaves=4,
)


def make_results(folder: Path, n: int, models: tuple[str, ...] = TRIO) -> Path:
    """A run of n test images beside as many, in `folder`; its path."""
    make_test_images(folder, n)
    return make_run(folder, "run", n_test=n, models=models)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_results(tmp_path_factory.mktemp("contract") / "results", 60)


@pytest.fixture
def run(made, monkeypatch) -> Path:
    """A run to change and to put back."""
    monkeypatch.setattr(results, "RESULTS", made.parent)
    return made


def fields(node: dict, place: tuple = ()) -> Iterator[tuple]:
    for key, value in node.items():
        yield (*place, key)
        if isinstance(value, dict):
            yield from fields(value, (*place, key))


def change_field(record: dict, place: tuple, value: object) -> dict:
    """The record with another value at a place, or without it where the value is `...`."""
    record = copy.deepcopy(record)
    node = record
    for key in place[:-1]:
        node = node[key]
    if value is ...:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return record


@settings(max_examples=200, **LAX)
@given(st.data())
def test_any_field_of_run_json_is_read_or_named(run, data):
    path = run / "run.json"
    content = path.read_text(encoding="utf-8")
    place = data.draw(st.sampled_from(list(fields(json.loads(content)))))
    value = data.draw(JSON | st.just(...))
    note(f"{place}: {value}")
    try:
        path.write_text(json.dumps(change_field(json.loads(content), place, value)), encoding="utf-8")
        loaded = results.load_run(run)
        assert results.find_seeds(loaded, [loaded]) == [loaded]
        results.check_same_run(path, loaded.record, loaded.record)
    except UserError as error:
        said = str(error)
        named = any(str(name) in said for name in place) or "is no number that can be used" in said
        assert str(path) in said and named and "run python scripts/evaluate.py" in said and "\n" not in said
    finally:
        path.write_text(content, encoding="utf-8")


@settings(max_examples=12, **LAX)
@given(st.data())
def test_what_is_read_opens_every_page(run, data):
    path = run / "run.json"
    content = path.read_text(encoding="utf-8")
    place = data.draw(st.sampled_from(list(fields(json.loads(content)))))
    view, value = data.draw(st.sampled_from(VIEWS)), data.draw(JSON | st.just(...))
    note(f"{place}: {value}, {view}")
    try:
        path.write_text(json.dumps(change_field(json.loads(content), place, value)), encoding="utf-8")
        try:
            results.load_run(run)
        except UserError:
            assume(False)
        open_page(view)
    finally:
        path.write_text(content, encoding="utf-8")


OTHER_TYPES = {  # what says the same in another way
    "nullable": lambda frame: frame.convert_dtypes(),
    "of Arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "small and unsigned": lambda frame: frame.astype(
        {name: "uint16" for name in frame if name in ("index", "label") and frame[name].max() < 2**16}
    ),
    "categories": lambda frame: frame.astype({name: "category" for name in frame if name in ("split", "kind")}),
    "double": lambda frame: frame.astype({name: "float64" for name in frame if frame[name].dtype.kind == "f"}),
    "rows in another order": lambda frame: frame.sample(frac=1, random_state=0),
    "columns in another order": lambda frame: frame[frame.columns[::-1]],
    "further columns": lambda frame: frame.assign(cluster=7),
}
WRONG = {  # what cannot be meant
    "text": lambda column: [f"{value}x" for value in column],
    "empty": lambda column: column.mask(np.arange(len(column)) == 0),
    "no such column": lambda column: None,
    "true or false": lambda column: np.arange(len(column)) % 2 == 0,
    "dates": lambda column: pd.to_datetime(np.arange(len(column))),
    "lists": lambda column: [[1]] * len(column),
}
TABLES = {
    "predictions.parquet": lambda run: vars(results.load_predictions(run, "fusion")),
    "embedding.parquet": lambda run: results.load_embedding(run, "fusion"),
    "features.parquet": lambda run: {"features": results.load_features(run, "fusion")},
    "history.csv": lambda run: results.load_history(run, "fusion"),
    "robustness.csv": lambda run: {"correct": results.load_robustness(run, "fusion")},
    "epoch_correct.csv": lambda run: results.load_epoch_correct(run, "fusion"),
    "epoch_predicted.csv": lambda run: results.load_epoch_predicted(run, "fusion"),
    "../../test_images.parquet": lambda run: {"labels": results.load_test_images(run.path.parent).labels},
    "../../near_duplicates.parquet": lambda run: results.load_near_duplicates(run.path.parent),
}


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"right": str, "correct": str, "predicted": str}) if path.suffix == ".csv" else pd.read_parquet(path)


def write(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)


@pytest.mark.parametrize("change", OTHER_TYPES)
@pytest.mark.parametrize("table", TABLES)
def test_tables_that_say_the_same_are_read_alike(made, tmp_path, table, change):
    run = shutil.copytree(made.parent, tmp_path / "results") / "run"
    path, loaded = (run / "fusion" / table).resolve(), results.load_run(run)
    before = {name: np.asarray(values) for name, values in TABLES[table](loaded).items()}
    frame = OTHER_TYPES[change](read(path))
    write(frame.set_index("index") if "index" in frame and path.suffix == ".parquet" else frame, path)
    after = {name: np.asarray(values) for name, values in TABLES[table](loaded).items()}
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


@settings(max_examples=80, **LAX)
@given(st.data())
def test_any_wrong_column_is_named(made, tmp_path_factory, data):
    table = data.draw(st.sampled_from(sorted(TABLES)))
    file = table.removeprefix("../../")
    column, kind = (
        data.draw(st.sampled_from(sorted(set(schema.TABLES[file]) - schema.OPTIONAL_COLUMNS))),
        data.draw(st.sampled_from(sorted(WRONG))),
    )
    assume((kind, schema.TABLES[file][column]) not in {("text", schema.TEXT), ("true or false", schema.TEXT), ("dates", schema.TEXT)})
    assume(not (file.endswith(".csv") and kind == "lists" and schema.TABLES[file][column] == schema.TEXT))
    note(f"{file}, {column}: {kind}")
    run = shutil.copytree(made.parent, tmp_path_factory.mktemp("wrong") / "results") / "run"
    path = (run / "fusion" / table).resolve()
    frame = read(path)
    spoiled = WRONG[kind](frame[column])
    write(frame.drop(columns=column) if spoiled is None else frame.assign(**{column: spoiled}), path)
    try:
        with pytest.raises(UserError) as error:
            TABLES[table](results.load_run(run))
    finally:
        shutil.rmtree(run.parent)
    said = str(error.value)
    assert str(path) in said and column in said.removeprefix(str(path)) and "run python scripts/" in said and "\n" not in said


def know_nothing(run: Path) -> None:
    """Neither costs, start weights nor versions."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record |= {"models": {model: {} for model in record["models"]}, "start_weights": {}, "libraries": {}, "data_md5": {}}
    results.write_run(run / "run.json", record)


def keep_logits(run: Path) -> None:
    """As scripts/import.py leaves it: no training, nothing optional."""
    know_nothing(run)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["recipe"] |= {"name": "imported", "frozen_epochs": 0, "finetune_epochs": 0}
    results.write_run(run / "run.json", record)
    for path in run.glob("*/*"):
        if path.name != "predictions.parquet":
            path.unlink()
    for model in results.load_run(run).models:
        results.write_history(run / model / "history.csv", [])
    (run.parent / "near_duplicates.parquet").unlink()


def test_pages_tell_nothing_of_a_training_that_nobody_here_knows(tmp_path, monkeypatch):
    run = make_results(tmp_path / "results", 60)
    keep_logits(run)
    monkeypatch.setattr(results, "RESULTS", run.parent)
    said = {view: " ".join(block.value for kind in ("caption", "info", "markdown") for block in open_page(view).get(kind))
            for view in ("training", "calibration")}  # fmt: skip
    assert "trained elsewhere" in said["training"] and "abel smoothing" not in "".join(said.values())
    loaded = results.load_run(run)
    limits = " ".join(report.list_limits(loaded, [], 60))
    assert "share a head" not in limits and "not known here" in limits
    assert "linear" not in diagram.architecture_html(loaded)
    text = report.build_report(loaded, data.load_images(), findings.Headline("", ""), [])
    assert "Trained elsewhere: no epochs are known." in text


@pytest.mark.parametrize(
    ("n", "models", "change"),
    [(1, TRIO, None), (50, ("resnet18", "fusion"), know_nothing), (60, ("mobilenet_v2",), None), (200, TRIO, keep_logits)],
    ids=["one image", "two models of which nothing is known", "one model", "logits alone"],
)
def test_small_and_foreign_runs_open_every_page(tmp_path, monkeypatch, n, models, change):
    run = make_results(tmp_path / "results", n, models)
    if change:
        change(run)
    monkeypatch.setattr(results, "RESULTS", run.parent)
    assert summaries.per_model(results.load_run(run))["accuracy"].between(0, 1).all()
    for view in VIEWS:
        app = open_page(view)
        assert app.title and not app.error, (view, [error.value for error in app.error])


def test_of_an_imported_run_no_training_is_told(tmp_path, monkeypatch):
    """Its recipe's defaults are nobody's settings, and no recipe here trains another seed of it."""
    run = make_results(tmp_path / "results", 60)
    keep_logits(run)
    monkeypatch.setattr(results, "RESULTS", run.parent)
    made = [block.value for block in open_page().markdown if "Seed" in block.value]
    assert len(made) == 1 and "Trained elsewhere" in made[0] and "learning rates" not in made[0]
    claims = "".join(one.text for one in findings.find_findings(results.load_run(run)))
    assert "mirrors the label smoothing" not in claims and "Mean confidence is" in claims
    assert "--recipe imported" not in claims and "scripts/import.py RUN --seed 1 --image-size 96 --logits MODEL=FILE" in claims
    slides = {one["id"]: one for one in component(open_page("present"), "deck")["slides"]}
    assert "trained elsewhere" in slides["models"]["said"] and "budget" not in slides["models"]["title"]


def test_sizes_that_rise_and_stages_that_stay_frozen_in_training_are_told(run):
    record = results.load_run(run).record
    record["recipe"] |= {"name": "cpu-224", "image_size": 224, "image_sizes": [128, 128, 128, 176, 224], "frozen_stages": 2}
    content = (run / "run.json").read_bytes()
    try:
        results.write_run(run / "run.json", record)
        said = "224×224 px (in training 128, 128, 128, 176, 224)"
        app = open_page()
        assert any(said in block.value and "all but the backbones' first 2 stages" in block.value for block in app.markdown)
        assert any(" of 5 stages frozen" in block.proto.body for block in app.get("html"))
        assert any("resized to 224×224 px<" in block.proto.body for block in app.get("html"))
        assert any(said in block.value for block in open_page("training").caption)
        assert any(said in one["said"] for one in component(open_page("present"), "deck")["slides"])
    finally:
        (run / "run.json").write_bytes(content)


def test_what_a_small_run_without_a_fusion_is_told(tmp_path, monkeypatch):
    """Neither of images that it does not hold, nor to explain a model that it does not hold."""
    run = make_results(tmp_path / "results", 60, BASELINES)
    monkeypatch.setattr(results, "RESULTS", run.parent)
    assert any("All 60 test images" in block.value for block in open_page("errors", show="curves of a class").caption)
    rows = {"index": np.array([3]), "target": np.array([5]), "minus": np.array([-1])}
    maps = {"grad_cam": {"resnet18": np.ones((1, 32, 32), np.float32)}}
    results.write_attributions(run / "resnet18" / "attributions.npz", rows, maps, {}, {"image_size": 32})
    assert not any("fusion" in info.value for info in open_page("attributions").info)
