"""Where errors concentrate: images that have something in common, and how often a model is wrong on them. No torch here.

A search over many slices finds one that looks bad by chance. So each slice's interval is the exact one (Clopper & Pearson 1934)
at the level divided by the number of slices looked at (Bonferroni): all of them hold together with at least the probability asked for.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import beta

from core.config import CLASSES

FIFTHS = ("lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth")
PEOPLE_EDGES = (0.0, 0.6, 0.8, 0.9, 1.0)  # of the share of people who chose the label; the last bin is all of them
PIXELS = ("brightness", "contrast", "colour", "detail")
BINS = {  # attribute -> the words for its bins; clusters have no names of their own
    "class": CLASSES,
    **dict.fromkeys(PIXELS, FIFTHS),
    "people": ("below 60 %", "60 to 80 %", "80 to 90 %", "90 to below 100 %", "all"),
    "cluster": (),
}
CLUSTERS = 20


def measure_pixels(images: np.ndarray) -> pd.DataFrame:
    """Of uint8 images (N, 32, 32, 3): brightness (mean grey), contrast (its standard deviation), colour (mean spread of the three
    channels) and detail (mean step between neighbouring grey pixels), each 0 to 1.
    """
    scaled = images.astype(np.float32) / 255
    grey = scaled @ np.array([0.299, 0.587, 0.114], np.float32)  # (N, 32, 32)
    steps = [np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2)]
    columns = (grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), np.ptp(scaled, axis=3).mean(axis=(1, 2)), (steps[0] + steps[1]) / 2)
    return pd.DataFrame(dict(zip(PIXELS, columns, strict=True)))


def cut_fifths(values: np.ndarray) -> np.ndarray:
    """Which fifth of all values each one lies in, 0 to 4; equal values share one."""
    return np.searchsorted(np.quantile(values, (0.2, 0.4, 0.6, 0.8)), values, side="right")


def cut_people(agreement: np.ndarray) -> np.ndarray:
    """The bin of BINS["people"] of each share (N,); -1 where nobody was asked (NaN)."""
    return np.where(np.isnan(agreement), -1, np.searchsorted(PEOPLE_EDGES, np.nan_to_num(agreement), side="right") - 1)


def cluster_features(features: np.ndarray, clusters: int = CLUSTERS) -> np.ndarray:
    """Which of k-means' clusters each image's features (N, D) lie in; numbered from the largest cluster down."""
    from sklearn.cluster import KMeans

    found = KMeans(min(clusters, len(features)), random_state=0, n_init=1).fit_predict(features)
    return np.argsort(np.argsort(-np.bincount(found), kind="stable"))[found]


def learning_events(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From bool (epochs, N): the first epoch each image is predicted correctly, from 1 (epochs + 1: never), and how often it was
    forgotten, that is correct after one epoch and wrong after the next (Toneva et al. 2019).
    """
    first = np.where(correct.any(axis=0), correct.argmax(axis=0) + 1, len(correct) + 1)
    return first, (correct[:-1] & ~correct[1:]).sum(axis=0)


def find_slices(bins: dict[str, np.ndarray], wrong: np.ndarray, least: int = 50, confidence: float = 0.95) -> pd.DataFrame:
    """Every slice by one attribute or two, of at least `least` images, the surest to be bad first.

    `bins`: attribute -> integer bin of each image (N,), -1 for none; `wrong`: bool (N,). Columns: slice (a tuple of
    "attribute:bin"), images, errors, error_rate, and low and high, the interval that holds for all slices together.
    """
    sizes = {name: int(codes.max()) + 1 for name, codes in bins.items()}
    found: list[tuple[tuple[str, ...], np.ndarray, tuple[int, ...]]]  # attributes, a bin an image, bins an attribute
    found = [((name,), codes, (sizes[name],)) for name, codes in bins.items()]
    for (a, first), (b, second) in combinations(bins.items(), 2):
        both = np.where((first < 0) | (second < 0), -1, first * sizes[b] + second)
        found.append(((a, b), both, (sizes[a], sizes[b])))
    rows = []
    for names, codes, shape in found:
        known = codes >= 0
        images = np.bincount(codes[known], minlength=int(np.prod(shape)))
        errors = np.bincount(codes[known & wrong], minlength=int(np.prod(shape)))
        for code in np.flatnonzero(images >= least):
            place = np.unravel_index(code, shape)
            rows.append((tuple(f"{name}:{i}" for name, i in zip(names, place, strict=True)), int(images[code]), int(errors[code])))
    table = pd.DataFrame(rows, columns=["slice", "images", "errors"])
    table["error_rate"] = table["errors"] / table["images"]
    tail, errors, right = (1 - confidence) / max(len(rows), 1) / 2, table["errors"], table["images"] - table["errors"]
    table["low"] = np.where(errors > 0, beta.ppf(tail, errors, right + 1), 0.0)  # which is not defined where there are none
    table["high"] = np.where(right > 0, beta.ppf(1 - tail, errors + 1, right), 1.0)
    return table.sort_values(["low", "images"], ascending=[False, False], ignore_index=True)


def name_slice(text: str) -> str:
    """'brightness:0' in words: 'brightness: lowest fifth'."""
    attribute, number = text.rsplit(":", 1)
    words = BINS[attribute]
    if attribute == "people":
        return f"{words[int(number)]} of people agree" if int(number) < len(words) else text
    return f"{attribute} {number}" if not words else f"{attribute}: {words[int(number)]}" if int(number) < len(words) else text
