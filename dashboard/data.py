"""What the pages read: thin caches over core. A file that changes on disk is read again.

Large tables are cached as resources: all visitors share one and none may change it, where cached data would be copied for each.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from core import combine, findings, metrics, results, summaries
from core.config import BASELINES, CLASSES, ENSEMBLE, UserError
from core.findings import Finding, Headline
from core.results import Run
from core.results.files import stamp_file
from dashboard.selection import name_flows

SHARED = {  # files beside the runs -> what reads them
    "test_images.parquet": results.load_test_images,
    "human_votes.parquet": results.load_human_votes,
    "label_errors.parquet": results.load_label_errors,
    "near_duplicates.parquet": results.load_near_duplicates,
}


def stamp(folder: Path) -> tuple:
    """Changes when a file below `folder` does, hidden ones aside."""
    found, folders = [], [str(folder)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name[0] not in "._":
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        found.append((entry.path, *stamp_file(Path(entry.path))))
    return tuple(sorted(found))


def stamp_run(run: Run) -> tuple:
    """Changes when anything does that a table of the run rests on: its own files, or those beside the runs."""
    return str(run.path), stamp(run.path), *(stamp_file(results.RESULTS / name) for name in SHARED)


BY_STAMP = {  # how Streamlit's caches tell whether a run, or the test images, are still those they know
    Run: stamp_run,
    results.TestImages: lambda _: (str(results.RESULTS), stamp_file(results.RESULTS / "test_images.parquet")),
}


@lru_cache(maxsize=1000)  # Streamlit's own takes 2 ms to look a run up, and each visit opens all of them
def _open_run(path: Path, stamp: tuple) -> Run:  # noqa: ARG001 (part of the cache's key)
    return results.load_run(path)


def open_run(name: str) -> Run:
    """core.results.load_run, read again when its run.json changed. Raises UserError."""
    path = results.RESULTS / name
    return _open_run(path, stamp_file(path / "run.json"))


@st.cache_data(show_spinner=False, max_entries=1000, hash_funcs=BY_STAMP)
def find_fault(run: Run) -> str | None:
    """What is wrong with a run's files and the tables that every page needs; None where they are whole."""
    try:
        run = results.load_run(run.path)
        labels = load_images().labels
        for model in run.models:
            results.load_history(run, model)
        results.load_logits(run, "test", labels)
        results.load_logits(run, "val")
    except UserError as error:
        return str(error)


def check_runs(wanted: str | None = None) -> tuple[list[str], dict[str, str]]:
    """Names of the runs to choose from, and what is wrong with the others. Raises UserError without test images.

    All tables of 200 runs take 12 s to read: those of the run `wanted` and of the first are, of the others only run.json.
    """
    whole, damaged = [], {}
    names = results.find_runs(results.RESULTS)
    if names:
        load_images()
    for name in names:
        try:
            run = open_run(name)
            if (name == wanted or not whole) and (fault := find_fault(run)):
                raise UserError(fault)
            whole.append(name)
        except UserError as error:
            damaged[name] = str(error)
    return whole, damaged


def related_runs(run: Run) -> list[Run]:
    """core.results.find_related: what a page about one run need not read again when other runs change."""
    return results.find_related(run, [open_run(name) for name in check_runs(run.name)[0]])


def sibling_runs(run: Run) -> list[Run]:
    """core.results.find_seeds among the runs that are whole."""
    alike = [one for one in related_runs(run) if one.recipe == run.recipe and one.name != run.name]
    return results.find_seeds(run, [one for one in alike if not find_fault(one)])


@st.cache_resource(show_spinner=False, max_entries=2 * len(SHARED))
def _read_shared(name: str, root: Path, stamp: tuple) -> Any:  # noqa: ARG001 (part of the cache's key)
    return SHARED[name](root)


def read_shared(name: str) -> Any:
    """What the file `name` of SHARED holds. Raises UserError."""
    return _read_shared(name, results.RESULTS, stamp_file(results.RESULTS / name))


def load_images() -> results.TestImages:
    return read_shared("test_images.parquet")


def load_human_votes() -> np.ndarray | None:
    """core.results.load_human_votes; None without the file. Raises UserError."""
    return read_shared("human_votes.parquet") if (results.RESULTS / "human_votes.parquet").exists() else None


def load_label_errors() -> pd.DataFrame | None:
    """core.results.load_label_errors; None without the file. Raises UserError."""
    return read_shared("label_errors.parquet") if (results.RESULTS / "label_errors.parquet").exists() else None


def load_near_duplicates() -> pd.DataFrame | None:
    """core.results.load_near_duplicates; None without the file. Raises UserError."""
    return read_shared("near_duplicates.parquet") if (results.RESULTS / "near_duplicates.parquet").exists() else None


def check_shared() -> list[str]:
    """What is wrong with the optional files beside the runs, a line each."""
    faults = []
    for load in (load_human_votes, load_label_errors, load_near_duplicates):
        try:
            load()
        except UserError as error:
            faults.append(str(error))
    return faults


@st.cache_resource(show_spinner=False, max_entries=12, hash_funcs=BY_STAMP)
def load_predictions(run: Run) -> pd.DataFrame:
    """core.summaries.per_image, with `agree` (all trained models predict the same), `disagreement` (for sorting), and of the image
    `people` (share of human votes for the label), `relabelled` (its label is doubted) and `duplicated` (a training image is nearly
    the same): NaN and False where their files are missing or, as check_shared says, damaged.
    """
    predictions = summaries.per_image(run, load_images().labels)
    probabilities = predictions[[c for c in predictions if c.endswith("_confidence")]]
    predicted = predictions[[c for c in predictions if c.endswith("_predicted") and not c.startswith("ensemble")]]
    predictions["people"], predictions["relabelled"], predictions["duplicated"] = np.nan, False, False
    with suppress(UserError):
        if (votes := load_human_votes()) is not None:
            predictions["people"] = metrics.human_agreement(votes[predictions["index"]], predictions["label"].to_numpy())
    with suppress(UserError):
        if (doubted := load_label_errors()) is not None:
            predictions["relabelled"] = predictions["index"].isin(doubted["index"][doubted["relabelled"]])
    with suppress(UserError):
        if (pairs := load_near_duplicates()) is not None:
            predictions["duplicated"] = predictions["index"].isin(pairs["index"])
    different = 1 + (np.diff(np.sort(predicted.to_numpy(), axis=1), axis=1) > 0).sum(axis=1)  # classes an image is taken for
    predictions["agree"] = different == 1
    predictions["disagreement"] = different + probabilities.max(axis=1) - probabilities.min(axis=1)
    return predictions


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def load_summary(run: Run) -> pd.DataFrame:
    """core.summaries.per_model."""
    return summaries.per_model(run, load_images().labels)


def load_means(run: Run) -> tuple[pd.Series, int]:
    """Mean test accuracy of each model over the run's seeds that hold all three, and how many these are. Raises UserError.

    It is NaN of a control that some of them lack.
    """
    seeds = [one for one in sibling_runs(run) if one.whole]
    return findings.seed_accuracies(seeds).mean(skipna=False), len(seeds)


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def load_histories(run: Run) -> dict[str, pd.DataFrame]:
    """core.results.load_history of each model."""
    return {model: results.load_history(run, model) for model in run.models}


@st.cache_data(show_spinner=False, max_entries=100, hash_funcs=BY_STAMP)
def load_class_curves(run: Run, model: str) -> pd.DataFrame:
    """core.summaries.class_curves. Raises MissingFile, UserError."""
    return summaries.class_curves(run, model)


@st.cache_data(show_spinner=False, max_entries=100, hash_funcs=BY_STAMP)
def load_epoch_confusions(run: Run, model: str) -> np.ndarray:
    """core.summaries.epoch_confusions. Raises MissingFile, UserError."""
    return summaries.epoch_confusions(run, model)


@st.cache_resource(show_spinner=False, max_entries=12, hash_funcs=BY_STAMP)
def load_all_logits(run: Run) -> dict[str, np.ndarray]:
    """Logits (N, 10) of each model, and of the ensemble, on the test images."""
    return results.load_logits(run)[2]


def load_logits(run: Run, model: str) -> np.ndarray:
    """Logits (N, 10) of one model of a run, or of another (RUN/MODEL), on the test images."""
    other, _, own = model.rpartition("/")
    return load_all_logits(open_run(other) if other else run)[own]


@st.cache_data(show_spinner="Fitting temperatures …", hash_funcs=BY_STAMP)
def load_calibration(run: Run) -> pd.DataFrame:
    """core.summaries.calibration."""
    return summaries.calibration(run)


@st.cache_resource(show_spinner=False, max_entries=12, hash_funcs=BY_STAMP)
def load_embedding(run: Run, model: str) -> pd.DataFrame:
    """core.results.load_embedding with what the model predicted: label, predicted, confidence, correct. Raises UserError."""
    predictions = load_predictions(run).rename(columns=lambda name: name.removeprefix(f"{model}_"))
    return results.load_embedding(run, model).join(predictions[["label", "predicted", "confidence", "correct"]])


def rank_votes(index: int) -> list[tuple[str, float]]:
    """What people made of a test image: (class, share of votes), most frequent first; none without votes. Raises UserError."""
    if (counts := load_human_votes()) is None:
        return []
    votes = counts[index]
    return [(CLASSES[i], float(votes[i] / votes.sum())) for i in np.argsort(-votes, kind="stable") if votes[i]]


def models_elsewhere(run: Run) -> list[str]:
    """The models of all other runs that predicted as many test images, ensembles included, as RUN/MODEL."""
    others = [open_run(name) for name in check_runs(run.name)[0] if name != run.name]
    alike = [other for other in others if results.split_size(other, "test") == results.split_size(run, "test")]
    ensemble = {other.name: [ENSEMBLE] if other.has_baselines else [] for other in alike}
    return [f"{other.name}/{model}" for other in alike for model in (*other.models, *ensemble[other.name])]


def load_predictions_beside(run: Run, models: Iterable[str]) -> pd.DataFrame:
    """load_predictions with the columns of those `models` that are of other runs (RUN/MODEL), under that name. Raises UserError."""
    predictions = load_predictions(run)
    for other, _, model in (name.rpartition("/") for name in models):
        if other:
            if fault := find_fault(open_run(other)):
                raise UserError(fault)
            theirs = load_predictions(open_run(other))
            predictions = predictions.join(theirs[[name for name in theirs if name.startswith(f"{model}_")]].add_prefix(f"{other}/"))
    return predictions


def load_transitions(run: Run, before: list[str], after: str = "fusion") -> pd.DataFrame:
    """load_predictions_beside with `flow` (one of name_flows) and `gain` (core.metrics.transitions) of `after` against `before`."""
    predictions = load_predictions_beside(run, [*before, after])
    *start, end = (predictions[f"{model}_correct"].to_numpy() for model in (*before, after))
    code = np.ravel_multi_index([(~one).astype(int) for one in (*start, end)], (2,) * (len(before) + 1))
    return predictions.assign(flow=np.array(name_flows(before, after))[code], gain=metrics.transitions(end, *start))


@st.cache_data(show_spinner=False, max_entries=100)
def count_transitions(labels: np.ndarray, gain: np.ndarray) -> pd.DataFrame:
    """From labels and gains (N,) a row a class: class (name) and the columns of core.metrics.class_transitions."""
    return pd.DataFrame({"class": CLASSES, **metrics.class_transitions(labels, gain)})


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def _find_findings(run: Run, runs: list[Run], ids: tuple[str, ...] | None) -> list[Finding]:
    return findings.find_findings(run, runs, ids)


def load_findings(run: Run, ids: Iterable[str] | None = None) -> list[Finding]:
    """Claims tested on a run, all or those with these ids, with the runs beside it as its seeds and controls. Raises UserError."""
    return _find_findings(run, related_runs(run), None if ids is None else tuple(ids))


def load_headline(run: Run) -> Headline:
    """core.findings.write_headline. Raises UserError."""
    return findings.write_headline(run, load_findings(run, findings.HEADLINE))


@st.cache_data(show_spinner=False, max_entries=1000, hash_funcs=BY_STAMP)
def _list_ways(run: Run, others: list[Run], control: Run | None, reference: str = "") -> pd.DataFrame:
    return combine.list_ways(combine.find_ways(run, others, control), reference)


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def _list_pairs(run: Run, others: list[Run]) -> pd.DataFrame:
    return combine.list_pairs(run, others)


def list_ways(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """core.combine.list_ways, with the difference in every seed (`seeds`), and core.combine.list_pairs. Raises UserError."""
    related = related_runs(run)
    seeds = results.find_seeds(run, [one for one in related if one.has_baselines])
    others = {one.name: results.find_retrainings(one, related)[:1] for one in seeds}
    controls = {one.name: results.find_control(one, related) for one in seeds}
    table = _list_ways(run, others[run.name], controls[run.name])
    better = table.set_index("name")["val_accuracy"][list(BASELINES)].idxmax()  # of this run: the others' may be the other one
    tables = {one.name: _list_ways(one, others[one.name], controls[one.name], better) for one in seeds if one.name != run.name}
    tables[run.name] = table
    per_seed = pd.DataFrame({one.name: tables[one.name].set_index("name")["difference"] for one in seeds}).reindex(table["name"])
    known = [row.dropna().tolist() for _, row in per_seed.iterrows()]
    known = [values if group != combine.TWICE else [] for values, group in zip(known, table["group"], strict=True)]  # the same two twice
    table["seeds"] = [values if len(values) > 1 else [] for values in known]
    return table, _list_pairs(run, others[run.name])


OVERVIEW = (
    "accuracy-better",
    "accuracy-other",
    "accuracy-ensemble",
    "seeds-better",
    "seeds-other",
    "seeds-ensemble",
    "comparable",
    "head-mean",
    "twice",
    "classes",
    "branch-heads",
    "robustness",
)


def read_ahead() -> None:
    """Fill the caches with what the first page shows of the first run. A damaged file is for the visit to report."""
    with suppress(UserError):
        for name in check_runs()[0][:1]:
            run = open_run(name)
            load_summary(run)
            load_predictions(run)
            load_headline(run)
            load_findings(run, OVERVIEW)


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def load_robustness(run: Run) -> pd.DataFrame:
    """core.summaries.robustness."""
    return summaries.robustness(run)


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def load_corruption_errors(run: Run) -> pd.DataFrame:
    """core.summaries.corruption_errors."""
    return summaries.corruption_errors(run)


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def count_blank_maps(run: Run, model: str, method: str) -> dict[str, tuple[int, int]]:
    """Of a model's maps that ship: how many show nothing, and how many there are, by part. None where none ship. Raises UserError."""
    with suppress(results.MissingFile):
        maps = results.load_attributions(run, model).maps.get(method, {})
        return {part: (int((~values.any(axis=(1, 2))).sum()), len(values)) for part, values in maps.items()}
    return {}


@st.cache_data(show_spinner=False, hash_funcs=BY_STAMP)
def load_branches(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """`contribution` (10000,) and `ablated` logits (10000, 10) of each branch of the fusion. Raises UserError where not computed."""
    computed = (run.path / "fusion" / "attributions.npz").exists()
    branches = results.load_attributions(run, "fusion").branches if computed else {}
    if not branches:
        command = results.command("explain.py", run.path, "--model", "fusion", "--errors", "--branches")
        raise results.MissingFile(f"What each branch carries over the test set is not computed: run {command}")
    return branches
