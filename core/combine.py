"""Two networks as one: ways to combine their predictions without training them together, what each costs, and how much there is to gain.

A way is fitted on validation, if at all, and reported on test; its validation logits are cross-fitted, so that ways may be chosen
by validation accuracy (but for the linear head, fitted on training images: its penalty was chosen on validation). What a pair can
gain shows in how its networks err: together or apart. No torch here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from core import metrics, results
from core.config import BASELINES, ENSEMBLE, FUSION, MODELS, UserError, label
from core.results import Run

FOLDS = 5
Logits = Sequence[np.ndarray]  # (N, C) a network
Combine = Callable[[Logits], np.ndarray]  # -> logits (N, C)


# --- how two networks err: `first` and `second` are (N,) bool, is the image classified correctly? ---------------------


def measure_pair(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Yule's q, disagreement (exactly one correct), kappa and double fault (none correct) of a pair (Kuncheva & Whitaker 2003).

    q and kappa are 1 where the two are correct on the same images and 0 where they err independently; NaN where not defined.
    """
    both, one, other, none = metrics.count_outcomes(first, second)[[1, 1, 0, 0], [1, 0, 1, 0]].astype(float)
    n = both + one + other + none
    excess = both * none - one * other
    chance = (both + one) * (one + none) + (both + other) * (other + none)
    return {
        "q": excess / (both * none + one * other) if both * none + one * other else np.nan,
        "disagreement": (one + other) / n,
        "kappa": 2 * excess / chance if chance else np.nan,
        "double_fault": none / n,
    }


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """How alike two sets of features (N, D) and (N, E) of the same images are, 0 to 1, up to rotation and scale.

    Linear centred kernel alignment (Kornblith et al. 2019); NaN where one of them is constant.
    """
    first, second = (one.astype(np.float64) - one.mean(axis=0, dtype=np.float64) for one in (first, second))
    own = np.linalg.norm(first.T @ first) * np.linalg.norm(second.T @ second)
    return float(np.linalg.norm(first.T @ second) ** 2 / own) if own else np.nan


# --- ways to combine: a fit takes validation labels (N,) and logits, and returns what combines any images' logits -------


def mean_probabilities(_labels: np.ndarray, _logits: Logits) -> Combine:
    """The ensemble: every network's word counts the same (linear opinion pool)."""
    return lambda logits: metrics.ensemble_logits(*logits)


def mean_logits(_labels: np.ndarray, _logits: Logits) -> Combine:
    """The geometric mean of the probabilities (logarithmic opinion pool): a network that is sure can veto."""
    return lambda logits: np.mean([log_softmax(one.astype(np.float64), axis=1) for one in logits], axis=0)


def fit_weight(labels: np.ndarray, logits: Logits) -> Combine:
    """Two networks' probabilities, weighted: of 21 weights the one with the best accuracy, of equals the one nearest to one half."""

    def mix(weight: float, probabilities: Logits) -> np.ndarray:
        return np.log((weight * probabilities[0] + (1 - weight) * probabilities[1]).clip(np.finfo(np.float64).tiny))

    probabilities = list(map(metrics.softmax, logits))
    weights = sorted(np.linspace(0, 1, 21), key=lambda weight: abs(weight - 0.5))
    best = max(weights, key=lambda weight: (mix(weight, probabilities).argmax(axis=1) == labels).mean())
    return lambda logits: mix(best, list(map(metrics.softmax, logits)))


def fit_stack(labels: np.ndarray, logits: Logits) -> Combine:
    """A multinomial logistic regression on the log-probabilities, with one weight a network and one bias a class (Wolpert 1992)."""
    from scipy.optimize import minimize

    def features(logits: Logits) -> np.ndarray:
        return np.stack([log_softmax(one.astype(np.float64), axis=1) for one in logits])  # (networks, N, C)

    x, k = features(logits), len(logits)
    truth = np.eye(x.shape[2])[labels]  # (N, C)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_softmax(np.tensordot(theta[:k], x, 1) + theta[k:], axis=1)
        error = (np.exp(log_p) - truth) / len(labels)
        return -(truth * log_p).sum() / len(labels), np.concatenate([(x * error).sum(axis=(1, 2)), error.sum(axis=0)])

    start = np.concatenate([np.full(k, 1 / k), np.zeros(x.shape[2])])  # the mean of the logits
    theta = minimize(loss, start, jac=True, method="BFGS").x
    return lambda logits: np.tensordot(theta[:k], features(logits), 1) + theta[k:]


WAYS = {  # name: label, fit; the first needs nothing but the networks, nor does the second
    ENSEMBLE: ("Ensemble: mean of probabilities", mean_probabilities),
    "mean_logits": ("Mean of logits", mean_logits),
    "weighted": ("Weighted probabilities", fit_weight),
    "stacked": ("Stacked on log-probabilities", fit_stack),
}


def cross_fit(fit: Callable[[np.ndarray, Logits], Combine], labels: np.ndarray, val: Logits, test: Logits) -> tuple[np.ndarray, np.ndarray]:
    """Combined logits of validation and test images: each validation image's by a fit to four fifths that lack it, test by all.

    Raises UserError where there are fewer validation images than folds.
    """
    if len(labels) < FOLDS:
        raise UserError(f"To combine two networks by validation images takes {FOLDS} of them, and there are {len(labels)}")
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    combined = np.empty(val[0].shape)
    for one in range(FOLDS):
        rest = fold != one
        combined[~rest] = fit(labels[rest], [logits[rest] for logits in val])([logits[~rest] for logits in val])
    return combined, fit(labels, val)(test)


# --- the tables ------------------------------------------------------------------------------------------------------

ONE, TWICE, LATE, TOGETHER = "one network", "two seeds of one", "combined afterwards", "trained together"


@dataclass(frozen=True)
class Way:
    """One way to have one prediction of up to two networks: which are correct, and what it costs."""

    label: str
    group: str  # ONE | TWICE | LATE | TOGETHER
    val_correct: np.ndarray  # (V,) bool; NaN where the networks were not validated on the same images
    correct: np.ndarray  # (N,) bool, of the test images
    networks: int  # trained
    parameters: float
    macs: float  # of one image
    fitted: str  # what else is fitted, on which images; empty where nothing is


def find_ways(run: Run, others: Sequence[Run] = (), control: Run | None = None) -> dict[str, Way]:
    """Every way there is, the baselines first. Raises UserError.

    `others` trained the baselines with other seeds, `control` is the same run without branch losses; ways that need what is not
    there are left out.
    """
    return _load_networks(run) | find_twice(run, others) | _combine_late(run) | _load_together(run, control)


def find_twice(run: Run, others: Sequence[Run]) -> dict[str, Way]:
    """Each baseline averaged with its own training from another seed; none without another run. Raises UserError."""
    if not others or not run.has_baselines:
        return {}
    ways = {}
    first, second = (results.load_predictions(one, BASELINES[0], "val").index for one in (run, others[0]))
    alike = np.array_equal(first, second)  # imported runs may have been validated on other images
    for model in BASELINES:
        text = f"{label(model)} twice (seeds {run.record['seed']} and {others[0].record['seed']})"
        (val, test), other = _load(run, model), _load(others[0], model)
        logits = _average((val, test), other) if alike else [val, *_average([test], other[1:])]
        way = _way(run, text, TWICE, logits, [model, model])
        ways[f"two_{model}"] = way if alike else replace(way, val_correct=np.array([np.nan]))
    return ways


def _load_networks(run: Run) -> dict[str, Way]:
    """The single networks as they are."""
    single = (model for model in run.models if len(MODELS[model].backbones) == 1)
    return {model: _way(run, label(model), ONE, _load(run, model), [model]) for model in single}


def _combine_late(run: Run) -> dict[str, Way]:
    """The two trained baselines, combined in every way of WAYS and by the linear head of `evaluate.py --features`."""
    if not run.has_baselines:
        return {}
    ways = {}
    val_labels, _ = _load_labels(run)
    val, test = zip(*(_load(run, model) for model in BASELINES), strict=True)
    for name, (text, fit) in WAYS.items():
        fitted = "" if fit in (mean_probabilities, mean_logits) else "on validation"
        ways[name] = _way(run, text, LATE, cross_fit(fit, val_labels, val, test), BASELINES, fitted)
    if (run.path / ENSEMBLE / "linear_head.parquet").exists():
        logits = _load(run, ENSEMBLE, "linear_head")
        ways["linear_head"] = _way(run, "Linear head on both features", LATE, logits, BASELINES, "on training images")
    return ways


def _load_together(run: Run, control: Run | None) -> dict[str, Way]:
    """The fusion, the mean of its branch heads, and the fusion of the control."""
    if FUSION.name not in run.models:
        return {}
    ways = {}
    if control:
        text = f"{FUSION.label} without branch losses"
        ways["fusion_plain"] = _way(control, text, TOGETHER, _load(control, FUSION.name), [FUSION.name])
    heads = [f"branch_{model}" for model in BASELINES]
    if all((run.path / FUSION.name / f"{head}.parquet").exists() for head in heads):
        logits = _average(*(_load(run, FUSION.name, head) for head in heads))
        ways["branch_mean"] = _way(run, "Mean of heads' probabilities", TOGETHER, logits, [FUSION.name])
    ways[FUSION.name] = _way(run, FUSION.label, TOGETHER, _load(run, FUSION.name), [FUSION.name])
    return ways


def _way(run: Run, text: str, group: str, logits: Logits, models: Sequence[str], fitted: str = "") -> Way:
    """A way of these logits of validation and test, which costs what training `models` costs."""
    val_correct, correct = (values.argmax(axis=1) == truth for values, truth in zip(logits, _load_labels(run), strict=True))
    parameters, macs = (sum(run.record["models"][model].get(key, np.nan) for model in models) for key in ("parameters", "macs"))
    return Way(text, group, val_correct, correct, len(models), parameters, macs, fitted)


def _load(run: Run, model: str, file: str = "predictions") -> list[np.ndarray]:
    """Logits of validation and test."""
    return [results.load_predictions(run, model, split, name=file).logits for split in ("val", "test")]


def _load_labels(run: Run) -> list[np.ndarray]:
    """Labels of validation and test."""
    return [results.load_predictions(run, run.models[0], split).labels for split in ("val", "test")]


def _average(first: Logits, second: Logits) -> list[np.ndarray]:
    return [metrics.ensemble_logits(*pair) for pair in zip(first, second, strict=True)]


def choose_baseline(ways: dict[str, Way]) -> str:
    """The baseline that is better on validation: the one to beat."""
    return max(BASELINES, key=lambda model: ways[model].val_correct.mean())


def choose_late(ways: dict[str, Way]) -> str:
    """Of the ways to combine two trained networks the one that is best on validation, the simplest of equals."""
    return max((name for name, way in ways.items() if way.group == LATE), key=lambda name: ways[name].val_correct.mean())


def list_ways(ways: dict[str, Way], reference: str = "") -> pd.DataFrame:
    """A row a way: name, label, group, val_accuracy, accuracy (test), difference to a baseline (choose_baseline's, if none is given)
    with low and high (paired bootstrap), p (exact McNemar) and p_holm over the rows (NaN in that baseline's own), and the costs:
    networks (trained), parameters, macs (of one image), fitted (what else, on which images).
    """
    reference = reference or choose_baseline(ways)
    rows = []
    for name, way in ways.items():
        difference, (low, high) = metrics.accuracy_difference(way.correct, ways[reference].correct)
        p = metrics.mcnemar(way.correct, ways[reference].correct) if name != reference else np.nan
        rows.append(
            {
                **{"name": name, "label": way.label, "group": way.group},
                **{"val_accuracy": way.val_correct.mean(), "accuracy": way.correct.mean()},
                **{"difference": difference, "low": low, "high": high, "p": p, "p_holm": np.nan},
                **{key: getattr(way, key) for key in ("networks", "parameters", "macs", "fitted")},
            }
        )
    table = pd.DataFrame(rows)
    others = table["name"] != reference
    table.loc[others, "p_holm"] = metrics.holm(table.loc[others, "p"].to_numpy())
    return table


def list_pairs(run: Run, others: Sequence[Run] = ()) -> pd.DataFrame:
    """How pairs of networks err, a row a pair: pair, label, the columns of measure_pair, ensemble and oracle (accuracies), cka.

    The two baselines, two seeds of each where `others` has one, and the fusion's own two branches. cka compares the features that
    `evaluate.py --features` wrote, the rest of the fusion's branches are their heads' predictions; NaN where a file is not there.
    Raises UserError.
    """
    _, labels, test = results.load_logits(run)
    rows = []

    def add(name: str, text: str, logits: Logits, features: list[tuple[str, str | None]]) -> None:
        correct = [one.argmax(axis=1) == labels for one in logits]
        row: dict[str, str | float] = {"pair": name, "label": text}
        if logits:
            averaged = metrics.ensemble_logits(*logits).argmax(axis=1) == labels
            row |= {**measure_pair(*correct), "ensemble": averaged.mean(), "oracle": np.logical_or(*correct).mean()}
        files = [f"{model}/features{f'_{branch}' if branch else ''}.parquet" for model, branch in features]
        if files and all((run.path / file).exists() for file in files):
            row["cka"] = linear_cka(*(results.load_features(run, *one) for one in features))
        rows.append(row)

    if set(BASELINES) <= set(test):
        add("baselines", " and ".join(map(label, BASELINES)), [test[model] for model in BASELINES], [(m, None) for m in BASELINES])
        for other in others[:1]:
            for model in BASELINES:
                text = f"{label(model)}, seeds {run.record['seed']} and {other.record['seed']}"
                add(f"two_{model}", text, [test[model], results.load_predictions(other, model).logits], [])
    if FUSION.name in test:
        heads = [f"branch_{model}" for model in BASELINES]
        there = all((run.path / FUSION.name / f"{head}.parquet").exists() for head in heads)
        logits = [results.load_predictions(run, FUSION.name, name=head).logits for head in heads] if there else []
        add("branches", "The fusion's two branches", logits, [(FUSION.name, model) for model in BASELINES])
    columns = ["pair", "label", "q", "disagreement", "kappa", "double_fault", "ensemble", "oracle", "cka"]
    return pd.DataFrame(rows, columns=columns)
