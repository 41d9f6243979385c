"""What the pages read: thin caches over core. A file that changes on disk is read again.

Large tables are cached as resources: all visitors share one and none may change it, where cached data would be copied for each.
"""

import base64
import io
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image
from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx

from core import findings, metrics, results
from core.config import BACKBONES, CLASSES, UserError
from core.findings import Finding
from core.results import Run
from core.robustness import group_conditions, list_conditions
from dashboard import release_libraries

OUTCOMES = {  # what the models made of an image -> which rows of the answers
    "everything": lambda a, model: np.ones(len(a), bool),
    "model wrong": lambda a, model: ~a[f"{model}_correct"],
    "model right": lambda a, model: a[f"{model}_correct"],
    "any wrong": lambda a, model: ~a[correct_columns(a)].all(axis=1),
    "all wrong": lambda a, model: ~a[correct_columns(a)].any(axis=1),
    "all right": lambda a, model: a[correct_columns(a)].all(axis=1),
    "only fusion wrong": lambda a, model: ~a["fusion_correct"] & a[[f"{b}_correct" for b in BACKBONES]].all(axis=1),
    "only baselines wrong": lambda a, model: a["fusion_correct"] & ~a[[f"{b}_correct" for b in BACKBONES]].any(axis=1),
}
PEOPLE = ("human_votes.parquet", "label_errors.parquet")
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
    answers = results.load_answers(results.load_run(path), load_images().labels)
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
    """core.results.load_answers, with `agree` (all trained models predict the same), `disagreement` (for sorting), and of the image
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


def select_images(
    answers: pd.DataFrame,
    model: str,
    true: list[str] = (),
    predicted: list[str] = (),
    outcome: str = "everything",
    confidence: tuple[float, float] = (0.0, 1.0),
    agreement: str = "any",
    sort: str = "index",
    people: tuple[float, float] = (0.0, 1.0),
    doubted: bool = False,
) -> pd.Index:
    """Labels of the rows of `answers` that fit every choice, in order: a page keeps these, not the rows. No class means all classes."""
    keep = pd.Series(OUTCOMES[outcome](answers, model), answers.index)
    if true:
        keep = keep & answers["label"].isin([CLASSES.index(name) for name in true])
    if predicted:
        keep = keep & answers[f"{model}_predicted"].isin([CLASSES.index(name) for name in predicted])
    if agreement != "any":
        keep = keep & (answers["agree"] == (agreement == "models agree"))
    keep = keep & answers[f"{model}_confidence"].between(*confidence)
    if people != (0.0, 1.0):
        keep = keep & answers["people"].between(*people)
    if doubted:
        keep = keep & answers["relabelled"]
    column, ascending = SORTS[sort]
    return answers.loc[keep, column.format(model)].sort_values(ascending=ascending, kind="stable").index


def correct_columns(answers: pd.DataFrame) -> list[str]:
    """The `_correct` columns of the trained models."""
    return [c for c in answers if c.endswith("_correct") and not c.startswith("ensemble")]


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


def describe_answer(row: pd.Series, model: str) -> str:
    """An image in words: 'true cat, predicted dog, 0.93'."""
    return f"true {CLASSES[row['label']]}, predicted {CLASSES[row[f'{model}_predicted']]}, {row[f'{model}_confidence']:.2f}"


@st.cache_data(show_spinner=False, max_entries=64)
def _make_sprite(indices: tuple[int, ...], columns: int, root: Path) -> str:
    images = load_images()
    sheet = Image.new("RGB", (32 * columns, 32 * -(-len(indices) // columns)))
    for position, index in enumerate(indices):
        sheet.paste(Image.open(io.BytesIO(images.png[index])), (32 * (position % columns), 32 * (position // columns)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def make_sprite(indices: tuple[int, ...], columns: int = 20) -> str:
    """One PNG with all the thumbnails, row by row, as base64."""
    return _make_sprite(indices, columns, results.RESULTS)


def image_uri(index: int) -> str:
    """One test image as a data URI."""
    return "data:image/png;base64," + base64.b64encode(load_images().png[index]).decode()


def nearest_images(run: Run, model: str, index: int, n: int = 6) -> np.ndarray:
    """Positions (n,) of the test images nearest to image `index` on a model's 2-D embedding map."""
    xy = load_embedding(run, model)[["x", "y"]].to_numpy()
    distance = ((xy - xy[index]) ** 2).sum(axis=1)
    distance[index] = np.inf
    return np.argsort(distance)[:n]


def available_outcomes(answers: pd.DataFrame) -> list[str]:
    """The OUTCOMES a run can tell: those about fusion against the baselines need all three."""
    whole = len(correct_columns(answers)) == 3
    return [name for name in OUTCOMES if whole or not name.startswith("only")]


def sibling_runs(run: Run) -> list[Run]:
    """All whole runs with this run's recipe and start weights, in order of their seeds."""
    runs = [open_run(name) for name in check_runs()[0]]
    same = [r for r in runs if all(r.record[key] == run.record[key] for key in ("recipe", "start_weights"))]
    return sorted(same, key=lambda r: r.record["seed"])


@st.cache_data(show_spinner=False)
def _load_summary(path: Path, stamp: tuple) -> pd.DataFrame:
    return results.load_summary(results.load_run(path), load_images().labels)


def load_summary(run: Run) -> pd.DataFrame:
    return _load_summary(run.path, stamp(run.path))


def available_references(answers: pd.DataFrame) -> dict[str, list[str]]:
    """What a run can compare fusion with: name -> models; empty without fusion or without a baseline."""
    baselines = [b for b in BACKBONES if f"{b}_correct" in answers]
    if not baselines or "fusion_correct" not in answers:
        return {}
    if len(baselines) == 1:
        return {baselines[0]: baselines}
    return {"both baselines": baselines, **{b: [b] for b in baselines}, "ensemble": ["ensemble"]}


def name_flows(before: list[str]) -> list[str]:
    """All the ways from the models `before` (one or two) to fusion: two for each state they can be in, from all right to all wrong."""
    if len(before) == 1:
        states = [f"{before[0]} right", f"{before[0]} wrong"]
    else:
        states = ["both right", *(f"only {model} right" for model in before), "both wrong"]
    return [f"{state}, fusion {end}" for state in states for end in ("right", "wrong")]


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
    names = [*run.models, *(["ensemble"] if set(BACKBONES) <= set(run.models) else [])]
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


DRAWING = threading.BoundedSemaphore(2)  # pages at once: fifty would hold the memory of fifty, and none be done sooner
INFERENCE = ThreadPoolExecutor(1, "inference")  # where torch works: hooks on a shared model do not mix, and each thread costs memory


def infer(compute: Callable[[], Any]) -> Any:
    """`compute()`, after those of other visitors that came before. It may show its progress."""
    visit = get_script_run_ctx(suppress_warning=True)

    def work() -> Any:
        add_script_run_ctx(threading.current_thread(), visit)
        return compute()

    return INFERENCE.submit(copy_context().run, work).result()


@st.cache_resource(show_spinner="Loading the models …", max_entries=6)
def _load_model(path: Path, model: str, stamp: tuple):
    from core.evaluate import load_shipped_model

    try:
        return load_shipped_model(results.load_run(path), model)
    finally:
        release_libraries()


def load_model(run: Run, model: str):
    """A model (core.models.Classifier) with the run's shipped weights, on the CPU, shared by all visitors. Raises UserError."""
    return _load_model(run.path, model, stamp(run.path / model))


@st.cache_data(show_spinner="The models look …", max_entries=32)
def _predict_image(path: Path, image: np.ndarray, stamp: tuple) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    import torch

    from core.evaluate import predict
    from core.runtime import World

    run = results.load_run(path)
    models = {name: load_model(run, name) for name in run.models}
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]  # (1, 3, 32, 32)
    logits, seconds = {}, {}
    for name, model in models.items():
        start = time.perf_counter()
        logits[name] = predict(model, images, run.recipe.image_size, World(0, 1, torch.device("cpu")))[0].numpy()[0]
        seconds[name] = time.perf_counter() - start
    if set(BACKBONES) <= set(logits):
        logits["ensemble"] = metrics.ensemble_logits(*(logits[name][None] for name in BACKBONES))[0]
    return logits, seconds


def predict_image(run: Run, image: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """What the run's models, and the ensemble where both baselines are there, make of a uint8 image (32, 32, 3).

    Logits (10,) a model, and the seconds each trained model took. Raises UserError where weights are missing.
    """
    return infer(lambda: _predict_image(run.path, image, stamp(run.path)))


@st.cache_resource(show_spinner=False)
def _remembered() -> OrderedDict:
    """What `remember` holds, for all visitors."""
    return OrderedDict()


def remember(key: tuple, compute: Callable[[], Any], most: int = 500) -> Any:
    """`compute()`, kept under `key`. Unlike st.cache_data it lets a computation that takes long show its progress.

    Visitors wait for each other; those who ask the same wait for one answer.
    """
    kept = _remembered()

    def compute_once() -> Any:
        if (value := kept.get(key)) is None:
            value = kept[key] = compute()
        while len(kept) > most:
            kept.popitem(last=False)
        return value

    return value if (value := kept.get(key)) is not None else infer(compute_once)


@dataclass(frozen=True)
class Question:
    """What an attribution is asked: why this score of this model for this image?"""

    run: Run
    model: str
    image: np.ndarray  # (32, 32, 3) uint8
    target: int  # class
    minus: int | None = None  # explain how far the target's logit exceeds this class's

    @property
    def key(self) -> tuple:
        return self.run.path, stamp(self.run.path / self.model), self.model, self.image.tobytes(), self.target, self.minus

    def ask(self, name: str, progress: Callable[[float], None] | None = None, **options) -> Any:
        """core.explain.`name` on this question, remembered. Raises UserError where weights are missing."""
        from core import explain

        def compute() -> Any:
            import torch

            images = torch.from_numpy(self.image.copy()).permute(2, 0, 1)[None]  # (1, 3, 32, 32)
            settings = {"image_size": self.run.recipe.image_size, "minus": self.minus, **options}
            if progress:
                settings["progress"] = progress
            model = load_model(self.run, self.model)
            return getattr(explain, name)(model, images, target=self.target, **settings)

        hashable = tuple((k, v.tobytes() if isinstance(v, np.ndarray) else v) for k, v in sorted(options.items()))
        return remember((self.key, name, hashable), compute)


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


def share_branches(answers: pd.DataFrame, contributions: dict[str, np.ndarray], by: str) -> pd.DataFrame:
    """Mean contribution of each branch: a row a class, or an outcome (rescued, broken, other right, other wrong)."""
    if by == "class":
        group = answers["label"].map(dict(enumerate(CLASSES)))
    else:
        right, both = answers["fusion_correct"], answers[[f"{b}_correct" for b in BACKBONES]]
        group = right.map({True: "other right", False: "other wrong"})
        group = group.mask(right & ~both.any(axis=1), "rescued").mask(~right & both.all(axis=1), "broken")
    return pd.DataFrame(contributions).groupby(group.to_numpy()).mean().rename_axis("group").reset_index()


def load_methods() -> dict:
    """core.explain.METHODS; imports torch and captum."""
    from core import explain

    return explain.METHODS
