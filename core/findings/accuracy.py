"""Is fusion more accurate, on the test images and over seeds? Pairs are corrected together by Holm."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core import metrics, results
from core.config import BASELINES, ENSEMBLE, UserError
from core.findings.evidence import Evidence
from core.findings.finding import (
    ALPHA,
    UNTESTED,
    Result,
    bracket,
    choose,
    judge,
    judge_interval,
    name,
    percent,
    points,
    say_next_training,
    show_p,
)  # fmt: skip
from core.results import Run

PAIRS = (*BASELINES, ENSEMBLE)
MARGIN = 0.005  # of accuracy: less than the share of test labels that are wrong, 0.54 % (Northcutt et al. 2021), and fixed before any run
SEEDS_TESTED = 3


def compare_pairs(evidence: Evidence, kept: np.ndarray | None = None) -> dict[str, dict[str, Any]]:
    """Fusion against each of PAIRS on the images `kept` (N,) bool, or all: difference, interval, p (Holm), the images that only one
    predicts correctly, and what Holm's correction asks of the p without it, the other pairs as they are (`alpha`)."""
    correct = {model: evidence.correct(model)[slice(None) if kept is None else kept] for model in ("fusion", *PAIRS)}
    bare = np.array([metrics.mcnemar(correct["fusion"], correct[other]) for other in PAIRS])
    pairs = {}
    for position, (other, corrected) in enumerate(zip(PAIRS, metrics.holm(bare), strict=True)):
        difference, interval = metrics.accuracy_difference(correct["fusion"], correct[other])
        counts = metrics.count_outcomes(correct["fusion"], correct[other])
        pairs[other] = {
            **{"difference": difference, "interval": interval, "p": float(corrected)},
            **{"only_fusion": int(counts[1, 0]), "only_other": int(counts[0, 1])},
            "alpha": metrics.holm_level(np.delete(bare, position), ALPHA),
        }
    return pairs


def compare_accuracy(evidence: Evidence, other: str) -> Result:
    """On the test images, which speak of the weights at hand."""
    pair = evidence.once(compare_pairs)[other]
    share = {model: evidence.correct(model).mean() for model in ("fusion", other)}
    verdict = judge(pair["difference"], pair["p"])
    statement = choose(
        verdict,
        f"Fusion is more accurate than {name(other)}",
        f"Fusion and {name(other)} are not distinguishable in accuracy",
        f"Fusion is less accurate than {name(other)}",
    )
    where = split_by_baselines(evidence) if other == ENSEMBLE else ""
    smallest = metrics.smallest_difference(pair["only_fusion"] + pair["only_other"], pair["alpha"]) / len(evidence.labels)
    return Result(
        statement=statement,
        details=f"Correct on {percent(share['fusion'])} of the test images against {percent(share[other])}: {points(pair['difference'])} "
        f"{bracket(pair['interval'])}, {show_p(pair['p'])}. Only fusion is correct on {pair['only_fusion']}, only {name(other)} on "
        f"{pair['only_other']}; a difference below {100 * smallest:.2f} points could not have been shown.{where}",
        verdict=verdict,
        numbers={
            **{"fusion": share["fusion"], other: share[other], "difference": pair["difference"], "smallest": smallest},
            **{"only_fusion": pair["only_fusion"], f"only_{other}": pair["only_other"]},
        },
        test="exact McNemar, Holm over 3 pairs; paired bootstrap",
        p=pair["p"],
        effect=pair["difference"],
        interval=pair["interval"],
        n=len(evidence.labels),
    )


def split_by_baselines(evidence: Evidence) -> str:
    """What fusion and the ensemble make of the images that one baseline alone, neither or both predict correctly."""
    counts = {model: metrics.count_outcomes(*(evidence.correct(one) for one in (*BASELINES, model))) for model in ("fusion", ENSEMBLE)}
    fusion, ensemble = ((one[0, 1, 1] + one[1, 0, 1], one[0, 0, 1], one[1, 1, 0]) for one in counts.values())
    alone = counts["fusion"][0, 1].sum() + counts["fusion"][1, 0].sum()
    return (
        f" Of the {alone:,} images that one baseline alone predicts correctly fusion gets {fusion[0]:,}, averaging {ensemble[0]:,}; where "
        f"neither is correct they get {fusion[1]:,} and {ensemble[1]:,}, where both are they lose {fusion[2]:,} and {ensemble[2]:,}."
    )


def compare_within_margin(evidence: Evidence, _: str | None) -> Result:
    """The claim the project set out with: comparable or improved accuracy, beside the baseline that comes out best against it."""
    pairs = evidence.once(compare_pairs)
    other = min(BASELINES, key=lambda model: pairs[model]["interval"][0])
    (second,) = set(BASELINES) - {other}
    verdict = judge_interval(pairs[other]["interval"], -MARGIN)
    margin = f"{100 * MARGIN:g} points"
    statement = choose(
        verdict,
        "Fusion's accuracy is comparable to both baselines', or above",
        f"Whether fusion's accuracy is comparable to {name(other)}'s is not distinguishable",
        f"Fusion's accuracy is more than {margin} below {name(other)}'s",
    )
    listed = "; ".join(f"to {name(one)} {points(pairs[one]['difference'])} {bracket(pairs[one]['interval'])}" for one in (other, second))
    return Result(
        statement=statement,
        details=f"Difference {listed}. {margin} below count as comparable: less than the share of wrong test labels, 0.54 % "
        "(Northcutt et al. 2021).",
        verdict=verdict,
        numbers={"difference": pairs[other]["difference"], "lowest": pairs[other]["interval"][0], "margin": MARGIN},
        test=f"paired bootstrap intervals against a margin of {margin}",
        effect=pairs[other]["difference"],
        interval=pairs[other]["interval"],
        neutral=-MARGIN,
        n=len(evidence.labels),
    )


# --- over seeds ------------------------------------------------------------------------------------------------------


def seed_accuracies(runs: list[Run]) -> pd.DataFrame:
    """Test accuracy, a row a run, a column a model, the ensemble included. Raises UserError."""
    return pd.DataFrame([measure_accuracy(run.path, results.stamp_predictions(run)) for run in runs])


@lru_cache(maxsize=4096)
def measure_accuracy(path: Path, _stamp: tuple[tuple[int, int, int], ...]) -> dict[str, float]:
    """Of one run, measured again when its stamp says that predictions changed: there may be hundreds of seeds. Raises UserError."""
    _, labels, logits = results.load_logits(results.load_run(path))
    return {model: float((values.argmax(axis=1) == labels).mean()) for model, values in logits.items()}


def load_seeds(evidence: Evidence) -> pd.DataFrame:
    """seed_accuracies of the run's seeds, for Evidence.once."""
    return seed_accuracies(evidence.seeds)


def compare_over_seeds(evidence: Evidence, other: str) -> Result:
    """Another training of the same recipe differs: only this test speaks of the method, not of one run's weights."""
    seeds = [str(run.record["seed"]) for run in evidence.seeds]
    more = say_next_training(evidence)
    if len(seeds) == 1:
        raise UserError(f"Only seed {seeds[0]} was trained with all models and the test needs {SEEDS_TESTED}: {more}")
    accuracy = evidence.once(load_seeds)
    tests = {one: metrics.seed_test(accuracy["fusion"] - accuracy[one]) for one in PAIRS}
    test = tests[other]
    numbers = {"mean": test["mean"], "std": test["std"], "fusion": accuracy["fusion"].mean(), other: accuracy[other].mean()}
    numbers |= {f"seed_{seed}": value for seed, value in zip(seeds, accuracy["fusion"] - accuracy[other], strict=True)}
    listed = f"seeds {', '.join(seeds)}" if len(seeds) <= 10 else f"{len(seeds)} seeds"
    spread = f"{points(test['mean'])} on average over {listed}, standard deviation {100 * test['std']:.2f}"
    if len(seeds) < SEEDS_TESTED:
        details = f"{spread}; {len(seeds)} seeds are too few for a test, it needs {SEEDS_TESTED}: {more}."
        return Result(verdict=UNTESTED, details=details, numbers=numbers, effect=test["mean"], n=len(seeds))
    p = dict(zip(PAIRS, metrics.holm(np.array([tests[one]["p"] for one in PAIRS])), strict=True))[other]
    verdict, interval = judge(test["mean"], p), (test["low"], test["high"])
    statement = choose(
        verdict,
        f"Trained again and again, fusion is more accurate than {name(other)}",
        f"Over trainings, fusion and {name(other)} are not distinguishable in accuracy",
        f"Trained again and again, fusion is less accurate than {name(other)}",
    )
    return Result(
        statement=statement,
        details=f"{spread}; {bracket(interval)}, {show_p(p)}.",
        verdict=verdict,
        numbers=numbers,
        test="paired t test over seeds, Holm over 3 pairs",
        p=float(p),
        effect=test["mean"],
        interval=interval,
        n=len(seeds),
    )
