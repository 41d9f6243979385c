"""What is known of each test image beyond the predictions: how it looks, where its features lie, how it was learned.

Each is computed when first asked for: not every run holds the files, and not every visitor asks.
"""

import numpy as np
import pandas as pd
import streamlit as st

from core import results, slices
from core.config import CLASSES, UserError
from core.results import Run, TestImages
from dashboard import data, selection, theme
from dashboard.filters import Trait

NAMES = ("seeds", "learned", "forgotten", *slices.BINS)


@st.cache_resource(show_spinner="Measuring the images …", max_entries=2, hash_funcs=data.BY_STAMP)
def measure_images(images: TestImages) -> pd.DataFrame:
    """core.slices.measure_pixels of the test images."""
    return slices.measure_pixels(np.stack([images.decode(i) for i in range(len(images.png))]))


@st.cache_resource(show_spinner=False, max_entries=12, hash_funcs=data.BY_STAMP)
def load_features(run: Run, model: str) -> np.ndarray:
    """core.results.load_features. Raises UserError; MissingFile where the run has none."""
    return results.load_features(run, model)


@st.cache_resource(show_spinner="Grouping the images by their features …", max_entries=12, hash_funcs=data.BY_STAMP)
def cluster_images(run: Run) -> np.ndarray:
    """core.slices.cluster_features of the features of the run's subject (selection.pick_subject): the same groups for every model.

    Raises UserError; MissingFile where the run has none.
    """
    return slices.cluster_features(load_features(run, selection.pick_subject(run.models)))


def name_slice(run: Run, text: str) -> str:
    """core.slices.name_slice; "cluster:3" is "features 3 (mostly cat and dog)". Raises UserError as load_trait does."""
    attribute, number = text.rsplit(":", 1)
    if attribute != "cluster":
        return slices.name_slice(text)
    labels = data.load_predictions(run)["label"][cluster_images(run) == int(number)]
    return f"features {number} (mostly {' and '.join(CLASSES[label] for label in labels.value_counts().index[:2]) or 'none'})"


@st.cache_resource(show_spinner=False, max_entries=12, hash_funcs=data.BY_STAMP)
def load_learning(run: Run, model: str) -> tuple[np.ndarray, np.ndarray]:
    """core.slices.learning_events of the test images. Raises UserError; MissingFile where the run has no epoch_correct.csv."""
    correct = results.load_epoch_correct(run, model)
    if "test" not in correct:
        raise UserError(f"{run.path / model / 'epoch_correct.csv'} holds no test images, so how they were learned is not known.")
    return slices.learning_events(correct["test"])


def pick_trained(run: Run, model: str) -> str:
    """The model itself, or where it was never trained, as the ensemble, the run's subject in its place."""
    return model if model in run.models else selection.pick_subject(run.models)


def load_trait(run: Run, model: str, name: str) -> np.ndarray:
    """One of NAMES for each test image (N,); of learning, fusion's stands in for the ensemble's (see selection.pick_subject).

    seeds: share of the run's seeds in which `model` is wrong. learned, forgotten: core.slices.learning_events. The rest: bins of
    core.slices.BINS. Raises UserError where the run does not hold what it takes.
    """
    if name == "class":
        return data.load_predictions(run)["label"].to_numpy()
    if name in slices.PIXELS:
        held = data.load_predictions(run)["index"]  # a run may hold fewer test images than there are
        return slices.cut_fifths(measure_images(data.load_images())[name].to_numpy()[held])
    if name == "people":
        return slices.cut_people(data.load_predictions(run)["people"].to_numpy())
    if name == "cluster":
        return cluster_images(run)
    if name == "seeds":
        wrong = [~data.load_predictions(one)[f"{model}_correct"].to_numpy() for one in data.sibling_runs(run) if model_in(one, model)]
        if len(wrong) < 2:
            raise UserError(f"Of {theme.label(model)} there is one seed: in how many it is wrong is not known.")
        return np.mean(wrong, axis=0)
    return load_learning(run, pick_trained(run, model))[0 if name == "learned" else 1]


def model_in(run: Run, model: str) -> bool:
    return f"{model}_correct" in data.load_predictions(run)


def count_seeds(run: Run, model: str) -> int:
    """Of how many of the run's seeds there are predictions of a model."""
    return sum(model_in(one, model) for one in data.sibling_runs(run))


def find_traits(run: Run, model: str) -> Trait:
    """load_trait of a run and a model, by name alone."""
    return lambda name: load_trait(run, model, name)


def nearest_images(run: Run, model: str, index: int, n: int = 6) -> tuple[np.ndarray, str]:
    """The `n` test images nearest to image `index` for a model, and by what: its features, or its 2-D map where those are missing."""
    try:
        points, by = load_features(run, model), "features"
    except results.MissingFile:
        points, by = data.load_embedding(run, model)[["x", "y"]].to_numpy(), "embedding map (this run keeps no features)"
    distance = ((points - points[index]) ** 2).sum(axis=1)
    distance[index] = np.inf
    return np.argsort(distance)[:n], by


def describe_duplicates(index: int) -> list[str]:
    """A line for each training image that is nearly a test image; none where nobody looked for them. Raises UserError."""
    if (found := data.load_near_duplicates()) is None:
        return []
    words = {"exact": "the same image", "near": "nearly the same image"}
    return [f"≈ training image {row.train_index} is {words[row.kind]}" for row in found[found["index"] == index].itertuples()]
