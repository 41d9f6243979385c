"""Which images a page shows, and in which order: outcomes, filters, transitions, and a choice of images as text for the URL.

Pure functions of a run's predictions (data.load_predictions); nothing is cached here.
"""

import base64
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from core.config import BASELINES, CLASSES, TRIO, UserError, label

OUTCOMES = {  # what the models made of an image -> which rows of the predictions
    "everything": lambda a, model: np.ones(len(a), bool),
    "model wrong": lambda a, model: ~a[f"{model}_correct"],
    "model correct": lambda a, model: a[f"{model}_correct"],
    "any wrong": lambda a, model: ~a[correct_columns(a)].all(axis=1),
    "all wrong": lambda a, model: ~a[correct_columns(a)].any(axis=1),
    "all correct": lambda a, model: a[correct_columns(a)].all(axis=1),
    "only fusion wrong": lambda a, model: ~a["fusion_correct"] & a[[f"{b}_correct" for b in BASELINES]].all(axis=1),
    "only baselines wrong": lambda a, model: a["fusion_correct"] & ~a[[f"{b}_correct" for b in BASELINES]].any(axis=1),
}
AGREEMENTS = ("any", "models agree", "models disagree")
SORTS = {  # order of a gallery -> column and direction
    "most confident first": ("{}_confidence", False),
    "least confident first": ("{}_confidence", True),
    "highest loss first": ("{}_loss", False),
    "smallest margin first": ("{}_margin", True),
    "most disagreement first": ("disagreement", False),
    "people least sure first": ("people", True),
    "index": ("index", True),
}


def correct_columns(predictions: pd.DataFrame) -> list[str]:
    """The `_correct` columns of the trained models."""
    return [c for c in predictions if c.endswith("_correct") and not c.startswith("ensemble")]


def available_outcomes(predictions: pd.DataFrame) -> list[str]:
    """The OUTCOMES a run can tell: those about fusion against the baselines need all three."""
    whole = {f"{model}_correct" for model in TRIO} <= set(predictions)
    return [name for name in OUTCOMES if whole or not name.startswith("only")]


def select_images(predictions: pd.DataFrame, model: str, true: list[str] = (), predicted: list[str] = (), sort: str = "index") -> pd.Index:
    """Labels of the rows of `predictions` that fit every choice, in order: a page keeps these, not the rows. No class means all classes.

    The Errors page asks for more: dashboard.filters.
    """
    keep = pd.Series(True, predictions.index)
    if true:
        keep = keep & predictions["label"].isin([CLASSES.index(name) for name in true])
    if predicted:
        keep = keep & predictions[f"{model}_predicted"].isin([CLASSES.index(name) for name in predicted])
    column, ascending = SORTS[sort]
    return predictions.loc[keep, column.format(model)].sort_values(ascending=ascending, kind="stable").index


def sample_classes(predictions: pd.DataFrame, n: int) -> dict[str, list[int]]:
    """Up to `n` images of each class that has any, drawn at random but the same every time: class -> indices."""
    drawn = predictions.sample(frac=1, random_state=0).groupby("label").head(n).sort_values("label", kind="stable")
    return {CLASSES[label]: rows.tolist() for label, rows in drawn.groupby("label")["index"]}


def drawn_images(points: Sequence[Mapping]) -> list[int]:
    """Indices of the images whose marks a visitor drew around: a mark's customdata, which the ring around one has not."""
    return [point["customdata"] for point in points if "customdata" in point]


def describe_prediction(row: pd.Series, model: str) -> str:
    """An image in words: 'true cat, predicted dog, 0.93'."""
    return say_prediction(row["label"], row[f"{model}_predicted"], row[f"{model}_confidence"])


def say_prediction(label: int, predicted: int, confidence: float) -> str:
    return f"true {CLASSES[label]}, predicted {CLASSES[predicted]}, {confidence:.2f}"


def available_references(others: list[str]) -> dict[str, list[str]]:
    """What a model can be compared with: name -> models; the two baselines together first, where `others` holds both."""
    both = {"both baselines": list(BASELINES)} if set(BASELINES) <= set(others) else {}
    return both | {model: [model] for model in others}


def name_states(before: list[str]) -> list[str]:
    """What the models `before` (one or two) can be, from all correct to all wrong."""
    if len(before) == 1:
        return [f"{before[0]} correct", f"{before[0]} wrong"]
    return ["both correct", *(f"only {model} correct" for model in before), "both wrong"]


def name_flows(before: list[str], after: str = "fusion") -> list[str]:
    """All the ways from the models `before` to `after`: two for each of name_states."""
    return [f"{state}, {after} {end}" for state in name_states(before) for end in ("correct", "wrong")]


def share_branches(predictions: pd.DataFrame, contributions: dict[str, np.ndarray], by: str) -> pd.DataFrame:
    """Mean contribution of each branch: a row a class, or an outcome (fixed, broken, other correct, other wrong)."""
    if by == "class":
        group = predictions["label"].map(dict(enumerate(CLASSES)))
    else:
        correct, both = predictions["fusion_correct"], predictions[[f"{b}_correct" for b in BASELINES]]
        group = correct.map({True: "other correct", False: "other wrong"})
        group = group.mask(correct & ~both.any(axis=1), "fixed").mask(~correct & both.all(axis=1), "broken")
    return pd.DataFrame(contributions).groupby(group.to_numpy()).mean().rename_axis("group").reset_index()


def pack_images(indices: list[int], n: int) -> str:
    """A set of the first `n` test images as text for the URL: a bit an image, compressed."""
    bits = np.zeros(n, bool)
    bits[indices] = True
    return base64.urlsafe_b64encode(zlib.compress(np.packbits(bits).tobytes(), 9)).decode()


def unpack_images(text: str, n: int) -> np.ndarray:
    """The indices that pack_images wrote. Raises UserError on any other text."""
    length = -(-n // 8)
    try:
        packed = zlib.decompressobj().decompress(base64.urlsafe_b64decode(text), length + 1)
    except (ValueError, zlib.error):
        packed = b""
    if len(packed) != length:
        raise UserError("The address names no selection of images that this run knows: choose one anew.")
    return np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8), count=n))


def pick_subject(models: list[str]) -> str:
    """The model a run is about."""
    return "fusion" if "fusion" in models else models[-1]


def pick_images(predictions: pd.DataFrame, models: list[str], n: int) -> dict[str, pd.DataFrame]:
    """Images that tell most, at most `n` of a kind: title -> rows of the predictions. A run without the three compared has only errors."""
    model = pick_subject(models)
    wrong = predictions[~predictions[f"{model}_correct"]]
    picked = {f"Hardest: where {label(model)} is most wrong": wrong.nlargest(n, f"{model}_loss")}
    if set(TRIO) <= set(models):
        correct, baselines = predictions["fusion_correct"], predictions[[f"{baseline}_correct" for baseline in BASELINES]]
        kinds = {
            "Fixed against both: both baselines wrong, fusion correct": correct & ~baselines.any(axis=1),
            "Broken against both: both baselines correct, fusion wrong": ~correct & baselines.all(axis=1),
        }
        picked |= {title: predictions[mine].nlargest(n, "fusion_confidence") for title, mine in kinds.items()}
    return picked
