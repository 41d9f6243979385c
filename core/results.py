"""The results folder: the only module that knows its paths and columns. No torch here.

Writers put every file, model folder and run aside and rename it when whole. Readers check what they read and raise a
UserError that names the file, what is wrong and the command that repairs it. results/README.md explains every column.
"""

import csv
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.numpy
from PIL import Image
from pyarrow import parquet
from safetensors import SafetensorError

from core import metrics
from core.config import BASELINES, CLASSES, MODELS, ROOT, Recipe, UserError
from core.robustness import list_conditions

RESULTS = Path(os.environ.get("RESULTS_DIR") or ROOT / "results")
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
IDENTITY = ("recipe", "seed", "start_weights", "precision", "data_md5")  # what two models of one run must share
HUMANS_COMMAND = "python scripts/human_votes.py --help"
ROBUSTNESS_COLUMNS = ("corruption", "severity", "images", "accuracy", "right")
LABEL_ERROR_COLUMNS = ("index", "given", "guessed", "votes_given", "votes_guessed", "votes_both", "votes_neither")
LARGEST, LARGEST_TABLE = 2**29, 2**26  # bytes of any file, and of a table: what is written here is far below, unpacked too
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
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save reports a full disk as a RuntimeError
        with suppress(OSError):  # the first error is the one to tell
            aside.unlink()
        raise UserError(f"{path} could not be written ({error}): free or unlock its disk") from None


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
    # safetensors writes memory as it lies: filters that torch keeps channels_last must be put in row order first
    ordered = {key: np.asarray(value, order="C") for key, value in state.items()}
    halved = {key: value.astype(np.float16) if key in parameters else value for key, value in ordered.items()}
    overflown = [key for key in halved if not np.isfinite(halved[key]).all()]
    if overflown:
        raise UserError(f"{path}: {overflown[0]} does not fit float16: the training diverged")
    write_whole(path, lambda aside: aside.write_bytes(safetensors.numpy.save(halved)))


def write_attributions(
    path: Path,
    rows: dict[str, np.ndarray],
    maps: dict[str, dict[str, np.ndarray]],
    branches: dict[str, dict[str, np.ndarray]],
    record: dict,
) -> None:
    """attributions.npz: the arrays of Attributions, its maps as float16."""
    arrays = {**rows, "record": np.array(json.dumps(record))}
    for method, parts in maps.items():
        for part, values in parts.items():
            arrays[f"map/{method}/{part}"] = values.astype(np.float16)
            if not np.isfinite(arrays[f"map/{method}/{part}"]).all():
                raise UserError(f"{path}: {method} gave values that do not fit float16: the model is damaged")
    arrays |= {f"branch/{kind}/{branch}": values for kind, parts in branches.items() for branch, values in parts.items()}

    def write(aside: Path) -> None:
        with open(aside, "wb") as file:  # NumPy would append .npz to a name
            np.savez_compressed(file, **arrays)

    write_whole(path, write)


def write_robustness(path: Path, correct: np.ndarray) -> None:
    """robustness.csv from correct (41, N) bool: a row a condition, in the order of robustness.list_conditions."""
    rows = [
        {"corruption": name, "severity": severity, "images": len(one), "accuracy": one.mean(), "right": np.packbits(one).tobytes().hex()}
        for (name, severity), one in zip(list_conditions(), correct, strict=True)
    ]
    write_whole(path, lambda aside: pd.DataFrame(rows, columns=ROBUSTNESS_COLUMNS).to_csv(aside, index=False))


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


def write_human_votes(path: Path, counts: np.ndarray) -> None:
    """human_votes.parquet from counts (10000, 10): how many people chose each class for each test image."""
    frame = pd.DataFrame(counts.astype(np.int64), columns=CLASSES)
    frame.insert(0, "index", np.arange(len(counts)))
    write_whole(path, lambda aside: frame.to_parquet(aside, index=False))


def write_label_errors(path: Path, rows: list[dict]) -> None:
    """label_errors.parquet from dicts with LABEL_ERROR_COLUMNS: a row a doubted test image."""
    frame = pd.DataFrame(rows, columns=LABEL_ERROR_COLUMNS).astype(np.int64).sort_values("index")
    write_whole(path, lambda aside: frame.to_parquet(aside, index=False))


def check_same_run(path: Path, found: dict, run: dict) -> None:
    """Raise UserError unless the record `found` in the file `path` is of the same run as the record `run`."""
    for key in IDENTITY:
        if found[key] != run[key]:
            raise UserError(f"{path} is of another {key.replace('_', ' ')}: give it the same, or another --out")


def publish(staged: Path, run: Path) -> None:
    """Rename a staged run into place; into a run that exists, its models one by one, then its run.json. Raises UserError."""
    try:
        if not run.exists():
            os.rename(staged, run)
            return
        record = json.loads((staged / "run.json").read_text())
        try:
            existing = load_run(run).record
        except UserError:  # damaged: this is its repair
            existing = record
        check_same_run(run / "run.json", existing, record)
        shutil.rmtree(run / "ensemble", ignore_errors=True)  # of the models that go
        for model in record["models"]:
            if (run / model).exists():
                os.rename(run / model, staged / f".{model}.old")
            os.rename(staged / model, run / model)
        record["models"] = existing["models"] | record["models"]
        record |= {"note": existing["note"]} if "note" in existing else {}
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


def find_weights(run: Run, model: str) -> Path:
    """weights.safetensors of a model. Raises UserError where the run does not ship it."""
    path = run.path / model / "weights.safetensors"
    if not path.is_file():
        raise UserError(f"{path} is missing: run {rebuild_command(run.path)}")
    return path


def check_files(run: Path) -> None:
    """Raise UserError where a run's file is no file of its own, or larger than any that is written here."""
    for path in run.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(run.parent.resolve()):
            raise UserError(f"{path} is a link that leaves {run.parent}: put the file itself there")
        if path.is_file() and path.stat().st_size > LARGEST:
            raise UserError(f"{path} is larger than {LARGEST >> 20} MiB, which no file of a run is: run {rebuild_command(run)}")


def load_run(run: Path) -> Run:
    """Read run.json, and look at the run's files. Raises UserError."""
    check_files(run)
    path = run / "run.json"
    try:
        record = json.loads(path.read_text())
        if not isinstance(record, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({say_why(error)}): run {rebuild_command(run)}") from None
    missing = [key for key in RUN_KEYS if key not in record]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}: run {rebuild_command(run)}")
    if not isinstance(record["models"], dict) or not record["models"] or not record["models"].keys() <= set(MODELS):
        raise UserError(f"{path}: its models are not some of {', '.join(MODELS)}: run {rebuild_command(run)}")
    try:
        Recipe.from_dict(record["recipe"])
    except UserError as error:
        raise UserError(f"{path}: {error}: run {rebuild_command(run)}") from None
    return Run(run, record)


def say_why(error: Exception) -> str:
    """An error in one line, without the number and the path that an OSError adds."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def read_table(path: Path, columns: dict[str, str], repair: str) -> pd.DataFrame:
    """Read a csv or parquet file and check its columns' kinds ({name: NumPy kind codes}). Raises UserError."""
    try:
        texts = {name: str for name, kinds in columns.items() if "U" in kinds}
        if path.stat().st_size > LARGEST_TABLE:
            raise ValueError("it is too large to be such a table")
        if path.suffix == ".csv":
            frame = pd.read_csv(path, dtype=texts)
        else:
            footer = parquet.read_metadata(path)  # a small file can unpack to any size
            unpacked = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
            if max(unpacked, 100 * footer.num_rows) > LARGEST_TABLE:
                raise ValueError("it unpacks to more than such a table holds")
            frame = pd.read_parquet(path)
    except Exception as error:  # pandas and pyarrow raise many kinds on damaged files
        raise UserError(f"{path} cannot be read ({say_why(error)}): run {repair}") from None
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


def split_size(run: Run, split: str) -> int:
    """How many images of `val` or `test` the run predicted."""
    return min(SPLIT_SIZES[split], run.recipe.images_per_split or SPLIT_SIZES[split])


@dataclass(frozen=True)
class Predictions:
    """One model's logits on one split, in ascending index."""

    index: np.ndarray  # (N,) int64
    labels: np.ndarray  # (N,) int64
    logits: np.ndarray  # (N, 10) float32


@lru_cache(maxsize=12)
def _read_predictions(path: Path, stamp: tuple[int, ...] | None, repair: str) -> pd.DataFrame:
    """A table is wanted by several statements: read once, and again when its stamp says it changed."""
    return read_table(path, {"split": "OU", "index": "iu", "label": "iu", **dict.fromkeys(LOGITS, "f")}, repair)


def load_predictions(run: Run, model: str, split: str = "test", labels: np.ndarray | None = None, name: str = "predictions") -> Predictions:
    """One split of predictions.parquet, compared with the true test `labels` where given. Raises UserError.

    With `name` "probe": of probe.parquet, the answers of a linear classifier on the model's features before any training.
    """
    path, repair = run.path / model / f"{name}.parquet", rebuild_command(run.path) + (" --probe" if name == "probe" else "")
    stat = path.stat() if path.exists() else None
    frame = _read_predictions(path, stat and (stat.st_ino, stat.st_mtime_ns, stat.st_size), repair)
    frame = frame[frame["split"] == split]
    expected = split_size(run, split)
    if len(frame) != expected:
        raise UserError(f"{path} has {len(frame)} {split} rows, not {expected}: run {repair}")
    index, label = frame["index"].to_numpy(), frame["label"].to_numpy()
    if not (np.diff(index) > 0).all() or index[0] < 0 or (split == "test" and index[-1] != expected - 1):
        raise UserError(f"{path}: the {split} rows are not in the order of the images: run {repair}")
    if label.min() < 0 or label.max() >= len(CLASSES) or (labels is not None and not np.array_equal(label, labels[index])):
        raise UserError(f"{path}: its labels are not those of the images: run {repair}")
    return Predictions(index, label, frame[list(LOGITS)].to_numpy())


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
        logits["ensemble"] = metrics.ensemble_logits(*(logits[model] for model in BASELINES))
    return first.index, first.labels, logits


def load_answers(run: Run, labels: np.ndarray | None = None) -> pd.DataFrame:
    """One row a test image: index, label and, for each model of load_logits, what it answered. Raises UserError.

    {model}_predicted (class position), {model}_confidence (largest probability), {model}_margin (largest minus second),
    {model}_loss (cross-entropy, nats), {model}_correct (bool). `labels` are the test images', to compare with.
    """
    index, label, logits = load_logits(run, "test", labels)
    columns = {"index": index, "label": label}
    for model, values in logits.items():
        predicted = values.argmax(axis=1)
        second, top = np.partition(metrics.softmax(values), -2, axis=1)[:, -2:].T
        columns[f"{model}_predicted"] = predicted
        columns[f"{model}_confidence"] = top
        columns[f"{model}_margin"] = top - second
        columns[f"{model}_loss"] = metrics.cross_entropy(label, values)
        columns[f"{model}_correct"] = predicted == label
    return pd.DataFrame(columns)


def load_summary(run: Run, labels: np.ndarray | None = None) -> pd.DataFrame:
    """One row a model, the derived `ensemble` and `oracle` last, with all that stands beside an accuracy. Raises UserError.

    accuracy with its Wilson interval (low, high), macro_f1, worst_class and worst_recall, val_accuracy of the last epoch,
    parameters, macs, latency_ms (one image), training_minutes and images_per_second while fine-tuning; NaN where a control
    has no such thing.
    """
    answers = load_answers(run, labels)
    rows = []
    for model in [c.removesuffix("_correct") for c in answers if c.endswith("_correct")]:
        correct = answers[f"{model}_correct"]
        scores = metrics.per_class(answers["label"].to_numpy(), answers[f"{model}_predicted"].to_numpy(), len(CLASSES))
        worst = int(scores["recall"].argmin())
        row = {"model": model, "right": int(correct.sum()), "macro_f1": scores["f1"].mean(), "worst_class": CLASSES[worst]}
        row["worst_recall"] = scores["recall"][worst]
        if model in run.models:
            history = load_history(run, model)
            row |= {"latency_ms": np.nan} | run.record["models"][model] | {"val_accuracy": history["val_accuracy"].iloc[-1]}
            row["training_minutes"] = history["time_seconds"].sum() / 60
            row["images_per_second"] = history["images_per_second"][history["phase"] == "finetune"].median()
        rows.append(row)
    if "ensemble" in rows[-1]["model"]:
        costs = [run.record["models"][model] for model in BASELINES]
        rows[-1] |= {key: sum(cost[key] for cost in costs) for key in costs[0] if all(key in c for c in costs)}
        rows.append({"model": "oracle", "right": int(answers[[f"{model}_correct" for model in BASELINES]].any(axis=1).sum())})
    summary = pd.DataFrame(rows)
    summary.insert(1, "accuracy", summary["right"] / len(answers))
    intervals = [metrics.wilson_interval(right, len(answers)) for right in summary.pop("right")]
    summary.insert(2, "low", [low for low, _ in intervals])
    summary.insert(3, "high", [high for _, high in intervals])
    return summary


def load_embedding(run: Run, model: str) -> pd.DataFrame:
    """embedding.parquet: index, x, y; a row a test image, in order. Raises UserError."""
    path, repair = run.path / model / "embedding.parquet", rebuild_command(run.path)
    frame = read_table(path, {"index": "iu", "x": "f", "y": "f"}, repair)
    if list(frame["index"]) != list(range(split_size(run, "test"))):
        raise UserError(f"{path} does not hold the test images in order: run {repair}")
    return frame


@dataclass(frozen=True)
class Attributions:
    """Maps of N test images, and what each branch of the fusion carries over all M test images."""

    index: np.ndarray  # (N,) int64, ascending
    target: np.ndarray  # (N,) int64, the class explained
    minus: np.ndarray  # (N,) int64, the class whose logit is subtracted; -1 where none is
    maps: dict[str, dict[str, np.ndarray]]  # {method: {part: (N, 32, 32) float32}}
    branches: dict[str, dict[str, np.ndarray]]  # {"contribution": {branch: (M,)}, "ablated": {branch: logits (M, 10)}}, or empty
    record: dict  # image_size, and each method's parameters


def load_attributions(run: Run, model: str) -> Attributions:
    """attributions.npz. Raises UserError."""
    path = run.path / model / "attributions.npz"
    repair = f"python scripts/explain.py {run.path.parent.name}/{run.path.name} --model {model} --errors"
    try:
        with open(path, "rb") as whole, np.load(whole) as file:
            if sum(part.file_size for part in file.zip.infolist()) > LARGEST:
                raise ValueError("it unpacks to more than any selection of images needs")
            arrays = dict(file)
        index, target, minus = (arrays.pop(name) for name in ("index", "target", "minus"))
        record = json.loads(str(arrays.pop("record")))
        found = {"map": {}, "branch": {}}
        for key, values in arrays.items():
            kind, name, part = key.split("/")
            found[kind].setdefault(name, {})[part] = values.astype(np.float32)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({say_why(error)}): run {repair}") from None
    total = split_size(run, "test")
    shapes = {"contribution": (total,), "ablated": (total, len(CLASSES))}
    expected = {name: (len(index), 32, 32) for name in found["map"]} | shapes
    for name, parts in {**found["map"], **found["branch"]}.items():
        for part, values in parts.items():
            if values.shape != expected.get(name) or not np.isfinite(values).all():
                raise UserError(f"{path}: {name} of {part} is not whole: run {repair}")
    if not (index.shape == target.shape == minus.shape and (np.diff(index) > 0).all() and index[0] >= 0 and index[-1] < total):
        raise UserError(f"{path} does not hold test images in order: run {repair}")
    return Attributions(index, target, minus, found["map"], found["branch"], record)


def load_robustness(run: Run, model: str) -> np.ndarray:
    """robustness.csv of a model, or of `ensemble`: which images were answered right, bool (41, N), a row a condition. Raises UserError.

    Rows are in the order of robustness.list_conditions, images in that of robustness.pick_subset.
    """
    path, repair = run.path / model / "robustness.csv", f"python scripts/robustness.py {run.path.parent.name}/{run.name}"
    frame = read_table(path, {"corruption": "OU", "severity": "iu", "images": "iu", "accuracy": "f", "right": "OU"}, repair)
    if list(frame[["corruption", "severity"]].itertuples(index=False, name=None)) != list_conditions():
        raise UserError(f"{path} does not hold all conditions in order: run {repair}")
    try:
        n = int(frame["images"][0])
        rows = [np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:n] for text in frame["right"]]
        correct = np.stack(rows).astype(bool)
        whole = correct.shape[1] == n > 0 and (frame["images"] == n).all() and np.allclose(correct.mean(axis=1), frame["accuracy"])
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{path}: its right answers and accuracies do not agree: run {repair}")
    return correct


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


def load_human_votes(results: Path = RESULTS) -> np.ndarray:
    """human_votes.parquet: counts (10000, 10) of the people who chose each class for each test image. Raises UserError."""
    path = results / "human_votes.parquet"
    frame = read_table(path, dict.fromkeys(("index", *CLASSES), "iu"), HUMANS_COMMAND)
    counts = frame[list(CLASSES)].to_numpy()
    if list(frame["index"]) != list(range(SPLIT_SIZES["test"])) or counts.min() < 0 or counts.sum(axis=1).min() == 0:
        raise UserError(f"{path} does not hold votes on the 10,000 test images in order: run {HUMANS_COMMAND}")
    return counts


def load_label_errors(results: Path = RESULTS) -> pd.DataFrame:
    """label_errors.parquet: the doubted test images with LABEL_ERROR_COLUMNS, and `relabelled` (bool). Raises UserError.

    `relabelled`: fewer than three of its five annotators agree with the given label.
    """
    path = results / "label_errors.parquet"
    frame = read_table(path, dict.fromkeys(LABEL_ERROR_COLUMNS, "iu"), HUMANS_COMMAND)
    index, votes = frame["index"], frame.filter(like="votes_")
    if not (index.is_monotonic_increasing and index.is_unique and index.between(0, SPLIT_SIZES["test"] - 1).all()):
        raise UserError(f"{path} does not hold test images in order: run {HUMANS_COMMAND}")
    if not (frame[["given", "guessed"]].isin(range(len(CLASSES))).all(axis=None) and (votes >= 0).all(axis=None)):
        raise UserError(f"{path} holds classes or votes that cannot be: run {HUMANS_COMMAND}")
    return frame.assign(relabelled=frame["votes_given"] < 3)
