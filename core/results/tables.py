"""The tables in a model's folder. Each write stands beside its read; results/README.md explains every column."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core import metrics
from core.config import BASELINES, CLASSES, ENSEMBLE, UserError
from core.results.files import command, stamp_file
from core.results.run import Run, rebuild_command, refuse_without_weights, split_size, start_option
from core.results.schema import COMPONENTS, HISTORY_COLUMNS, LOGITS, read_table, write_table
from core.robustness import list_conditions

OPTIONS = {
    "probe": "--probe",
    **dict.fromkeys(("train_sample", "features", "linear_head"), "--features"),
}  # of evaluate.py, for optional files


def repair_command(run: Run, name: str) -> str:
    """The command that makes a table of a run's models anew."""
    rebuild = rebuild_command(run.path, *([OPTIONS[name]] if name in OPTIONS else []))
    return rebuild + start_option(run.record) * (name == "probe")


# --- history.csv -----------------------------------------------------------------------------------------------------


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """history.csv: a row an epoch with HISTORY_COLUMNS, and `image_size` where the rows have it; full float precision."""
    columns = [*HISTORY_COLUMNS, *(["image_size"] if any("image_size" in row for row in rows) else [])]
    write_table(path, pd.DataFrame(rows, columns=columns), "history.csv")


def load_history(run: Run, model: str) -> pd.DataFrame:
    """history.csv: a row an epoch with HISTORY_COLUMNS, and `image_size` (pixels of the training images). Raises UserError."""
    path, repair = run.path / model / "history.csv", rebuild_command(run.path)
    history = read_table(path, repair).sort_values("epoch", ignore_index=True)
    if list(history["epoch"]) != list(range(1, run.recipe.epochs + 1)):
        raise UserError(f"{path} does not hold epochs 1 to {run.recipe.epochs}: run {repair}")
    unknown = sorted(set(history["phase"]) - {"frozen", "finetune"})
    if unknown:
        raise UserError(f"{path}: column phase holds {unknown[0]}: it should hold frozen or finetune: run {repair}")
    return history if "image_size" in history else history.assign(image_size=np.array(run.recipe.training_sizes, int))


# --- predictions.parquet, and tables with the same columns -----------------------------------------------------------


@dataclass(frozen=True)
class Predictions:
    """One model's logits on one split, in ascending index."""

    index: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64
    logits: np.ndarray  # (N, 10) float32


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # index (N,), label (N,), logits (N, 10)


def write_predictions(path: Path, splits: Mapping[str, Rows]) -> None:
    """predictions.parquet from the rows of each split."""
    frames = []
    for split, (index, label, logits) in splits.items():
        frame = pd.DataFrame(np.asarray(logits, np.float32), columns=LOGITS)
        frames.append(frame.assign(split=split, index=index, label=label))
    write_table(path, pd.concat(frames), "predictions.parquet")


@lru_cache(maxsize=12)
def _read_predictions(path: Path, _stamp: tuple[int, int, int], repair: str) -> pd.DataFrame:
    """A table is wanted by several statements: read once, and again when its stamp says it changed."""
    return read_table(path, repair, "predictions.parquet").sort_values("index", ignore_index=True)


def load_predictions(run: Run, model: str, split: str = "test", labels: np.ndarray | None = None, name: str = "predictions") -> Predictions:
    """One split of predictions.parquet, compared with the true test `labels` where given. Raises MissingFile, UserError.

    `name` asks for another table with the same columns: "probe" (a linear probe: a linear classifier on the model's features
    before any training), "train_sample" (its split is "train"), the fusion's "branch_resnet18" and "branch_mobilenet_v2" (of the
    heads on one branch alone), or the ensemble's "linear_head" (a linear classifier on the baselines' features, fine-tuned apart).
    """
    path, repair = run.path / model / f"{name}.parquet", repair_command(run, name)
    frame = _read_predictions(path, stamp_file(path), repair)
    frame = frame[frame["split"] == split]
    expected = max(1, len(frame)) if split == "train" else split_size(run, split)  # of training images any sample will do
    if len(frame) != expected:
        asked = "as images_per_split in run.json says" if run.recipe.images_per_split else "unless images_per_split in run.json says so"
        raise UserError(f"{path} has {len(frame):,} {split} rows, not {expected:,}, {asked}: run {repair}")
    index, label = frame["index"].to_numpy(), frame["label"].to_numpy()
    if not (np.diff(index) > 0).all() or index[0] < 0 or (split == "test" and index[-1] != expected - 1):
        raise UserError(f"{path}: the {split} rows are not one an image, by its position: run {repair}")
    if labels is not None and expected > len(labels):
        raise UserError(f"{path} predicts {expected:,} {split} images, but test_images.parquet holds {len(labels):,}: give both as many")
    if label.min() < 0 or label.max() >= len(CLASSES) or (labels is not None and not np.array_equal(label, labels[index])):
        raise UserError(f"{path}: its labels are not those of the images: run {repair}")
    return Predictions(index, label, frame[list(LOGITS)].to_numpy())


def stamp_predictions(run: Run) -> tuple[tuple[int, int, int], ...]:
    """Changes when the run's record does, or what its models predicted."""
    return tuple(stamp_file(run.path / name) for name in ("run.json", *(f"{model}/predictions.parquet" for model in run.models)))


def load_logits(run: Run, split: str = "test", labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """One split's index (N,), labels (N,) and each model's logits (N, 10), with `ensemble` last where both baselines are there.

    Raises UserError.
    """
    predictions = {model: load_predictions(run, model, split, labels) for model in run.models}
    first, *others = predictions.values()
    for other in others:
        if not (np.array_equal(first.index, other.index) and np.array_equal(first.labels, other.labels)):
            raise UserError(f"{run.path}: the models' {split} rows are not of the same images: run {rebuild_command(run.path)}")
    logits = {model: one.logits for model, one in predictions.items()}
    if set(BASELINES) <= set(logits):
        logits[ENSEMBLE] = metrics.ensemble_logits(*(logits[model] for model in BASELINES))
    return first.index, first.labels, logits


# --- of each test image: embedding.parquet, features.parquet ---------------------------------------------------------


def write_embedding(path: Path, index: np.ndarray, xy: np.ndarray) -> None:
    """embedding.parquet from index (N,) and coordinates (N, 2)."""
    write_table(path, pd.DataFrame({"index": index, "x": xy[:, 0], "y": xy[:, 1]}), "embedding.parquet")


def load_embedding(run: Run, model: str) -> pd.DataFrame:
    """embedding.parquet: index, x, y; a row a test image, in order. Raises MissingFile, UserError."""
    return _read_test_rows(run, model, "embedding")


def write_features(path: Path, index: np.ndarray, components: np.ndarray) -> None:
    """features.parquet, or features_<branch>.parquet, from index (N,) and principal components (N, up to 50), kept as float16."""
    frame = pd.DataFrame(np.asarray(components, np.float16), columns=COMPONENTS[: components.shape[1]])
    write_table(path, frame.assign(index=index), "features.parquet")


def load_features(run: Run, model: str, branch: str | None = None) -> np.ndarray:
    """features.parquet: principal components of each test image's penultimate features, (N, up to 50) float32, the first the
    widest; with a `branch`, of what that backbone of the fusion hands on. Raises MissingFile, UserError.
    """
    name = f"features_{branch}" if branch else "features"
    frame = _read_test_rows(run, model, name, "features").drop(columns="index")
    if tuple(frame) != COMPONENTS[: frame.shape[1]]:
        path = run.path / model / f"{name}.parquet"
        raise UserError(f"{path} does not hold the first components without a gap: run {repair_command(run, 'features')}")
    return frame.to_numpy(np.float32)


def _read_test_rows(run: Run, model: str, name: str, kind: str | None = None) -> pd.DataFrame:
    kind = kind or name
    path, repair = run.path / model / f"{name}.parquet", repair_command(run, kind)
    refuse_without_weights(run, path)
    frame = read_table(path, repair, f"{kind}.parquet").sort_values("index", ignore_index=True)
    if list(frame["index"]) != list(range(split_size(run, "test"))):
        raise UserError(f"{path} does not hold a row a test image: run {repair}")
    return frame


# --- condition by condition, epoch by epoch: robustness.csv, epoch_correct.csv, epoch_predicted.csv ----------------------


def pack_bits(correct: np.ndarray) -> str:
    """Bool (N,) as hexadecimal: a bit an image, the first one highest."""
    return np.packbits(correct).tobytes().hex()


def unpack_bits(text: str, n: int) -> np.ndarray:
    """pack_bits undone: bool (n,). Raises ValueError."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(packed) != -(-n // 8):
        raise ValueError(f"{len(packed)} bytes for {n} images")
    return np.unpackbits(packed, count=n).astype(bool)


def write_robustness(path: Path, correct: np.ndarray) -> None:
    """robustness.csv from correct (41, N) bool: a row a condition, in the order of robustness.list_conditions."""
    rows = [
        {"corruption": name, "severity": severity, "images": len(one), "accuracy": one.mean(), "right": pack_bits(one)}
        for (name, severity), one in zip(list_conditions(), correct, strict=True)
    ]
    write_table(path, pd.DataFrame(rows), "robustness.csv")


def load_robustness(run: Run, model: str) -> np.ndarray:
    """robustness.csv of a model, or of `ensemble`: which images are predicted correctly, bool (41, N), a row a condition.

    Rows are in the order of robustness.list_conditions, images in that of robustness.pick_subset. Raises MissingFile, UserError.
    """
    path, repair = run.path / model / "robustness.csv", command("robustness.py", run.path)
    refuse_without_weights(run, path)
    frame = read_table(path, repair).set_index(["corruption", "severity"])
    if sorted(frame.index) != sorted(list_conditions()):
        raise UserError(f"{path} does not hold a row a condition: run {repair}")
    return _unpack_rows(path, frame.loc[list_conditions()], "right", repair)


def write_epoch_correct(path: Path, correct: Mapping[str, Iterable[np.ndarray]]) -> None:
    """epoch_correct.csv from {split: bool (epochs, N)}."""
    rows = [
        {"epoch": epoch, "split": split, "images": len(one), "accuracy": one.mean(), "correct": pack_bits(one)}
        for split, epochs in correct.items()
        for epoch, one in enumerate(epochs, 1)
    ]
    write_table(path, pd.DataFrame(rows), "epoch_correct.csv")


def load_epoch_correct(run: Run, model: str) -> dict[str, np.ndarray]:
    """epoch_correct.csv: which images are predicted correctly after each epoch, {split: bool (epochs, N)} for those of `val` and
    `test` that it holds, images in the order of predictions.parquet. Raises MissingFile, UserError.
    """
    rows = _read_epochs(run, model, "epoch_correct.csv")
    return {split: _unpack_rows(path, frame, "correct", rebuild_command(run.path)) for path, split, frame in rows}


def write_epoch_predicted(path: Path, predicted: Mapping[str, Iterable[np.ndarray]]) -> None:
    """epoch_predicted.csv from {split: whole numbers (epochs, N), the classes}."""
    rows = [
        {"epoch": epoch, "split": split, "images": len(one), "predicted": "".join(map(str, one.tolist()))}
        for split, epochs in predicted.items()
        for epoch, one in enumerate(epochs, 1)
    ]
    write_table(path, pd.DataFrame(rows), "epoch_predicted.csv")


def load_epoch_predicted(run: Run, model: str) -> dict[str, np.ndarray]:
    """epoch_predicted.csv: the class predicted after each epoch, {split: int64 (epochs, N)} for those of `val` and `test` that it
    holds, images in the order of predictions.parquet. Raises MissingFile, UserError.
    """
    predicted = {}
    for path, split, frame in _read_epochs(run, model, "epoch_predicted.csv"):
        if not (frame["predicted"].str.fullmatch("[0-9]*") & (frame["predicted"].str.len() == frame["images"])).all():
            raise UserError(f"{path}: its column predicted is not a digit an image: run {rebuild_command(run.path)}")
        predicted[split] = np.array([list(map(int, text)) for text in frame["predicted"]])
    return predicted


def _read_epochs(run: Run, model: str, name: str) -> Iterator[tuple[Path, str, pd.DataFrame]]:
    """The file's path, a split and its rows, one an epoch in their order, for each split there is. Raises MissingFile, UserError."""
    path, repair = run.path / model / name, rebuild_command(run.path)
    for split, frame in read_table(path, repair).sort_values("epoch").groupby("split"):
        if split not in ("val", "test"):
            raise UserError(f"{path}: column split holds {split}: it should hold val or test: run {repair}")
        if list(frame["epoch"]) != list(range(1, run.recipe.epochs + 1)) or (frame["images"] != split_size(run, split)).any():
            raise UserError(f"{path} does not hold epochs 1 to {run.recipe.epochs} of all {split} images: run {repair}")
        yield path, split, frame


def _unpack_rows(path: Path, frame: pd.DataFrame, column: str, repair: str) -> np.ndarray:
    """Bool (rows, N) from a column of bits, which must agree with `images` and `accuracy`. Raises UserError."""
    n = int(frame["images"].iloc[0])
    try:
        correct = np.stack([unpack_bits(text, n) for text in frame[column]]) if n > 0 else None
    except (ValueError, OverflowError, MemoryError):
        correct = None
    if correct is None or (frame["images"] != n).any() or not np.allclose(correct.mean(axis=1), frame["accuracy"]):
        raise UserError(f"{path}: its columns {column}, images and accuracy do not agree: run {repair}")
    return correct
