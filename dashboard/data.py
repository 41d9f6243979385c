"""What the pages read: thin caches over core. A file that changes on disk is read again.

Large tables are cached as resources: all visitors share one and none may change it, where cached data would be copied for each.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from core import findings, metrics, results, summaries
from core.config import BASELINES, CLASSES, UserError
from core.findings import Finding
from core.results import Run
from core.robustness import group_conditions, list_conditions
from dashboard.selection import name_flows

PEOPLE = ("human_votes.parquet", "label_errors.parquet")


def stamp(folder: Path) -> tuple:
    """Changes when a file below `folder` does."""
    return tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*")) if p.is_file())


def stamp_file(path: Path) -> tuple[int, int] | None:
    """Changes when the file does; None where there is none."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


def open_run(name: str) -> Run:
    return results.load_run(results.RESULTS / name)


@st.cache_data(show_spinner=False)
def _check_runs(root: Path, stamp: tuple) -> tuple[list[str], dict[str, str]]:
    whole, damaged = [], {}
    names = results.find_runs(root)
    labels = load_images().labels if names else None
    for name in names:
        try:
            run = results.load_run(root / name)
            for model in run.models:
                results.load_history(run, model)
                for split in ("val", "test"):
                    results.load_predictions(run, model, split, labels if split == "test" else None)
            whole.append(name)
        except UserError as error:
            damaged[name] = str(error)
    return whole, damaged


def check_runs() -> tuple[list[str], dict[str, str]]:
    """Names of the runs whose tables are whole, and what is wrong with the others."""
    return _check_runs(results.RESULTS, stamp(results.RESULTS))


@st.cache_resource(show_spinner=False, max_entries=12)
def _load_answers(path: Path, stamp: tuple) -> pd.DataFrame:
    answers = summaries.per_image(results.load_run(path), load_images().labels)
    probabilities = answers[[c for c in answers if c.endswith("_confidence")]]
    predicted = answers[[c for c in answers if c.endswith("_predicted") and not c.startswith("ensemble")]]
    answers["people"], answers["relabelled"] = np.nan, False
    if (votes := load_human_votes()) is not None:
        answers["people"] = metrics.human_agreement(votes[answers["index"]], answers["label"].to_numpy())
    if (results.RESULTS / "label_errors.parquet").exists():
        doubted = results.load_label_errors(results.RESULTS)
        answers["relabelled"] = answers["index"].isin(doubted["index"][doubted["relabelled"]])
    different = 1 + (np.diff(np.sort(predicted.to_numpy(), axis=1), axis=1) > 0).sum(axis=1)  # answers an image gets
    answers["agree"] = different == 1
    answers["disagreement"] = different + probabilities.max(axis=1) - probabilities.min(axis=1)
    return answers


def load_answers(run: Run) -> pd.DataFrame:
    """core.summaries.per_image, with `agree` (all trained models predict the same), `disagreement` (for sorting), and of the image
    `people` (share of human votes for the label; NaN without human_votes.parquet) and `relabelled` (its label is doubted).
    """
    return _load_answers(run.path, (*stamp(run.path), *(stamp_file(results.RESULTS / name) for name in PEOPLE)))


@st.cache_data(show_spinner=False)
def _load_history(path: Path, model: str, stamp: tuple) -> pd.DataFrame:
    return results.load_history(results.load_run(path), model)


def load_histories(run: Run) -> dict[str, pd.DataFrame]:
    return {model: _load_history(run.path, model, stamp(run.path)) for model in run.models}


@st.cache_resource(show_spinner=False, max_entries=12)
def _load_logits(path: Path, stamp: tuple) -> dict[str, np.ndarray]:
    return results.load_logits(results.load_run(path))[2]


def load_logits(run: Run, model: str) -> np.ndarray:
    """Logits (10000, 10) of a model, or of the ensemble, on the test images."""
    return _load_logits(run.path, stamp(run.path))[model]


@st.cache_data(show_spinner="Fitting temperatures …")
def _load_calibration(path: Path, stamp: tuple) -> pd.DataFrame:
    run = results.load_run(path)
    _, labels, logits = results.load_logits(run)
    _, val_labels, val_logits = results.load_logits(run, "val")
    rows = {}
    for model, values in logits.items():
        temperature = metrics.fit_temperature(val_labels, val_logits[model])
        correct = values.argmax(axis=1) == labels
        row = {"temperature": temperature}
        for when, scaled in (("", values), (" with temperature", values / temperature)):
            confidence = metrics.softmax(scaled).max(axis=1)
            row[f"calibration error{when}"] = metrics.calibration_error(confidence, correct)
            row[f"NLL{when}"] = metrics.cross_entropy(labels, scaled).mean()
        row["Brier"] = metrics.brier_scores(labels, values).mean()
        row["AURC"] = metrics.risk_coverage(metrics.softmax(values).max(axis=1), correct)[1].mean()
        rows[model] = row
    return pd.DataFrame(rows).T


def load_calibration(run: Run) -> pd.DataFrame:
    """A row a model, the ensemble included: temperature, calibration error and NLL before and after, Brier, AURC."""
    return _load_calibration(run.path, stamp(run.path))


@st.cache_resource(show_spinner=False, max_entries=12)
def _load_embedding(path: Path, model: str, stamp: tuple) -> pd.DataFrame:
    run = results.load_run(path)
    answers = load_answers(run).rename(columns=lambda name: name.removeprefix(f"{model}_"))
    return results.load_embedding(run, model).join(answers[["label", "predicted", "confidence", "correct"]])


def load_embedding(run: Run, model: str) -> pd.DataFrame:
    """core.results.load_embedding with what the model answered: label, predicted, confidence, correct."""
    return _load_embedding(run.path, model, stamp(run.path))


@st.cache_resource(show_spinner=False, max_entries=1)
def _load_images(root: Path, stamp: tuple | None) -> results.TestImages:
    return results.load_test_images(root)


def load_images() -> results.TestImages:
    return _load_images(results.RESULTS, stamp_file(results.RESULTS / "test_images.parquet"))


@st.cache_resource(show_spinner=False, max_entries=1)
def _load_human_votes(root: Path, stamp: tuple) -> np.ndarray:
    return results.load_human_votes(root)


def load_human_votes() -> np.ndarray | None:
    """core.results.load_human_votes; None without the file. Raises UserError."""
    stamp = stamp_file(results.RESULTS / "human_votes.parquet")
    return _load_human_votes(results.RESULTS, stamp) if stamp else None


def rank_votes(index: int) -> list[tuple[str, float]]:
    """What people made of a test image: (class, share of votes), most frequent first; none without votes. Raises UserError."""
    if (counts := load_human_votes()) is None:
        return []
    votes = counts[index]
    return [(CLASSES[i], float(votes[i] / votes.sum())) for i in np.argsort(-votes, kind="stable") if votes[i]]


def nearest_images(run: Run, model: str, index: int, n: int = 6) -> np.ndarray:
    """Positions (n,) of the test images nearest to image `index` on a model's 2-D embedding map."""
    xy = load_embedding(run, model)[["x", "y"]].to_numpy()
    distance = ((xy - xy[index]) ** 2).sum(axis=1)
    distance[index] = np.inf
    return np.argsort(distance)[:n]


def sibling_runs(run: Run) -> list[Run]:
    """All whole runs with this run's recipe and start weights, in order of their seeds."""
    runs = [open_run(name) for name in check_runs()[0]]
    same = [r for r in runs if all(r.record[key] == run.record[key] for key in ("recipe", "start_weights"))]
    return sorted(same, key=lambda r: r.record["seed"])


@st.cache_data(show_spinner=False)
def _load_summary(path: Path, stamp: tuple) -> pd.DataFrame:
    return summaries.per_model(results.load_run(path), load_images().labels)


def load_summary(run: Run) -> pd.DataFrame:
    return _load_summary(run.path, stamp(run.path))


@st.cache_resource(show_spinner=False, max_entries=12)
def _load_transitions(path: Path, before: tuple[str, ...], stamp: tuple) -> pd.DataFrame:
    answers = load_answers(results.load_run(path))
    *start, after = (answers[f"{model}_correct"].to_numpy() for model in (*before, "fusion"))
    code = np.ravel_multi_index([(~one).astype(int) for one in (*start, after)], (2,) * (len(before) + 1))
    return answers.assign(flow=np.array(name_flows(list(before)))[code], gain=metrics.transitions(after, *start))


def load_transitions(run: Run, before: list[str]) -> pd.DataFrame:
    """The run's answers with `flow` (one of name_flows) and `gain` (core.metrics.transitions) of fusion against `before`."""
    return _load_transitions(run.path, tuple(before), stamp(run.path))


@st.cache_data(show_spinner=False)
def _count_transitions(path: Path, before: tuple[str, ...], stamp: tuple) -> pd.DataFrame:
    rows = load_transitions(results.load_run(path), list(before))
    return pd.DataFrame({"class": CLASSES, **metrics.class_transitions(rows["label"].to_numpy(), rows["gain"].to_numpy())})


def count_transitions(run: Run, before: list[str]) -> pd.DataFrame:
    """Fusion against the models `before`, a row a class: class (name) and the columns of core.metrics.class_transitions."""
    return _count_transitions(run.path, tuple(before), stamp(run.path))


@st.cache_data(show_spinner=False)
def _load_findings(path: Path, seeds: tuple[Path, ...], slow: bool, stamps: tuple) -> tuple[str, list[Finding]]:
    run = results.load_run(path)
    found = findings.find_findings(run, [results.load_run(seed) for seed in seeds], slow)
    return findings.write_headline(run, found), found


def load_findings(run: Run, slow: bool = True) -> tuple[str, list[Finding]]:
    """The headline, and every statement that may be made of a run and its sibling seeds; see core.findings for `slow`."""
    seeds = tuple(sibling.path for sibling in sibling_runs(run))
    return _load_findings(run.path, seeds, slow, stamp(results.RESULTS))


def read_ahead() -> None:
    """Fill the caches with what the first page shows of the first run. A damaged file is for the visit to report."""
    with suppress(UserError):
        for name in check_runs()[0][:1]:
            run = open_run(name)
            load_summary(run)
            load_answers(run)
            load_findings(run, slow=False)


@st.cache_data(show_spinner=False)
def _load_robustness(path: Path, stamp: tuple) -> tuple[pd.DataFrame, pd.DataFrame]:
    run = results.load_run(path)
    names = [*run.models, *(["ensemble"] if set(BASELINES) <= set(run.models) else [])]
    correct = {model: results.load_robustness(run, model) for model in names}
    conditions = pd.DataFrame(list_conditions(), columns=["corruption", "severity"])
    tables = [conditions.assign(model=model, accuracy=rows.mean(axis=1), images=rows.shape[1]) for model, rows in correct.items()]
    errors = pd.DataFrame({"model": names, "clean": [rows[0].mean() for rows in correct.values()]})
    errors["corrupted"] = [rows[1:].mean() for rows in correct.values()]
    if "resnet18" in correct:
        relative = [metrics.corruption_error(group_conditions(rows), group_conditions(correct["resnet18"])) for rows in correct.values()]
        errors["mce"], errors["low"], errors["high"] = zip(*((value, *interval) for value, interval in relative), strict=True)
    return pd.concat(tables), errors


def load_robustness(run: Run) -> pd.DataFrame:
    """A row a model, the ensemble included, and condition: corruption, severity, model, accuracy, images. Raises UserError."""
    return _load_robustness(run.path, stamp(run.path))[0]


def load_corruption_errors(run: Run) -> pd.DataFrame:
    """A row a model: accuracy clean and corrupted, mean corruption error relative to ResNet18 (mce) with its interval (low, high)."""
    return _load_robustness(run.path, stamp(run.path))[1]


@st.cache_data(show_spinner=False)
def _load_branches(path: Path, stamp: tuple) -> dict[str, dict[str, np.ndarray]]:
    computed = (path / "fusion" / "attributions.npz").exists()
    branches = results.load_attributions(results.load_run(path), "fusion").branches if computed else {}
    if not branches:
        command = f"python scripts/explain.py {path.parent.name}/{path.name} --model fusion --errors --branches"
        raise UserError(f"What each branch carries over the test set is not computed: run {command}")
    return branches


def load_branches(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """`contribution` (10000,) and `ablated` logits (10000, 10) of each branch of the fusion. Raises UserError where not computed."""
    return _load_branches(run.path, stamp(run.path / "fusion"))
