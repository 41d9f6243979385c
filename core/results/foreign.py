"""Anyone's logits as a run: from a table or NumPy file of a model that was trained elsewhere."""

import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from core.config import BACKBONES, CLASSES, MODELS, Recipe, UserError, label
from core.results.files import LARGEST_TABLE, one_at_a_time, read_arrays, say_why
from core.results.images import TRAINING_IMAGES, load_test_images
from core.results.run import IMPORTED, SPLIT_SIZES, Run, check_files, check_same_run, load_run, write_run
from core.results.schema import LOGITS, UNKNOWN, read_table
from core.results.staging import name_staged, publish
from core.results.tables import Rows, load_predictions, write_history, write_predictions

Splits = dict[str, Rows]
ARRAYS = ("val", "val_index", "val_label", "test")
ELSEWHERE = "Logits of models trained elsewhere, from"  # the beginning of a note
HINT = "--help says what such a file holds"


def read_logits(path: Path, test_labels: np.ndarray) -> Splits:
    """{split: (index (N,), label (N,), logits (N, 10))} of a file's `val` and `test`. Raises UserError.

    A .csv or .parquet with the columns of predictions.parquet, or an .npz with `val` (M, 10), `val_index` (M,), `val_label` (M,) and
    `test` (N, 10), whose rows are the first N test images. `test_labels` are those of the test images here.
    """
    if path.suffix == ".npz":
        return _read_arrays(path, test_labels)
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path} is no .csv, .parquet or .npz: {HINT}")
    frame = read_table(path, "python scripts/import.py --help", "predictions.parquet").sort_values("index")
    unknown = sorted(set(frame["split"]) - set(SPLIT_SIZES))
    if unknown:
        raise UserError(f"{path}: column split holds {unknown[0]}: it should hold val or test")
    parts = {split: frame[frame["split"] == split] for split in SPLIT_SIZES}
    return {split: (one["index"].to_numpy(), one["label"].to_numpy(), one[list(LOGITS)].to_numpy()) for split, one in parts.items()}


def _read_arrays(path: Path, test_labels: np.ndarray) -> Splits:
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise ValueError("it is too large to hold logits")
        arrays = read_arrays(path, LARGEST_TABLE)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({say_why(error)}): {HINT}") from None
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: {HINT}")
    n = {name: arrays[name].shape[0] if arrays[name].ndim else 0 for name in ARRAYS}
    for name in ARRAYS:
        logits = name in SPLIT_SIZES
        shape, kinds = ((n[name], len(CLASSES)), "fiu") if logits else ((n["val"],), "iu")
        if arrays[name].shape != shape or arrays[name].dtype.kind not in kinds or not np.isfinite(arrays[name]).all():
            words = f"{'finite numbers' if logits else 'whole numbers'} of shape {shape}"
            raise UserError(f"{path}: {name} is {arrays[name].dtype} of shape {arrays[name].shape}: it should hold {words}")
    order = np.argsort(arrays["val_index"])
    return {
        "val": (arrays["val_index"][order], arrays["val_label"][order], arrays["val"][order]),
        "test": (np.arange(n["test"]), test_labels[: n["test"]], arrays["test"]),
    }


def import_run(
    run: Path, files: dict[str, Path], seed: int | None = None, image_size: int | None = None, note: str | None = None
) -> list[str]:
    """Write a run with the logits of {model: file}, or add these models to it; return what publish has to say. Raises UserError.

    Without `seed` and `image_size` they are those of the run that is there, else 0 and 32.
    """
    existing = None
    check_files(run)
    with suppress(UserError):  # there is none yet, or it is damaged, which publish repairs
        existing = load_run(run)
    staying = [path.parent.name for path in run.glob("*/predictions.parquet") if path.parent.name in {*MODELS} - {*files}]
    if staying and existing is None:
        raise UserError(f"{run / 'run.json'} cannot be read, so nobody knows of which run {', '.join(staying)} are: give another folder")
    seed = seed if seed is not None else existing.record["seed"] if existing else 0
    image_size = image_size or (existing.recipe.image_size if existing else 32)
    labels = load_test_images(run.parent).labels
    splits = {model: read_logits(path, labels) for model, path in files.items()}
    n = {split: len(next(iter(splits.values()))[split][0]) for split in SPLIT_SIZES}
    whole = n["test"] == SPLIT_SIZES["test"]
    wanted = min(SPLIT_SIZES["val"], n["test"])
    for model, path in files.items():
        _check(path, splits[model], labels, n["test"], wanted)
    recipe = Recipe(IMPORTED, image_size, 0, 0, batch_size=1, images_per_split=None if whole else n["test"])
    unknown = dict.fromkeys(BACKBONES, UNKNOWN)
    record = {
        **{"recipe": asdict(recipe), "seed": seed, "start_weights": unknown, "precision": "unknown", "data_md5": {}},
        **{"code_commit": "unknown: trained elsewhere", "libraries": {}, "device": "unknown", "processes": 1},
        **{"models": {model: {} for model in files}},
    }
    if existing:
        check_same_run(run / "run.json", existing.record, record)
    _check_alike(files, splits, existing)
    if note or not run.exists():
        record["note"] = note or f"{ELSEWHERE} {', '.join(path.name for path in files.values())}."
    elif existing and existing.record.get("note", "").startswith(ELSEWHERE):
        added = "".join(f"; {label(model)} from {path.name}" for model, path in files.items())
        record["note"] = f"{existing.record['note'].rstrip('.')}{added}."
    staged = name_staged(run, files)
    with one_at_a_time(staged):
        shutil.rmtree(staged, ignore_errors=True)
        for model, of_model in splits.items():
            write_predictions(staged / model / "predictions.parquet", of_model)
            write_history(staged / model / "history.csv", [])
        write_run(staged / "run.json", record)
        return publish(staged, run)


def _check(path: Path, splits: Splits, labels: np.ndarray, n_test: int, n_val: int) -> None:
    """Raise UserError unless the rows are those that a run with `n_test` test images holds."""
    if n_test > len(labels):
        raise UserError(f"{path}: test has {n_test:,} rows, but there are {len(labels):,} test images")
    for split, expected in (("test", n_test), ("val", n_val)):
        index, label, logits = splits[split]
        if not 0 < len(index) == expected:
            raise UserError(f"{path} has {len(index):,} {split} rows: give {max(expected, 1):,}, which belong to {n_test:,} test images")
        highest = n_test - 1 if split == "test" else TRAINING_IMAGES - 1
        if not (index[1:] > index[:-1]).all() or index[0] < 0 or index[-1] > highest or (split == "test" and index[-1] != highest):
            raise UserError(f"{path}: the {split} rows are not one an image, by its position in torchvision's CIFAR10")
        if label.min() < 0 or label.max() >= len(CLASSES) or (split == "test" and not np.array_equal(label, labels[index])):
            raise UserError(f"{path}: the labels of its {split} rows are not those of the images")
        with np.errstate(over="ignore"):
            if not np.isfinite(np.asarray(logits).astype(np.float32)).all():
                raise UserError(f"{path}: its {split} rows hold logits too large for float32, which they are kept as")


def _check_alike(files: dict[str, Path], splits: dict[str, Splits], existing: Run | None) -> None:
    """Raise UserError unless all models, those that stay in the run too, tell of the same validation images, which none can know here."""
    alike = {str(path): splits[model]["val"][:2] for model, path in files.items()}
    if existing:
        for model in [model for model in existing.models if model not in files]:
            with suppress(UserError):  # it is damaged, which is for the reader to tell
                staying = load_predictions(existing, model, "val")
                alike[str(existing.path / model)] = staying.index, staying.labels
    (first, rows), *others = alike.items()
    for other, keys in others:
        if not all(map(np.array_equal, rows, keys)):
            raise UserError(f"{first}: its val rows are not of the images and labels of {other}: give both the same, or another run folder")
