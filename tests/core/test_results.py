"""The results contract: what is written comes back, and every kind of damage is named with the command that repairs it."""

import errno
import fcntl
import io
import json
import os
import pickle
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from core import results
from core.config import BASELINES, RECIPES, ROOT, TRIO, UserError
from core.evaluate import load_shipped_model
from core.results import (
    MissingFile,
    load_embedding,
    load_history,
    load_predictions,
    load_run,
    load_test_images,
    publish,
    schema,
    staging,
    write_whole,
)
from core.train import load_checkpoint
from tests.fake_run import make_run

LABELS = np.random.default_rng(0).permutation(np.arange(200) % 10)
MODEL = "resnet18"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "results", "run", n_test=200, labels=LABELS)


@pytest.fixture
def run(made, tmp_path) -> Path:
    """A whole run to be damaged."""
    return shutil.copytree(made, tmp_path / "results" / "run")


# --- whole files or none ----------------------------------------------------------------------------------------------


def test_a_file_appears_whole_and_replaces_the_old(tmp_path):
    path = tmp_path / "new" / "file"
    write_whole(path, lambda aside: aside.write_text("old"))
    write_whole(path, lambda aside: aside.write_text("new"))
    assert path.read_text() == "new" and os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_failed_write_leaves_the_old_file(tmp_path, error):
    def write(aside: Path) -> None:
        aside.write_text("half", encoding="utf-8")
        raise error

    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UserError, match=r"file could not be written .*: free or unlock its disk"):
        write_whole(path, write)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


@contextmanager
def full_disk():
    """No file of this process may grow beyond 100 bytes: every library then meets the error a full disk gives."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:  # before pytest writes on, perhaps to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: results.write_run(path, {"seed": list(range(100))}),
        lambda path: results.write_history(path, []),
        lambda path: results.write_embedding(path, np.arange(3), np.zeros((3, 2))),
        lambda path: results.write_weights(path, {"weight": np.zeros(100_000, np.float32)}, set()),
        lambda path: write_whole(path, lambda aside: torch.save({"weight": torch.zeros(100_000)}, aside)),
    ],
    ids=["json", "csv", "parquet", "safetensors", "checkpoint"],
)
def test_a_full_disk_leaves_the_old_file(tmp_path, write):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UserError, match=r"file could not be written \(.*\): free or unlock its disk"), full_disk():
        write(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"taken/run/run\.json could not be written"):
        results.write_run(tmp_path / "taken" / "run" / "run.json", {})


# --- round trips ------------------------------------------------------------------------------------------------------


def test_predictions_come_back_bit_by_bit(tmp_path, run):
    logits = np.random.default_rng(1).standard_normal((400, 10)).astype(np.float32)
    splits = {
        "val": (np.arange(200) * 7, LABELS, logits[:200]),
        "test": (np.arange(200), LABELS[::-1], logits[200:]),
    }
    results.write_predictions(run / MODEL / "predictions.parquet", splits)
    for split, (index, labels, expected) in splits.items():
        got = load_predictions(load_run(run), MODEL, split)
        assert np.array_equal(got.index, index) and np.array_equal(got.labels, labels)
        assert np.array_equal(got.logits, expected) and got.logits.dtype == np.float32
    frame = pd.read_parquet(run / MODEL / "predictions.parquet")
    assert tuple(frame.columns) == ("split", "index", "label", *results.LOGITS) and list(frame["split"].unique()) == ["val", "test"]


def test_predictions_take_no_more_room_than_their_logits_alone(tmp_path):
    """Which are 40 bytes a row; index and label, 16 bytes more, hardly count."""
    logits = np.random.default_rng(0).standard_normal((12_000, 10)).astype(np.float32)
    rows = np.arange(12_000), np.arange(12_000) % 10, logits
    results.write_predictions(tmp_path / "predictions.parquet", {"test": rows})
    assert (tmp_path / "predictions.parquet").stat().st_size < 41 * 12_000
    assert np.array_equal(pd.read_parquet(tmp_path / "predictions.parquet")[list(results.LOGITS)], logits)


def test_history_and_embedding_come_back(run):
    rows = [dict.fromkeys(results.HISTORY_COLUMNS, 1 / 3) | {"epoch": e + 1, "phase": "frozen"} for e in range(load_run(run).recipe.epochs)]
    results.write_history(run / MODEL / "history.csv", rows)
    pd.testing.assert_frame_equal(load_history(load_run(run), MODEL), pd.DataFrame(rows).assign(image_size=96))
    rows = [row | {"image_size": 64 + row["epoch"]} for row in rows]
    results.write_history(run / MODEL / "history.csv", rows)
    pd.testing.assert_frame_equal(load_history(load_run(run), MODEL), pd.DataFrame(rows))
    xy = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    results.write_embedding(run / MODEL / "embedding.parquet", np.arange(200), xy)
    assert np.array_equal(load_embedding(load_run(run), MODEL)[["x", "y"]].to_numpy(), xy)


def test_the_record_comes_back(run):
    loaded = load_run(run)
    assert (loaded.name, loaded.models, loaded.recipe.name) == ("run", list(TRIO), "cpu-96")
    assert loaded.record == json.loads((run / "run.json").read_text())
    assert not loaded.has_weights


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_weights_are_halved_but_for_statistics(run):
    path = run / MODEL / "weights.safetensors"
    filters = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    state = {"weight": np.array([1 / 3], np.float32), "running_mean": np.array([1e6], np.float32), "batches": np.array(7)}
    results.write_weights(path, state | {"filters": filters.transpose(2, 1, 0)}, {"weight", "filters"})
    got = load_file(path)
    assert np.array_equal(got.pop("filters"), filters.transpose(2, 1, 0))  # whatever order they have in memory
    assert {key: value.dtype for key, value in got.items()} == {"weight": np.float16, "running_mean": np.float32, "batches": np.int64}
    assert got["weight"] == np.float16(1 / 3) and got["running_mean"] == 1e6 and got["batches"] == 7
    assert results.find_weights(load_run(run), MODEL) == path
    with pytest.raises(UserError, match="weight does not fit float16: the training diverged"):
        results.write_weights(path, {"weight": np.array([1e6], np.float32)}, {"weight"})


def test_test_images_come_back_pixel_by_pixel(tmp_path, monkeypatch):
    monkeypatch.setitem(results.SPLIT_SIZES, "test", 50)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, 50)
    results.write_test_images(tmp_path / "test_images.parquet", images, labels)
    got = load_test_images(tmp_path)
    assert np.array_equal(got.labels, labels)
    assert all(np.array_equal(got.decode(i), images[i]) for i in range(50))


def test_runs_with_weights_come_first_and_other_folders_are_none(tmp_path):
    assert results.find_runs(tmp_path / "nowhere") == []
    for name in ("a", "b", "c", ".b.partial", "stray", "stray/figures"):
        (tmp_path / name / MODEL).mkdir(parents=True)
        if "stray" not in name:
            (tmp_path / name / "run.json").touch()
    (tmp_path / "test_images.parquet").touch()
    (tmp_path / "b" / MODEL / "weights.safetensors").touch()
    (tmp_path / "c" / "run.json").rename(tmp_path / "c" / MODEL / "predictions.parquet")  # a record that was lost is a fault to name
    assert results.find_runs(tmp_path) == ["b", "a", "c"]


def test_a_run_in_the_making_does_not_come_first(tmp_path):
    """Neither one whose fusion is still to be trained, nor one of which some weights alone lie here."""
    held = {
        "a, to be trained": (BASELINES, BASELINES),
        "b, some weights": (TRIO, ["fusion"]),
        "c, no weights": (TRIO, ()),
        "d": (TRIO, TRIO),
    }
    held |= {"a, to be trained, no weights": (BASELINES, ())}
    for name, (predicted, shipped) in held.items():
        for file, models in (("predictions.parquet", predicted), ("weights.safetensors", shipped)):
            for model in models:
                (tmp_path / name / model).mkdir(parents=True, exist_ok=True)
                (tmp_path / name / model / file).touch()
    order = ["d", "a, to be trained", "b, some weights", "c, no weights", "a, to be trained, no weights"]
    assert results.find_runs(tmp_path) == order


def test_a_model_added_on_another_machine_leaves_to_the_others_what_trained_them(tmp_path):
    run = make_run(tmp_path, "run", n_test=20, models=BASELINES, labels=LABELS[:20])
    first = load_run(run).record
    for device, model in (("a GPU", "fusion"), ("a second GPU", "mobilenet_v2")):
        added = make_run(tmp_path, ".staged", n_test=20, models=(model,), labels=LABELS[:20])
        results.write_run(added / "run.json", load_run(added).record | {"device": device, "processes": 4})
        publish(added, run)
    found = load_run(run)
    assert found.device == "a second GPU; ResNet18: made up; Fusion: a GPU" and found.record["processes"] == 4
    assert found.record["models"]["resnet18"] == first["models"]["resnet18"] | {"device": "made up", "processes": 1}
    assert "processes" not in found.record["models"]["fusion"]


def test_optional_tables_come_back(run):
    """What tests/fake_run.py wrote through the writers."""
    loaded = load_run(run)
    for name, split in (("branch_resnet18", "test"), ("branch_mobilenet_v2", "val"), ("train_sample", "train"), ("probe", "test")):
        predictions = load_predictions(loaded, "fusion", split, name=name)
        assert predictions.logits.shape == (200, 10) and (np.diff(predictions.index) > 0).all()
    components = np.random.default_rng(0).standard_normal((200, 50))
    results.write_features(run / MODEL / "features.parquet", np.arange(200)[::-1], components[::-1])
    assert np.array_equal(results.load_features(loaded, MODEL), components.astype(np.float16).astype(np.float32))
    correct = {"val": components[:5].repeat(4, axis=1) > 0, "test": components[5:10].repeat(4, axis=1) > 0}
    results.write_epoch_correct(run / MODEL / "epoch_correct.csv", correct)
    got = results.load_epoch_correct(loaded, MODEL)
    assert got.keys() == correct.keys() and all(np.array_equal(got[split], correct[split]) for split in correct)
    predicted = {"val": np.arange(5 * 200).reshape(5, 200) ** 2 % 10}  # 0 comes first: digits are no number
    results.write_epoch_predicted(run / MODEL / "epoch_predicted.csv", predicted)
    assert np.array_equal(results.load_epoch_predicted(loaded, MODEL)["val"], predicted["val"])
    pairs = pd.DataFrame({"index": [7, 3], "train_index": [1, 49_999], "similarity": [0.5, 1 / 3], "kind": ["near", "exact"]})
    results.write_near_duplicates(run.parent / "near_duplicates.parquet", pairs)
    pd.testing.assert_frame_equal(results.load_near_duplicates(run.parent), pairs.iloc[::-1].reset_index(drop=True))


@pytest.mark.parametrize(
    ("path", "load"),
    [
        ("fusion/features.parquet", lambda run: results.load_features(run, "fusion")),
        ("fusion/epoch_correct.csv", lambda run: results.load_epoch_correct(run, "fusion")),
        ("fusion/epoch_predicted.csv", lambda run: results.load_epoch_predicted(run, "fusion")),
        ("fusion/branch_resnet18.parquet", lambda run: load_predictions(run, "fusion", name="branch_resnet18")),
        ("fusion/robustness.csv", lambda run: results.load_robustness(run, "fusion")),
        ("fusion/attributions.npz", lambda run: results.load_attributions(run, "fusion")),
        ("fusion/weights.safetensors", lambda run: results.find_weights(run, "fusion")),
        ("../near_duplicates.parquet", lambda run: results.load_near_duplicates(run.path.parent)),
        ("../human_votes.parquet", lambda run: results.load_human_votes(run.path.parent)),
    ],
)
def test_a_file_that_is_not_there_can_be_told_from_a_damaged_one(run, path, load):
    (run / path).unlink(missing_ok=True)
    with pytest.raises(MissingFile, match="run python scripts/"):
        load(load_run(run))


@pytest.mark.parametrize("spoil", [lambda text: text[:-1], lambda text: text[:-1] + "x", lambda text: text[:-1] + "²"])
def test_predicted_classes_are_a_digit_an_image(run, spoil):
    path = run / MODEL / "epoch_predicted.csv"
    frame = pd.read_csv(path, dtype={"predicted": str})
    frame.assign(predicted=frame["predicted"].map(spoil)).to_csv(path, index=False)
    with pytest.raises(UserError, match="predicted is not a digit an image: run python"):
        results.load_epoch_predicted(load_run(run), MODEL)


def test_a_copy_is_not_another_seed(tmp_path):
    """Whatever its folder is called and whatever seed is written into its record."""
    folder = tmp_path / "results"
    first, second = (make_run(folder, f"run-seed{seed}", n_test=20, seed=seed, labels=LABELS[:20]) for seed in (0, 1))
    shutil.copytree(first, folder / "a copy")
    shutil.copytree(first, folder / "a copy with seed 7")
    results.write_run(folder / "a copy with seed 7" / "run.json", load_run(first).record | {"seed": 7})
    other = make_run(folder, "another-recipe", n_test=20, seed=2, labels=LABELS[:20])
    record = load_run(other).record
    results.write_run(other / "run.json", record | {"recipe": record["recipe"] | {"lr_head": 0.5}})
    runs = [load_run(folder / name) for name in results.find_runs(folder)]
    assert len(runs) == 5
    assert [one.path for one in results.find_seeds(load_run(first), runs)] == [first, second]
    for run in (second, folder / "a copy", folder / "a copy with seed 7"):
        seeds = results.find_seeds(load_run(run), runs)
        assert len(seeds) == 2 and run in [one.path for one in seeds]
    assert [one.path for one in results.find_seeds(load_run(other), runs)] == [other]


def test_a_seed_may_lack_models(tmp_path):
    folder = tmp_path / "results"
    whole = make_run(folder, "whole", n_test=20, labels=LABELS[:20])
    part, other = (make_run(folder, f"part{i}", n_test=20, seed=i, models=BASELINES[:i], labels=LABELS[:20]) for i in (2, 1))
    copied = shutil.copytree(part, folder / "z, a copy of part")
    results.write_run(copied / "run.json", load_run(copied).record | {"seed": 7})
    runs = [load_run(folder / name) for name in results.find_runs(folder)]
    for run in (whole, part, other):
        assert [one.path for one in results.find_seeds(load_run(run), runs)] == [whole, other, part]
    apart = load_run(make_run(folder, "apart", n_test=20, seed=3, models=("mobilenet_v2",), labels=LABELS[:20]))
    assert results.find_seeds(apart, [load_run(other)]) == [apart]  # no model in common


def test_a_seed_that_lacks_a_network_tells_nothing_of_its_start(tmp_path):
    """As a training of one model alone writes it; with other start weights of what both have it is no seed."""
    whole, part = (
        make_run(tmp_path / "results", f"run{seed}", n_test=20, seed=seed, models=models, labels=LABELS[:20])
        for seed, models in enumerate((TRIO, ("resnet18",)))
    )
    record = load_run(part).record
    for start, seeds in ((record["start_weights"]["resnet18"], [whole, part]), ({"name": "x", "file": None, "sha256": None}, [whole])):
        results.write_run(part / "run.json", record | {"start_weights": {"resnet18": start}})
        runs = [load_run(whole), load_run(part)]
        assert [one.path for one in results.find_seeds(runs[0], runs)] == seeds


def test_a_control_has_a_fusion(tmp_path):
    folder = tmp_path / "results"
    run, part, control = (
        load_run(make_run(folder, name, n_test=20, models=models, labels=LABELS[:20]))
        for name, models in (("run", TRIO), ("part", BASELINES), ("whole", TRIO))
    )
    run.record["recipe"]["branch_loss"] = 1.0
    assert results.find_control(run, [run, part]) is None
    assert results.find_control(run, [run, part, control]) is control


# --- damage -----------------------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def edit(change):
    """Damage a parquet file by changing its frame."""
    return lambda path: change(pd.read_parquet(path)).to_parquet(path, index=False)


def put(column: str, row: int, value):
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row, column] = value
        return frame

    return edit(change)


DAMAGED_PREDICTIONS = {  # the first 200 rows are the validation split's, the others the test split's
    "missing": (Path.unlink, "cannot be read"),
    "truncated": (truncate, "cannot be read"),
    "no bytes": (lambda path: path.write_bytes(b""), "cannot be read"),
    "column missing": (edit(lambda f: f.drop(columns="logit_3")), "lacks column logit_3"),
    "words for numbers": (edit(lambda f: f.astype({"logit_0": str})), r"column logit_0 holds \w+: it should hold numbers"),
    "broken labels": (edit(lambda f: f.astype({"label": float})), "column label holds double: it should hold whole numbers"),
    "not a number": (put("logit_9", 250, np.nan), "column logit_9 holds empty values: it should hold numbers"),
    "infinite": (put("logit_9", 250, np.inf), "column logit_9 holds values that are not finite: it should hold numbers"),
    "empty": (edit(lambda f: f.assign(split=f["split"].mask(f.index == 3))), "column split holds empty values: it should hold text"),
    "rows missing": (edit(lambda f: f.iloc[:-1]), "has 199 test rows, not 200, as images_per_split in run.json says"),
    "row twice": (put("index", 250, 49), "the test rows are not one an image, by its position"),
    "negative index": (put("index", 200, -3), "the test rows are not one an image, by its position"),
    "wrong labels": (put("label", 399, (LABELS[199] + 1) % 10), "its labels are not those of the images"),
    "impossible label": (put("label", 399, 10), "its labels are not those of the images"),
}


@pytest.mark.parametrize("damage", DAMAGED_PREDICTIONS)
def test_damaged_predictions_are_named(run, damage):
    path = run / MODEL / "predictions.parquet"
    load_predictions(load_run(run), MODEL, "test", LABELS)
    spoil, message = DAMAGED_PREDICTIONS[damage]
    spoil(path)
    with pytest.raises(UserError, match=message) as error:
        load_predictions(load_run(run), MODEL, "test", LABELS)
    assert str(path) in str(error.value) and str(error.value).endswith(f"run python scripts/evaluate.py {run}")


@pytest.mark.parametrize(
    ("name", "load", "spoil", "message"),
    [
        (
            "embedding.parquet",
            load_embedding,
            Path.unlink,
            "is made with the models' weights, which run does not ship: run .* where its checkpoints are$",
        ),
        ("embedding.parquet", load_embedding, truncate, "cannot be read"),
        ("embedding.parquet", load_embedding, put("x", 5, np.nan), "column x holds empty values: it should hold numbers"),
        ("embedding.parquet", load_embedding, edit(lambda f: f.iloc[:5]), "does not hold a row a test image"),
        ("history.csv", load_history, Path.unlink, "cannot be read"),
        ("history.csv", load_history, lambda p: p.write_text(""), "cannot be read"),
        ("history.csv", load_history, lambda p: p.write_bytes(b"\xff" * 50), "cannot be read"),
        ("history.csv", load_history, lambda p: p.write_text(p.read_text().replace("val_loss", "loss")), "lacks column val_loss"),
        ("history.csv", load_history, lambda p: p.write_text(p.read_text().rsplit("\n", 2)[0]), "does not hold epochs 1 to 5"),
        ("history.csv", load_history, lambda p: p.write_text(p.read_text().replace("5,finetune,", "5,finetune,x")), "column lr_head holds"),
    ],
)
def test_damaged_embeddings_and_histories_are_named(run, name, load, spoil, message):
    load(load_run(run), MODEL)
    spoil(run / MODEL / name)
    with pytest.raises(UserError, match=message) as error:
        load(load_run(run), MODEL)
    said = str(error.value).removesuffix(" where its checkpoints are")
    assert str(run / MODEL / name) in said and said.endswith(f"run python scripts/evaluate.py {run}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "cannot be read"),
        ("", "cannot be read"),
        ('{"recipe": ', "cannot be read"),
        ("[]", "it is not an object"),
        ({"seed": ...}, "lacks seed"),
        ({"models": {}}, r"models is \{\}: it should be an object with an entry a model"),
        ({"models": {"vgg": {}}}, "models has 'vgg': it should have one or more of resnet18, mobilenet_v2, fusion"),
        ({"models": None}, "models is null: it should be an object with an entry a model"),
        ({"recipe": {"colour": 1}}, "does not know: colour"),
        ({"recipe": {"name": "short"}}, "recipe is incomplete"),
        ("[" * 100_000, "cannot be read"),
        ({"recipe": asdict(RECIPES["smoke"]) | {"dropout": 1.5}}, r"recipe\.dropout is 1\.5: it should be a number, 0 to 1"),
        ({"recipe": asdict(RECIPES["smoke"]) | {"hidden": 10**12}}, r"recipe\.hidden is 10+: it should be a whole number, 1 to 65,536"),
        ({"recipe": "cpu-96"}, 'recipe is "cpu-96": it should be an object with the fields of Recipe'),
    ],
)
def test_a_damaged_record_is_named(run, change, message):
    path = run / "run.json"
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    else:
        record = json.loads(path.read_text()) | change
        path.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))
    with pytest.raises(UserError, match=message) as error:
        load_run(run)
    assert str(path) in str(error.value) and str(error.value).endswith(f"run python scripts/evaluate.py {run}")


def images_of(side: int) -> bytes:
    """A PNG file of so many pixels a side."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_damaged_test_images_are_named(tmp_path):
    path, repair = tmp_path / "test_images.parquet", f"run python scripts/evaluate.py --images {tmp_path}"
    with pytest.raises(MissingFile, match=rf"test_images\.parquet cannot be read .*: {repair}"):
        load_test_images(tmp_path)
    results.write_test_images(path, np.zeros((5, 32, 32, 3), np.uint8), np.arange(5))
    assert len(load_test_images(tmp_path).labels) == 5
    whole = load_test_images(tmp_path).png[2]
    for image in (b"no image", images_of(16)):
        put("image", 2, image)(path)
        with pytest.raises(UserError, match=rf"column image should hold PNG files of 32x32 pixels: {repair}"):
            load_test_images(tmp_path)
    put("image", 2, whole[:40])(path)
    with pytest.raises(UserError, match=r"test image 2 cannot be read \(.*\): write test_images\.parquet anew"):
        load_test_images(tmp_path).decode(2)
    put("index", 2, 7)(path)
    with pytest.raises(UserError, match=rf"does not hold the test images, each once, from the first on: {repair}"):
        load_test_images(tmp_path)


def grow(path: Path) -> None:
    """To 2 GB, without taking them from the disk."""
    with path.open("ab") as file:
        file.truncate(2 * 10**9)


@pytest.mark.parametrize("name", ["run.json", "resnet18/history.csv", "resnet18/predictions.parquet", "fusion/weights.safetensors"])
def test_a_file_of_2_gb_is_named_and_not_read(run, name):
    (run / name).touch()
    grow(run / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=rf"{name} is larger than 512 MiB, .*: run python scripts/evaluate.py {run}"):
        load_run(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_large_table_of_the_results_folder_is_not_read(tmp_path):
    grow(tmp_path / "test_images.parquet")
    with pytest.raises(UserError, match=r"test_images\.parquet cannot be read \(it is too large"):
        load_test_images(tmp_path)


def test_small_files_that_unpack_to_much_are_not_unpacked(run):
    rows = 2_000_000
    frame = pd.read_parquet(run / MODEL / "predictions.parquet").iloc[[0]]
    pd.concat([frame] * 1_000).iloc[np.zeros(rows, int) % 1_000].to_parquet(run / MODEL / "predictions.parquet", compression="zstd")
    assert (run / MODEL / "predictions.parquet").stat().st_size < results.LARGEST_TABLE
    with pytest.raises(UserError, match=r"predictions\.parquet cannot be read \(it unpacks to more"):
        load_predictions(load_run(run), MODEL)
    (run / "fusion").mkdir(exist_ok=True)
    np.savez_compressed(run / "fusion" / "attributions.npz", index=np.zeros(results.LARGEST // 8 + 1))
    with pytest.raises(UserError, match=r"attributions\.npz cannot be read \(it unpacks to more"):
        results.load_attributions(load_run(run), "fusion")


@pytest.mark.parametrize("name", ["run.json", "resnet18/predictions.parquet", "resnet18", "fusion/weights.safetensors"])
def test_a_link_out_of_the_results_is_named(run, tmp_path, name):
    outside = tmp_path / "outside"
    path = run / name
    path.rename(outside) if path.exists() else outside.write_text("secret")
    path.symlink_to(outside)
    with pytest.raises(UserError, match=rf"{name} is a link that leaves {run.parent}"):
        load_run(run)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(UserError, match=r"leads in a circle: put the file itself there"):
        load_run(run)
    path.unlink()
    inside = outside.rename(run.parent / "inside")
    path.symlink_to(inside)
    assert load_run(run).name == "run"


def test_a_run_is_read_while_somebody_writes_into_it(run, monkeypatch):
    """A model's folder may be renamed after it was listed and before it is looked into."""

    def rename(path: Path) -> bool:
        if (run / MODEL).exists():
            (run / MODEL).rename(run.parent / "aside")
        return False

    monkeypatch.setattr(Path, "is_symlink", rename)
    assert load_run(run).name == "run" and (run.parent / "aside").exists()


def test_a_file_without_a_name_is_refused():
    for path in (Path(), Path("/")):
        with pytest.raises(UserError, match="is a folder: name a file in it"):
            results.write_text(path, "")


class Payload:
    """Unpickled, it would leave a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(run, tmp_path):
    """As weights, checkpoint, attributions or table."""
    harm = tmp_path / "harm"
    (run / "fusion" / "weights.safetensors").write_bytes(pickle.dumps(Payload(harm)))
    with pytest.raises(UserError, match=r"fusion/weights\.safetensors"):
        load_shipped_model(load_run(run), "fusion")
    torch.save({"model": Payload(harm)}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt cannot be read"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    np.savez(run / "fusion" / "attributions.npz", index=np.array([Payload(harm)], object))
    with pytest.raises(UserError, match=r"attributions\.npz cannot be read"):
        results.load_attributions(load_run(run), "fusion")
    (run / MODEL / "predictions.parquet").write_bytes(pickle.dumps(Payload(harm)))
    with pytest.raises(UserError, match=r"predictions\.parquet cannot be read"):
        load_predictions(load_run(run), MODEL)
    assert not harm.exists()
    pickle.loads(pickle.dumps(Payload(harm)))
    assert harm.exists()  # the payload works


def test_missing_weights_name_their_command(run):
    with pytest.raises(UserError, match=r"fusion/weights\.safetensors is missing: run python scripts/evaluate\.py /.*results/run"):
        results.find_weights(load_run(run), "fusion")


@pytest.mark.parametrize("name", ["resnet18/predictions.parquet", "resnet18/embedding.parquet", "resnet18/history.csv", "run.json"])
def test_no_changed_byte_escapes_as_another_error(run, name):
    """Random bytes in random places: the file is refused in one line, or it is read."""
    generator = np.random.default_rng(0)
    content = (run / name).read_bytes()
    refused = 0
    for _ in range(60):
        spoiled = bytearray(content)
        for place in generator.integers(len(spoiled), size=3):
            spoiled[place] = generator.integers(256)
        (run / name).write_bytes(spoiled)
        try:
            loaded = load_run(run)
            load_predictions(loaded, MODEL), load_embedding(loaded, MODEL), load_history(loaded, MODEL)
        except UserError as error:
            refused += 1
            assert re.search(r"results/run/(resnet18/)?\w+\.\w+", str(error)) and "\n" not in str(error)
    assert refused > 0


# --- publishing -------------------------------------------------------------------------------------------------------


def stage(run: Path, models: tuple[str, ...], seed: int = 0, note: str = "new") -> Path:
    """A staged run beside `run` whose models' folders hold a note."""
    staged = make_run(run.parent, f".{run.name}.partial", n_test=20, seed=seed, models=models, labels=LABELS[:20])
    for model in models:
        (staged / model / "note").write_text(note)
    return staged


def test_a_new_run_appears_whole(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, TRIO), run)
    assert load_run(run).models == list(TRIO) and os.listdir(tmp_path) == ["run"]


def test_models_are_added_and_replaced_one_by_one(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, ("resnet18", "mobilenet_v2"), note="old"), run)
    publish(stage(run, ("mobilenet_v2", "fusion")), run)
    assert load_run(run).models == list(TRIO)
    assert [(run / model / "note").read_text() for model in TRIO] == ["old", "new", "new"]
    assert sorted(os.listdir(run)) == ["ensemble", "fusion", "mobilenet_v2", "resnet18", "run.json"] and os.listdir(tmp_path) == ["run"]


def test_two_that_publish_at_the_same_time_lose_nothing(tmp_path, monkeypatch):
    """Each reads the record while the other is about to write it."""
    run = tmp_path / "run"
    publish(stage(run, ("fusion",)), run)
    merge = staging._merge_records

    def merge_slowly(*arguments):
        merged = merge(*arguments)
        time.sleep(0.3)
        return merged

    monkeypatch.setattr(staging, "_merge_records", merge_slowly)
    for model in BASELINES:
        stage(run, (model,)).rename(tmp_path / f".{model}")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda model: publish(tmp_path / f".{model}", run), BASELINES))
    assert load_run(run).models == list(TRIO) and os.listdir(tmp_path) == ["run"]


def test_networks_that_nobody_knows_and_starts_told_in_part_are_read(tmp_path):
    run = stage(tmp_path / "run", TRIO)
    record = json.loads((run / "run.json").read_text())
    told = {"resnet34": {"name": "made up"}, "vgg16": {"name": "made up"}}
    results.write_run(run / "run.json", record | {"start_weights": told})
    found = load_run(run)
    assert found.record["start_weights"]["resnet34"] == {"name": "made up", "file": None, "sha256": None}
    assert found.starts == {"resnet34": "made up"}  # of others there is no name to show


def test_models_are_added_each_with_its_own_start_weights(tmp_path):
    run, starts = tmp_path / "run", {name: {"name": f"{name}, made up", "file": None, "sha256": None} for name in BASELINES}

    def add(model: str, start: dict) -> None:
        staged = stage(run, (model,))
        record = json.loads((staged / "run.json").read_text()) | {"start_weights": {model: start}}
        results.write_run(staged / "run.json", record)
        if run.exists():
            results.check_same_run(run / "run.json", load_run(run).record, record)
        publish(staged, run)

    for name in reversed(BASELINES):
        add(name, starts[name])
    assert load_run(run).record["start_weights"] == starts
    with pytest.raises(UserError, match=r"run\.json is of another start weights"):
        add("resnet18", starts["mobilenet_v2"])


def test_models_of_another_seed_are_not_mixed_in(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, ("resnet18",), note="old"), run)
    with pytest.raises(UserError, match=r"run\.json is of another seed"):
        publish(stage(run, TRIO, seed=1), run)
    assert load_run(run).models == ["resnet18"] and (run / "resnet18" / "note").read_text() == "old"


def test_a_record_that_tells_of_another_run_is_not_repaired(tmp_path):
    """What stays in the folder would count as of the new seed."""
    run, outside = tmp_path / "results" / "run", tmp_path / "outside"
    publish(stage(run, TRIO, note="old"), run)

    def refuse(seed: int, message: str) -> None:
        staged = stage(run, ("fusion",), seed=seed)
        with pytest.raises(UserError, match=message):
            publish(staged, run)
        shutil.rmtree(staged)

    (run / "fusion" / "note").rename(outside)
    (run / "fusion" / "note").symlink_to(outside)
    refuse(1, "note is a link that leaves")
    (run / "fusion" / "note").unlink()
    record = json.loads((run / "run.json").read_text())
    results.write_run(run / "run.json", record | {"note": 1})
    refuse(1, r"run\.json: note is 1: it should be text")
    results.write_run(run / "run.json", record | {"recipe": record["recipe"] | {"of_a_later_version": 1}})
    refuse(0, "does not know: of_a_later_version")
    assert [(run / model / "note").exists() for model in TRIO] == [True, True, False]


def test_what_was_computed_with_weights_is_not_written_beside_others(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, TRIO), run)
    loaded = load_run(run)
    fusion, resnet18 = (results.fingerprint(loaded, [model]) for model in ("fusion", "resnet18"))
    publish(stage(run, ("fusion",)), run)  # the same once more
    refused = pytest.raises(UserError, match="another process is at work on")
    with results.still_of(loaded, fusion), refused, results.one_at_a_time(run, wait=False):  # as publish does, which waits
        pytest.fail("it was let in")
    staged = stage(run, ("fusion",))
    change_logits(staged / "fusion")
    publish(staged, run)
    with results.still_of(loaded, resnet18):
        pass
    with pytest.raises(UserError, match="was trained anew meanwhile"), results.still_of(loaded, fusion):
        pytest.fail("it was let in")


def test_publishing_repairs_a_damaged_record(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, TRIO), run)
    (run / "run.json").write_text("{", encoding="utf-8")
    (line,) = publish(stage(run, ("fusion",)), run)
    assert load_run(run).models == list(TRIO) and load_run(run).record["models"]["resnet18"] == {}
    assert re.search(rf"run\.json was damaged .* what resnet18, mobilenet_v2 cost .*: run python scripts/evaluate\.py {run}", line)


def test_the_same_weights_keep_all_that_was_made_with_them(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, TRIO), run)
    (run / "fusion" / "own notes.txt").touch()
    record = load_run(run).record
    results.write_run(run / "run.json", record | {"note": "a note", "cluster": "of a visitor"})
    before = files(run)
    staged = stage(run, TRIO)
    for model in TRIO:
        for name in ("probe.parquet", "robustness.csv", "train_sample.parquet", "features.parquet"):
            (staged / model / name).unlink()
    assert publish(staged, run) == [] and files(run) == before
    assert (load_run(run).record["note"], load_run(run).record["cluster"]) == ("a note", "of a visitor")


def test_other_weights_remove_what_they_make_untrue_and_say_so(tmp_path):
    run = tmp_path / "run"
    publish(stage(run, TRIO), run)
    (run / "fusion" / "attributions.npz").touch()
    (run / "fusion" / "own notes.txt").touch()
    before, staged = files(run), stage(run, ("fusion", "mobilenet_v2"))
    for model in ("fusion", "mobilenet_v2"):
        for path in (staged / model).iterdir():
            if path.name not in ("predictions.parquet", "embedding.parquet", "history.csv", "note"):
                path.unlink()
    change_logits(staged / "fusion")
    lines = publish(staged, run)
    gone = {f"fusion/{name}" for name in ("attributions.npz", "robustness.csv", "train_sample.parquet", "features.parquet")}
    gone |= {
        "fusion/epoch_correct.csv",
        "fusion/epoch_predicted.csv",
        "fusion/branch_resnet18.parquet",
        "fusion/branch_mobilenet_v2.parquet",
    }
    assert before - files(run) == gone and "fusion/probe.parquet" in files(
        run
    )  # mobilenet_v2's weights, and so the ensemble's, are the same
    assert all(sum(name in line for line in lines) == 1 for name in gone)
    for words in ("robustness.py {}", "explain.py {} --model fusion --errors --branches", "evaluate.py {} --features", "evaluate.py {}"):
        assert any(line.endswith(f"again with: python scripts/{words.format(run)}") for line in lines), words

    staged = stage(run, ("resnet18",))
    (staged / "resnet18" / "robustness.csv").unlink()
    change_logits(staged / "resnet18")
    (line,) = publish(staged, run)
    assert "resnet18/robustness.csv, ensemble/robustness.csv; again" in line and not (run / "ensemble" / "robustness.csv").exists()


def test_a_baseline_made_anew_after_its_folder_was_removed_is_another(tmp_path):
    """What the ensemble gave was of the one that is gone."""
    run = tmp_path / "run"
    publish(stage(run, TRIO), run)
    shutil.rmtree(run / "mobilenet_v2")
    staged = stage(run, ("mobilenet_v2",))
    change_logits(staged / "mobilenet_v2")
    (line,) = publish(staged, run)
    assert "ensemble/robustness.csv; again" in line and not (run / "ensemble" / "robustness.csv").exists()


def files(run: Path) -> set[str]:
    return {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}


def change_logits(folder: Path) -> None:
    edit(lambda frame: frame.assign(logit_3=frame["logit_3"] + 1))(folder / "predictions.parquet")


@pytest.mark.parametrize("fails_at", range(1, 7))  # each model is moved away and its successor in its place
def test_a_publishing_that_fails_leaves_the_run_as_it_was(tmp_path, monkeypatch, fails_at):
    run = tmp_path / "run"
    publish(stage(run, TRIO, note="old"), run)
    before, calls = files(run), []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == fails_at:
            raise OSError(errno.EIO, "Input/output error")
        source.rename(target)

    monkeypatch.setattr("core.results.staging.replace", rename)
    with pytest.raises(UserError, match=r"run could not be written .*; the whole result lies in .*\.run\.partial"):
        publish(stage(run, TRIO), run)
    assert files(run) == before and [(run / model / "note").read_text() for model in TRIO] == ["old"] * 3
    assert files(tmp_path / ".run.partial") >= {f"{model}/predictions.parquet" for model in TRIO}


@pytest.mark.parametrize("stop", [SystemExit, UserError])
def test_a_publishing_that_is_stopped_leaves_the_run_as_it_was(tmp_path, monkeypatch, stop):
    """By a signal, or by a disk that has no place left for the record."""
    run = tmp_path / "run"
    publish(stage(run, TRIO, note="old"), run)
    before = files(run)

    def write_run(*_):
        raise stop("stopped")

    monkeypatch.setattr(staging, "write_run", write_run)
    staged = stage(run, TRIO)
    with pytest.raises(stop):
        publish(staged, run)
    assert files(run) == before and [(run / model / "note").read_text() for model in TRIO] == ["old"] * 3


def test_a_place_that_cannot_be_published_to_is_named(tmp_path):
    staged = stage(tmp_path / "run", TRIO)
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"taken/run could not be written .*; the whole result lies in .*\.run\.partial"):
        publish(staged, tmp_path / "taken" / "run")
    assert load_run(staged).models == list(TRIO)


# --- text, whatever the locale ----------------------------------------------------------------------------------------

ELSEWHERE = """
import locale, sys
from pathlib import Path
from core import results
from core.config import exit_on_user_error
assert locale.getencoding().upper() not in ("UTF-8", "UTF8"), locale.getencoding()
run = results.load_run(Path(sys.argv[1]))
assert run.record["note"] == "Gr\\xf6\\xdfe \\u2192 \\u4e2d", ascii(run.record["note"])
results.write_run(run.path / "run.json", run.record)
results.write_history(run.path / "fusion" / "history.csv", results.load_history(run, "fusion").to_dict("records"))
with exit_on_user_error():
    print(run.record["note"])
"""


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
def test_text_is_utf8_whatever_the_locale(run, mark):
    """Also where an editor put a byte-order mark before it."""
    record = load_run(run).record | {"note": "Größe → 中"}
    (run / "run.json").write_text(mark + json.dumps(record, ensure_ascii=False), encoding="utf-8")
    history = run / "fusion" / "history.csv"
    history.write_text(mark + history.read_text(encoding="utf-8"), encoding="utf-8")
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    words = [sys.executable, "-c", ELSEWHERE, str(run)]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, encoding="ascii", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Gr\\xf6\\xdfe \\u2192 \\u4e2d\n"  # what the console cannot show
    assert load_run(run).record == record and len(load_history(load_run(run), "fusion")) == 5


def test_a_text_in_another_encoding_is_named(run):
    (run / "run.json").write_text(json.dumps(load_run(run).record | {"note": "Größe"}, ensure_ascii=False), encoding="latin-1")
    with pytest.raises(UserError, match=r"run\.json cannot be read \('utf-8' codec can't decode"):
        load_run(run)


# --- Windows: its rules, played by patched calls -----------------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """What Windows does otherwise: fsync wants a writable handle, folders cannot be opened, open files cannot be replaced."""
    fsync, open_file, held = os.fsync, os.open, []

    def fsync_writable(handle: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(handle)

    def open_no_folder(path: str, *arguments, **options) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, *arguments, **options)

    replace = os.replace

    def replace_closed(source: str, target: str) -> None:
        if held and held.pop():
            raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used by another process")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync_writable)
    monkeypatch.setattr(os, "open", open_no_folder)
    monkeypatch.setattr(os, "replace", replace_closed)
    monkeypatch.setattr("core.results.files.WINDOWS", True)
    return held


def test_files_and_runs_are_written_on_windows(windows, tmp_path):
    run = tmp_path / "results" / "run"
    publish(stage(run, TRIO), run)
    windows += [True, True, True]  # a reader looks at the file for a moment
    results.write_run(run / "run.json", load_run(run).record)
    assert not windows
    publish(stage(run, ("fusion",)), run)
    assert load_run(run).models == list(TRIO)


def test_a_file_that_stays_open_is_named_on_windows(windows, tmp_path, monkeypatch):
    windows += [True] * 1_000
    monkeypatch.setattr("core.results.files.PATIENCE", 0.1)
    with pytest.raises(UserError, match=r"file could not be written .*being used by another process.*: free or unlock its disk"):
        write_whole(tmp_path / "file", lambda aside: aside.write_text("new", encoding="utf-8"))
    assert os.listdir(tmp_path) == []


def test_commands_are_quoted_for_the_shell_at_hand(monkeypatch, tmp_path):
    odd = tmp_path / "my results" / "run $1; rm"
    assert shlex.split(results.rebuild_command(odd)) == ["python", "scripts/evaluate.py", str(odd)]
    assert results.rebuild_command(ROOT / "results" / "run") == "python scripts/evaluate.py results/run"
    monkeypatch.chdir(tmp_path)  # relative to here, but the command is given in the project's folder
    assert results.rebuild_command(Path("elsewhere/run")) == f"python scripts/evaluate.py {tmp_path}/elsewhere/run"
    monkeypatch.setattr("core.results.files.WINDOWS", True)
    assert results.rebuild_command(odd) == f'python scripts/evaluate.py "{odd}"'


# --- the contract -----------------------------------------------------------------------------------------------------


def read_contract() -> dict[str, dict[str, str]]:
    """What results/README.md says: {file: {column or key: type}}."""
    contract = {}
    for section in re.split(r"^## ", (ROOT / "results" / "README.md").read_text(encoding="utf-8"), flags=re.M)[1:]:
        file, rows = section.split("\n")[0].strip("`").rpartition("/")[2], {}
        for names, kind in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \| [^|]* \|$", section, flags=re.M):
            first, *rest = re.findall(r"`(\w+)`", names)
            if "…" in names:
                stem, last = rest[0].split("_")
                first, *rest = (f"{stem}_{i}" for i in range(int(last) + 1))
            rows |= dict.fromkeys((first, *rest), kind)
        contract[file] = rows
    return contract


@pytest.mark.parametrize("file", schema.TABLES)
def test_the_readme_says_what_the_schema_asks_for(file):
    columns = {name: schema.WORDS[of] for name, of in schema.TABLES[file].items()}
    found = read_contract()[file]
    assert list(found.items()) == list(columns.items())


def test_the_readme_says_what_run_json_holds():
    words = {"integer": "whole number", "string": "text", "object": "object"}
    expected = {name: words[of["type"]] for name, of in schema.RUN["properties"].items()}
    assert list(read_contract()["run.json"].items()) == list(expected.items())
