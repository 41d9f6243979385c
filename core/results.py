"""The results folder: the only module that knows its paths and columns. No torch here.

Writers put every file, model folder and run aside and rename it when whole. Readers check what they read and raise a
UserError that names the file, what is wrong and the command that repairs it. results/README.md explains every column.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.numpy
from PIL import Image

from core.config import CLASSES, MODELS, ROOT, Recipe, UserError

RESULTS = ROOT / "results"
HISTORY_COLUMNS = (
    *("epoch", "phase", "lr_head", "lr_backbone", "train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("images_per_second", "time_seconds"),
)
LOGITS = tuple(f"logit_{i}" for i in range(len(CLASSES)))
PREDICTION_COLUMNS = ("split", "index", "label", *LOGITS)
RUN_KEYS = (
    *("recipe", "seed", "start_weights", "precision", "data_md5", "code_commit", "libraries", "device", "processes"),
    "models",
)
SPLIT_SIZES = {"val": 5_000, "test": 10_000}


# --- writing ---------------------------------------------------------------------------------------------------------


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, flush it to disk and rename it. Raises UserError; `path` is then untouched."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        aside.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written ({' '.join(str(error).split())}): free or unlock its disk") from None


def write_history(path: Path, rows: list[dict]) -> None:
    """history.csv: a row an epoch, full float precision."""

    def write(aside: Path) -> None:
        with open(aside, "w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    write_whole(path, write)


def write_predictions(path: Path, splits: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
    """predictions.parquet from {split: (index (N,), label (N,), logits (N, 10))}."""
    frames = []
    for split, (index, label, logits) in splits.items():
        frame = pd.DataFrame(logits.astype(np.float32), columns=LOGITS)
        frame.insert(0, "label", label.astype(np.int64))
        frame.insert(0, "index", index.astype(np.int64))
        frame.insert(0, "split", split)
        frames.append(frame)
    write_whole(path, lambda aside: pd.concat(frames).to_parquet(aside, index=False))


def write_embedding(path: Path, index: np.ndarray, xy: np.ndarray) -> None:
    """embedding.parquet from index (N,) and coordinates (N, 2)."""
    frame = pd.DataFrame({"index": index.astype(np.int64), "x": xy[:, 0], "y": xy[:, 1]})
    write_whole(path, lambda aside: frame.to_parquet(aside, index=False))


def write_weights(path: Path, state: dict[str, np.ndarray], parameters: set[str]) -> None:
    """weights.safetensors: `parameters` as float16, all other values (BatchNorm statistics) as they are."""
    halved = {key: value.astype(np.float16) if key in parameters else value for key, value in state.items()}
    overflown = [key for key in halved if not np.isfinite(halved[key]).all()]
    if overflown:
        raise UserError(f"{path}: {overflown[0]} does not fit float16: the training diverged")
    write_whole(path, lambda aside: safetensors.numpy.save_file(halved, aside))


def write_run(path: Path, record: dict) -> None:
    """run.json from a dict with RUN_KEYS."""
    write_whole(path, lambda aside: aside.write_text(json.dumps(record, indent=2) + "\n"))


def write_test_images(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """test_images.parquet from uint8 images (N, 32, 32, 3) and labels (N,)."""
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        encoded.append(buffer.getvalue())
    frame = pd.DataFrame({"index": np.arange(len(labels)), "label": labels.astype(np.int64), "image": encoded})
    write_whole(path, lambda aside: frame.to_parquet(aside, index=False))


def publish(staged: Path, run: Path) -> None:
    """Rename a staged run into place; into a run that exists, its models one by one, then its run.json."""
    try:
        if not run.exists():
            os.rename(staged, run)
            return
        record = json.loads((staged / "run.json").read_text())
        for model in record["models"]:
            if (run / model).exists():
                os.rename(run / model, staged / f".{model}.old")
            os.rename(staged / model, run / model)
        record["models"] = json.loads((run / "run.json").read_text())["models"] | record["models"]
        write_run(run / "run.json", record)
        shutil.rmtree(staged)
    except OSError as error:
        raise UserError(f"{run} could not be written ({error}); the whole result lies in {staged}") from None


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run's folder, its record, and the models it holds."""

    path: Path
    record: dict

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def models(self) -> list[str]:
        return [model for model in MODELS if model in self.record["models"]]

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.record["recipe"])

    @property
    def has_weights(self) -> bool:
        return all((self.path / model / "weights.safetensors").is_file() for model in self.models)


def find_runs(results: Path = RESULTS) -> list[str]:
    """Names of the run folders: those with weights first, since the dashboard opens on the first, then by name."""
    if not results.is_dir():
        return []
    runs = [path for path in results.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] not in "._"]
    return [path.name for path in sorted(runs, key=lambda p: (not any(p.glob("*/weights.safetensors")), p.name))]


def rebuild_command(run: Path) -> str:
    """The command that writes a run's files anew."""
    return f"python scripts/evaluate.py {run.parent.name}/{run.name}"


def load_run(run: Path) -> Run:
    """Read run.json. Raises UserError."""
    path = run / "run.json"
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): run {rebuild_command(run)}") from None
    missing = [key for key in RUN_KEYS if key not in record]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: run {rebuild_command(run)}")
    unknown = set(record["models"]) - set(MODELS)
    if unknown or not record["models"]:
        raise UserError(
            f"{path} names {'unknown models ' + ', '.join(sorted(unknown)) if unknown else 'no models'}: run {rebuild_command(run)}"
        )
    try:
        Recipe.from_dict(record["recipe"])
    except UserError as error:
        raise UserError(f"{path}: {error}: run {rebuild_command(run)}") from None
    return Run(run, record)


def read_table(path: Path, columns: dict[str, str], repair: str) -> pd.DataFrame:
    """Read a csv or parquet file and check its columns' kinds ({name: NumPy kind codes}). Raises UserError."""
    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): run {repair}") from None
    missing = [name for name in columns if name not in frame]
    if missing:
        raise UserError(f"{path} lacks column {', '.join(missing)}: run {repair}")
    for name, kinds in columns.items():
        if frame[name].dtype.kind not in kinds:
            raise UserError(f"{path}: column {name} holds {frame[name].dtype}, which is not its type: run {repair}")
        if "f" in kinds and not np.isfinite(frame[name]).all():
            raise UserError(f"{path}: column {name} has values that are not finite: run {repair}")
    return frame[list(columns)]


def load_history(run: Run, model: str) -> pd.DataFrame:
    """history.csv: a row an epoch with HISTORY_COLUMNS. Raises UserError."""
    kinds = {name: "OU" if name == "phase" else "iuf" for name in HISTORY_COLUMNS}
    path = run.path / model / "history.csv"
    history = read_table(path, kinds, rebuild_command(run.path))
    if list(history["epoch"]) != list(range(1, run.recipe.epochs + 1)):
        raise UserError(f"{path} does not hold epochs 1 to {run.recipe.epochs}: run {rebuild_command(run.path)}")
    return history


@dataclass(frozen=True)
class Predictions:
    """One model's logits on one split, in ascending index."""

    index: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64
    logits: np.ndarray  # (N, 10) float32


def load_predictions(run: Run, model: str, split: str = "test", labels: np.ndarray | None = None) -> Predictions:
    """One split of predictions.parquet, compared with the true test `labels` where given. Raises UserError."""
    path, repair = run.path / model / "predictions.parquet", rebuild_command(run.path)
    kinds = {"split": "OU", "index": "iu", "label": "iu", **dict.fromkeys(LOGITS, "f")}
    frame = read_table(path, kinds, repair)
    frame = frame[frame["split"] == split]
    expected = min(SPLIT_SIZES[split], run.recipe.images_per_split or SPLIT_SIZES[split])
    if len(frame) != expected:
        raise UserError(f"{path} has {len(frame)} {split} rows, not {expected}: run {repair}")
    index, label = frame["index"].to_numpy(), frame["label"].to_numpy()
    if not (np.diff(index) > 0).all() or (split == "test" and index[-1] != expected - 1):
        raise UserError(f"{path}: the {split} rows are not in the order of the images: run {repair}")
    if labels is not None and not np.array_equal(label, labels[index]):
        raise UserError(f"{path}: its labels are not those of the images: run {repair}")
    return Predictions(index, label, frame[list(LOGITS)].to_numpy())


def load_embedding(run: Run, model: str) -> pd.DataFrame:
    """embedding.parquet: index, x, y. Raises UserError."""
    path = run.path / model / "embedding.parquet"
    return read_table(path, {"index": "iu", "x": "f", "y": "f"}, rebuild_command(run.path))


@dataclass(frozen=True)
class TestImages:
    """The test split: labels (10000,) and PNG bytes in order."""

    __test__ = False  # not a pytest class

    labels: np.ndarray
    png: np.ndarray  # (10000,) object

    def decode(self, index: int) -> np.ndarray:
        """One image as uint8 (32, 32, 3)."""
        return np.asarray(Image.open(io.BytesIO(self.png[index])).convert("RGB"))


def load_test_images(results: Path = RESULTS) -> TestImages:
    """test_images.parquet. Raises UserError."""
    path, repair = results / "test_images.parquet", "python scripts/evaluate.py --images"
    frame = read_table(path, {"index": "iu", "label": "iu", "image": "O"}, repair)
    if list(frame["index"]) != list(range(SPLIT_SIZES["test"])) or not frame["label"].between(0, 9).all():
        raise UserError(f"{path} does not hold the 10,000 test images in order: run {repair}")
    return TestImages(frame["label"].to_numpy(), frame["image"].to_numpy())
