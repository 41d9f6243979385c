"""Caches: what changed on disk is read again, and nothing else."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core import findings, results, summaries
from core.config import UserError
from dashboard import data, thumbnails
from tests.fake_run import make_run


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Two runs of 60 images."""
    for seed in (0, 1):
        make_run(tmp_path, f"run{seed}", n_test=60, seed=seed)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """How often each run's predictions are read."""
    counted, read = Counter(), results.tables.load_predictions

    def count(run: results.Run, *args, **options) -> results.Predictions:
        counted[run.name] += 1
        return read(run, *args, **options)

    for module in (results, results.tables):
        monkeypatch.setattr(module, "load_predictions", count)
    return counted


def add_other_recipe(runs: Path) -> None:
    """A run that no claim compares with the others."""
    shutil.copytree(runs / "run1", runs / "other")
    record = results.load_run(runs / "other").record
    results.write_run(runs / "other" / "run.json", record | {"recipe": record["recipe"] | {"name": "other", "weight_decay": 0.01}})


def write_people(folder: Path, labels: np.ndarray, doubted: int) -> None:
    """All people agree with the label, except on image `doubted`, where nobody does."""
    votes = np.zeros((len(labels), 10), int)
    votes[np.arange(len(labels)), labels] = 50
    votes[doubted] = np.roll(votes[doubted], 1)
    results.write_human_votes(folder / "human_votes.parquet", votes)
    zero = dict.fromkeys(results.LABEL_ERROR_COLUMNS, 0)
    results.write_label_errors(folder / "label_errors.parquet", [zero | {"index": doubted, "votes_neither": 5}])


def test_every_table_follows_what_people_said(runs):
    """Also those that are made of other tables: transitions once kept the labels of before."""
    run, labels = data.open_run("run0"), data.load_images().labels
    for doubted in (3, 7):
        write_people(runs, labels, doubted)
        for table in (data.load_predictions(run), data.load_transitions(run, ["resnet18"])):
            assert table["relabelled"].to_numpy().nonzero()[0].tolist() == [doubted]
            assert (table["people"] == 0).to_numpy().nonzero()[0].tolist() == [doubted]


def test_a_damaged_table_of_people_leaves_the_answers_and_is_named(runs):
    (runs / "human_votes.parquet").write_bytes(b"damaged")
    assert data.load_predictions(data.open_run("run0"))["people"].isna().all()
    assert "human_votes.parquet cannot be read" in data.check_shared()[0]
    with pytest.raises(UserError, match=r"human_votes\.parquet cannot be read"):
        data.rank_votes(0)


def test_ways_of_every_seed_are_compared_with_the_baseline_of_the_run_that_is_shown(runs):
    """Another seed's validation may favour the other one."""
    run = data.open_run("run0")
    better = max(("resnet18", "mobilenet_v2"), key=lambda one: summaries.per_model(run).set_index("model")["val_accuracy"][one])
    path = runs / "run1" / better / "predictions.parquet"
    frame = pd.read_parquet(path)
    frame.loc[frame["split"] == "val", list(results.LOGITS)] *= -1
    frame.to_parquet(path)
    table = data.list_ways(run)[0].set_index("name")
    accuracy = [summaries.per_model(data.open_run(name)).set_index("model")["accuracy"] for name in ("run0", "run1")]
    for way in ("ensemble", "fusion"):
        assert table["seeds"][way] == pytest.approx([of[way] - of[better] for of in accuracy])
    assert table["seeds"][better] == [0, 0]


def test_models_of_different_images_are_a_fault_of_the_run(runs):
    """Each table is whole alone."""
    path = runs / "run0" / "fusion" / "predictions.parquet"
    frame = pd.read_parquet(path)
    val = frame["split"] == "val"
    frame.loc[val, "index"] = (frame.loc[val, "index"] + 1).to_numpy()
    frame.to_parquet(path)
    assert "the models' val rows are not of the same images" in data.find_fault(data.open_run("run0"))


def test_thumbnails_follow_the_images(runs):
    before = thumbnails.make_sprite((0, 1))
    images = data.load_images()
    turned = 255 - np.stack([images.decode(i) for i in range(len(images.labels))])
    results.write_test_images(runs / "test_images.parquet", turned, images.labels)
    assert thumbnails.make_sprite((0, 1)) != before


def test_a_hidden_or_stray_file_costs_nothing_and_a_new_run_only_itself(runs, reads):
    add_other_recipe(runs)

    def look() -> dict[str, int]:
        reads.clear()
        assert data.check_runs()[0] == [name for name in ("other", "run0", "run1") if (runs / name).exists()]
        data.load_predictions(data.open_run("run0"))
        data.sibling_runs(data.open_run("run0"))
        return dict(reads)

    assert set(look()) == {"other", "run0", "run1"}
    (runs / ".hidden").write_text("x")
    (runs / "notes.txt").write_text("x")
    (runs / "run0" / ".partial").write_text("x")
    assert look() == {}
    (runs / "run1" / "fusion" / "embedding.parquet").unlink()
    assert set(look()) == {"run1"}


def test_claims_are_tested_anew_only_when_a_run_changes_that_they_rest_on(runs, monkeypatch):
    tested, test = [], findings.find_findings
    monkeypatch.setattr(findings, "find_findings", lambda *args: tested.append(args[0].name) or test(*args))

    def look() -> list[str]:
        tested.clear()
        data.load_headline(data.open_run("run0"))
        return list(tested)

    assert look() == ["run0"] and look() == []
    add_other_recipe(runs)
    assert look() == []
    make_run(runs, "run2", n_test=60, seed=2)
    assert look() == ["run0"]


def test_of_runs_that_nobody_opens_only_the_record_is_read(runs, reads):
    (runs / "run1" / "fusion" / "predictions.parquet").write_bytes(b"damaged")
    assert data.check_runs() == (["run0", "run1"], {}) and set(reads) == {"run0"}
    names, damaged = data.check_runs("run1")
    assert names == ["run0"] and "run1/fusion/predictions.parquet cannot be read" in damaged["run1"]


def test_what_a_change_makes_is_what_a_fresh_reader_finds(runs):
    run = data.open_run("run0")
    data.load_summary(run)
    shutil.copy(runs / "run1" / "fusion" / "predictions.parquet", runs / "run0" / "fusion" / "predictions.parquet")
    fresh = summaries.per_model(results.load_run(runs / "run0"))
    assert data.load_summary(run).equals(fresh)
