"""Logits of models that were trained elsewhere become a run that the reader accepts; what is wrong with them is said in a line."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core import results, summaries
from core.config import UserError
from tests.fake_run import make_logits, make_test_images

N = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / "results"
    make_test_images(folder, 300)
    return folder


@pytest.fixture
def given(folder, tmp_path) -> dict[str, np.ndarray]:
    """What an outsider may have: arrays for an .npz."""
    labels = results.load_test_images(folder).labels[:N]
    val_label = np.arange(N) % 10
    val, test = make_logits(np.concatenate([val_label, labels]), ("fusion",), 0)["fusion"].reshape(2, N, 10)
    return {"val": val, "val_index": np.arange(N)[::-1] + 40_000, "val_label": val_label, "test": test, "test_label": labels}


def write_npz(path: Path, given: dict) -> Path:
    np.savez(path, **{name: values for name, values in given.items() if name != "test_label"})
    return path


def test_arrays_and_tables_give_the_same_run(folder, given, tmp_path, script):
    """A .npz, a .csv with shuffled rows, a .parquet with other types: all are read as one."""
    frames = [pd.DataFrame(given[split], columns=results.LOGITS).assign(split=split) for split in ("val", "test")]
    frames[0] = frames[0].assign(index=given["val_index"], label=given["val_label"])
    frames[1] = frames[1].assign(index=np.arange(N), label=given["test_label"])
    table = pd.concat(frames).sample(frac=1, random_state=0)
    table.to_csv(tmp_path / "a.csv", index=False)
    table.astype({"split": "category", "label": "uint8", "index": "Int64"}).set_index("index").to_parquet(tmp_path / "b.parquet")
    files = [f"resnet18={tmp_path / 'a.csv'}", f"mobilenet_v2={tmp_path / 'b.parquet'}", f"fusion={write_npz(tmp_path / 'c.npz', given)}"]
    run = folder / "mine"
    finished = script("import.py", run, "--logits", *files, "--seed", 3)
    assert (finished.code, finished.out) == (0, f"wrote {run}: resnet18, mobilenet_v2, fusion\n")
    loaded = results.load_run(run)
    assert loaded.record["seed"] == 3 and loaded.record["note"].endswith("from a.csv, b.parquet, c.npz.")
    order = np.argsort(given["val_index"])
    for model in loaded.models:
        for split, index, logits in (("val", np.sort(given["val_index"]), given["val"][order]), ("test", np.arange(N), given["test"])):
            got = results.load_predictions(loaded, model, split)
            assert np.array_equal(got.index, index) and np.allclose(got.logits, logits, rtol=1e-6)
    summary = summaries.per_model(loaded).set_index("model")
    expected = (given["test"].argmax(axis=1) == given["test_label"]).mean()
    assert summary.loc["fusion", "accuracy"] == expected and summary.loc["fusion", ["macs", "training_minutes"]].isna().all()
    assert summary.loc["fusion", "val_accuracy"] == (given["val"].argmax(axis=1) == given["val_label"]).mean()

    finished = script("import.py", run, "--logits", files[2])  # once more: nothing of the others is lost, and the seed is the run's
    assert finished.code == 0 and results.load_run(run).models == ["resnet18", "mobilenet_v2", "fusion"]
    assert results.load_run(run).record["note"].endswith("from a.csv, b.parquet, c.npz; Fusion from c.npz.")

    finished = script("import.py", run, "--logits", files[2], "--image-size", 96)
    assert "another recipe, whose image_size is 32, not 96: give it the same, or another run folder" in finished.error
    finished = script("import.py", run, "--logits", files[2], "--seed", 4)
    assert finished.code == 2 and "run.json is of another seed: give it the same, or another run folder" in finished.error
    assert not list(folder.glob(".*"))  # nothing half-written is left

    (run / "fusion" / "predictions.parquet").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"run python scripts/import\.py .*mine --logits MODEL=FILE$"):
        results.load_predictions(loaded, "fusion")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": None}, "lacks val: --help says"),
        ({"test": np.zeros((N, 9))}, r"test is float64 of shape \(120, 9\): it should hold finite numbers of shape \(120, 10\)"),
        ({"test": np.full((N, 10), np.nan)}, "test is float64 .* it should hold finite numbers"),
        ({"test": np.full((N, 10), -1e39)}, "its test rows hold logits too large for float32"),
        ({"val_index": np.arange(N) + 49_990}, "the val rows are not one an image"),
        ({"val_index": np.arange(N, dtype=np.uint64) + 2**63}, "the val rows are not one an image"),
        ({"test": np.zeros((400, 10))}, "test has 400 rows, but there are 300 test images"),
        ({"test": np.zeros((0, 10))}, "has 0 test rows: give 1"),
        ({"val_index": np.zeros(N, int)}, "the val rows are not one an image"),
        ({"val_label": np.full(N, 10)}, "the labels of its val rows are not those of the images"),
        ({"val_label": np.zeros(N)}, "val_label is float64 .* it should hold whole numbers"),
        ({"test": np.array("x", object)}, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(folder, given, tmp_path, script, change, message):
    path = write_npz(tmp_path / "a.npz", {name: values for name, values in (given | change).items() if values is not None})
    finished = script("import.py", folder / "wrong", "--logits", f"fusion={path}")
    assert finished.code == 2 and re.fullmatch(rf"error: {re.escape(str(path))}.*{message}.*\n", finished.error)
    assert not (folder / "wrong").exists() and not list(folder.glob(".wrong*"))


@pytest.mark.parametrize("change", [{"val_index": np.arange(N)}, {"val_label": np.arange(N)[::-1] % 10}])
def test_models_of_other_validation_images_are_no_run(folder, given, tmp_path, script, change):
    """Each file may be right by itself; a run whose models cannot be compared would be refused by its reader."""
    one, other = write_npz(tmp_path / "a.npz", given), write_npz(tmp_path / "b.npz", given | change)
    message = "its val rows are not of the images and labels of"
    finished = script("import.py", folder / "wrong", "--logits", f"resnet18={one}", f"fusion={other}")
    assert finished.code == 2 and message in finished.error and not list(folder.glob("*wrong*"))

    run = folder / "alike"
    assert script("import.py", run, "--logits", f"resnet18={one}", f"fusion={one}").code == 0
    before = (run / "fusion" / "predictions.parquet").read_bytes()
    finished = script("import.py", run, "--logits", f"fusion={other}")
    assert finished.code == 2 and message in finished.error
    assert (run / "fusion" / "predictions.parquet").read_bytes() == before and not list(folder.glob(".*"))
    assert script("import.py", run, "--logits", f"resnet18={other}", f"fusion={other}").code == 0  # both at once may be others

    loaded = results.load_run(run)
    unneeded = "is needed, but an imported run has no weights"
    for load in (results.load_robustness, results.load_attributions, results.load_embedding, results.load_features, results.find_weights):
        with pytest.raises(results.MissingFile, match=unneeded):
            load(loaded, "fusion")
    for asked, words in (("--check", unneeded), ("--features", unneeded), ("--probe", "was trained elsewhere")):
        finished = script("evaluate.py", run, asked, "--data", tmp_path)
        assert finished.code == 2 and words in finished.error and "import.py" not in finished.error


def test_a_table_of_more_images_than_there_are_is_refused(folder, given, tmp_path, script):
    path, rows = tmp_path / "a.csv", 400
    test = pd.DataFrame(np.zeros((rows, 10)), columns=results.LOGITS).assign(split="test", index=np.arange(rows), label=0)
    val = pd.DataFrame(given["val"], columns=results.LOGITS).assign(split="val", index=given["val_index"], label=given["val_label"])
    pd.concat([val, test]).to_csv(path, index=False)
    finished = script("import.py", folder / "wrong", "--logits", f"fusion={path}")
    assert (finished.code, finished.error) == (2, f"error: {path}: test has 400 rows, but there are 300 test images\n")


@pytest.mark.parametrize("damage", ["compressed", "cut", "text"])
def test_damaged_arrays_are_named(folder, given, tmp_path, script, damage):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **given)
    whole = path.read_bytes()
    path.write_bytes({"compressed": whole[:200] + bytes(64) + whole[264:], "cut": whole[: len(whole) // 2], "text": b"no arrays"}[damage])
    finished = script("import.py", folder / "wrong", "--logits", f"fusion={path}")
    assert finished.code == 2 and finished.error.startswith(f"error: {path} cannot be read (") and not (folder / "wrong").exists()


@pytest.mark.parametrize("pairs", [["fusion"], ["vgg=a.npz"], ["fusion=a.npz", "fusion=b.npz"], ["fusion=a.txt"], ["fusion=none.csv"]])
def test_pairs_that_make_no_sense_are_named(folder, script, pairs):
    finished = script("import.py", folder / "wrong", "--logits", *pairs)
    assert finished.code == 2 and finished.error.startswith("error: ") and finished.error.count("\n") == 1


def test_nothing_is_added_to_a_run_whose_record_cannot_be_read(folder, given, tmp_path, script):
    """The models there would become part of a run of another seed, recipe and origin."""
    run, path = folder / "damaged", write_npz(tmp_path / "a.npz", given)
    assert script("import.py", run, "--seed", "2", "--logits", f"resnet18={path}", f"fusion={path}").code == 0
    (run / "run.json").write_text("")
    finished = script("import.py", run, "--logits", f"fusion={path}")
    assert finished.code == 2 and finished.error.endswith(
        "run.json cannot be read, so nobody knows of which run resnet18 are: give another folder\n"
    )
    assert (run / "run.json").read_text() == ""
    assert script("import.py", run, "--seed", "2", "--logits", f"resnet18={path}", f"fusion={path}").code == 0  # all models: a repair
    assert results.load_run(run).record["seed"] == 2
