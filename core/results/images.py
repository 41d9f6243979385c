"""What is known of the CIFAR-10 images themselves: the tables at the top of the results. Each write stands beside its read."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from core.config import CLASSES, UserError
from core.results.files import RESULTS, command, say_why
from core.results.run import SPLIT_SIZES
from core.results.schema import LABEL_ERROR_COLUMNS, read_table, write_table

HUMANS_COMMAND = command("human_votes.py", "--help")
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 32, 32)  # how a PNG file of this size begins
TRAINING_IMAGES = 50_000  # of torchvision's training split, validation images among them


@dataclass(frozen=True)
class TestImages:
    """The test split: labels (N,) and PNG bytes in order; all 10,000 unless someone gave fewer."""

    __test__ = False  # not a pytest class

    labels: np.ndarray
    png: np.ndarray  # (N,) object

    def decode(self, index: int) -> np.ndarray:
        """One image as uint8 (32, 32, 3). Raises UserError."""
        try:
            return np.asarray(Image.open(io.BytesIO(self.png[index])).convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:  # as Pillow's damaged PNGs do
            raise UserError(f"test image {index} cannot be read ({say_why(error)}): write test_images.parquet anew") from None


def write_test_images(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """test_images.parquet from uint8 images (N, 32, 32, 3) and labels (N,)."""
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
        encoded.append(buffer.getvalue())
    write_table(path, pd.DataFrame({"index": np.arange(len(labels)), "label": labels, "image": encoded}), "test_images.parquet")


def load_test_images(results: Path = RESULTS) -> TestImages:
    """test_images.parquet. Raises MissingFile, UserError."""
    path, repair = results / "test_images.parquet", command("evaluate.py", "--images", *([results] if results != RESULTS else []))
    frame = read_table(path, repair).sort_values("index", ignore_index=True)
    if not 0 < len(frame) <= SPLIT_SIZES["test"] or list(frame["index"]) != list(range(len(frame))):
        raise UserError(f"{path} does not hold the test images, each once, from the first on: run {repair}")
    if not frame["label"].between(0, len(CLASSES) - 1).all():
        raise UserError(f"{path}: column label should hold classes, 0 to {len(CLASSES) - 1}: run {repair}")
    if not all(png.startswith(PNG) for png in frame["image"]):
        raise UserError(f"{path}: column image should hold PNG files of 32x32 pixels: run {repair}")
    return TestImages(frame["label"].to_numpy(), frame["image"].to_numpy())


def write_human_votes(path: Path, counts: np.ndarray) -> None:
    """human_votes.parquet from counts (10000, 10): how many people chose each class for each test image."""
    frame = pd.DataFrame(counts, columns=CLASSES)
    write_table(path, frame.assign(index=np.arange(len(counts))), "human_votes.parquet")


def load_human_votes(results: Path = RESULTS) -> np.ndarray:
    """human_votes.parquet: counts (10000, 10) of the people who chose each class for each test image. Raises MissingFile, UserError."""
    path = results / "human_votes.parquet"
    frame = read_table(path, HUMANS_COMMAND).sort_values("index")
    counts = frame[list(CLASSES)].to_numpy()
    if list(frame["index"]) != list(range(SPLIT_SIZES["test"])) or counts.min() < 0 or counts.sum(axis=1).min() == 0:
        raise UserError(f"{path} does not hold votes on each of the 10,000 test images: run {HUMANS_COMMAND}")
    return counts


def write_label_errors(path: Path, rows: list[dict[str, int]]) -> None:
    """label_errors.parquet from dicts with LABEL_ERROR_COLUMNS: a row a doubted test image."""
    write_table(path, pd.DataFrame(rows, columns=LABEL_ERROR_COLUMNS).sort_values("index"), "label_errors.parquet")


def load_label_errors(results: Path = RESULTS) -> pd.DataFrame:
    """label_errors.parquet: the doubted test images with LABEL_ERROR_COLUMNS, and `relabelled` (bool). Raises MissingFile, UserError.

    `relabelled`: fewer than three of its five annotators agree with the given label.
    """
    path = results / "label_errors.parquet"
    frame = read_table(path, HUMANS_COMMAND).sort_values("index", ignore_index=True)
    index, votes = frame["index"], frame.filter(like="votes_")
    if not (index.is_unique and index.between(0, SPLIT_SIZES["test"] - 1).all()):
        raise UserError(f"{path} does not hold test images, each once: run {HUMANS_COMMAND}")
    if not (frame[["given", "guessed"]].isin(range(len(CLASSES))).all(axis=None) and (votes >= 0).all(axis=None)):
        raise UserError(f"{path} holds classes or votes that cannot be: run {HUMANS_COMMAND}")
    return frame.assign(relabelled=frame["votes_given"] < 3)


def write_near_duplicates(path: Path, pairs: pd.DataFrame) -> None:
    """near_duplicates.parquet: a row a pair of a test image and a training image much like it."""
    write_table(path, pairs.sort_values(["index", "train_index"]), "near_duplicates.parquet")


def load_near_duplicates(results: Path = RESULTS) -> pd.DataFrame:
    """near_duplicates.parquet: index (test), train_index, similarity, kind; by index. Raises MissingFile, UserError."""
    path, repair = results / "near_duplicates.parquet", command("duplicates.py", "--help")
    frame = read_table(path, repair).sort_values(["index", "train_index"], ignore_index=True)
    if not (frame["index"].between(0, SPLIT_SIZES["test"] - 1).all() and frame["train_index"].between(0, TRAINING_IMAGES - 1).all()):
        raise UserError(f"{path} names images that there are not: run {repair}")
    return frame
