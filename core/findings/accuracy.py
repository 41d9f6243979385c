"""Is fusion more accurate, on the test images and over seeds? Pairs are corrected together by Holm."""

from collections.abc import Mapping
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
    FROM_WORST,
    OPEN,
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
    say_precisions,
    show_p,
)  # fmt: skip
from core.results import Run

PAIRS = (*BASELINES, ENSEMBLE)
MARGIN = 0.005  # of accuracy: less than the share of test labels that are wrong, 0.54 % (Northcutt et al. 2021), and fixed before any run
SEEDS_TESTED = 3


def mcnemar_pairs(correct: Mapping[str, np.ndarray]) -> np.ndarray:
    """Exact McNemar p (3,) of fusion against each of PAIRS, from each model's correctness (N,) bool; before Holm's correction."""
    return np.array([metrics.mcnemar(correct["fusion"], correct[other]) for other in PAIRS])


def compare_pairs(evidence: Evidence, kept: np.ndarray | None = None) -> dict[str, dict[str, Any]]:
    """Fusion against each of PAIRS on the images `kept` (N,) bool, or all: difference, interval, p (Holm), the images that only one
    predicts correctly, and what Holm's correction asks of the p without it, the other pairs as they are (`alpha`)."""
    correct = {model: evidence.correct(model)[slice(None) if kept is None else kept] for model in ("fusion", *PAIRS)}
    bare = mcnemar_pairs(correct)
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
        f"In this training fusion is more accurate than {name(other)}",
        f"In this training fusion and {name(other)} are not distinguishable in accuracy",
        f"In this training fusion is less accurate than {name(other)}",
    )
    where = explain_interval(verdict, pair["interval"]) + (split_by_baselines(evidence) if other == ENSEMBLE else "")
    if precisions := say_precisions([evidence.run], ("fusion", other)):
        where += f" Trained with {precisions}."
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


def explain_interval(verdict: str, interval: tuple[float, float]) -> str:
    """Why p, corrected for three pairs, shows nothing though an interval, which is not, leaves out 0."""
    if verdict != OPEN or judge_interval(interval) == OPEN:
        return ""
    return " The interval is of this comparison alone; corrected for three, no difference is shown."


def split_by_baselines(evidence: Evidence) -> str:
    """What fusion and the ensemble make of the images that one baseline alone, neither or both predict correctly."""
    counts = {model: metrics.count_outcomes(*(evidence.correct(one) for one in (*BASELINES, model))) for model in ("fusion", ENSEMBLE)}
    fusion, ensemble = ((one[0, 1, 1] + one[1, 0, 1], one[0, 0, 1], one[1, 1, 0]) for one in counts.values())
    alone = counts["fusion"][0, 1].sum() + counts["fusion"][1, 0].sum()
    return (
        f" Of the {alone:,} images that one baseline alone predicts correctly fusion gets {fusion[0]:,}, averaging {ensemble[0]:,}; where "
        f"neither is correct they get {fusion[1]:,} and {ensemble[1]:,}, where both are they lose {fusion[2]:,} and {ensemble[2]:,}."
    )


def judge_margin(intervals: Mapping[str, tuple[float, float]]) -> tuple[str, str]:
    """The name whose interval is the least favourable to "above -MARGIN", and the verdict on it, which is that on all."""
    verdicts = {model: judge_interval(interval, -MARGIN) for model, interval in intervals.items()}
    worst = min(verdicts, key=lambda model: (FROM_WORST.index(verdicts[model]), intervals[model][0]))
    return worst, verdicts[worst]


def compare_within_margin(evidence: Evidence, _: str | None) -> Result:
    """The claim the project set out with: comparable or improved accuracy, beside the baseline that comes out best against it."""
    pairs = evidence.once(compare_pairs)
    other, verdict = judge_margin({model: pairs[model]["interval"] for model in BASELINES})
    (second,) = set(BASELINES) - {other}
    margin = f"{100 * MARGIN:g} points"
    statement = choose(
        verdict,
        "In this training fusion's accuracy is comparable to both baselines', or above",
        f"It is not shown whether in this training fusion's accuracy is comparable to {name(other)}'s",
        f"In this training fusion's accuracy is more than {margin} below {name(other)}'s",
    )
    listed = "; ".join(f"to {name(one)} {points(pairs[one]['difference'])} {bracket(pairs[one]['interval'])}" for one in (other, second))
    return Result(
        statement=statement,
        details=f"Difference {listed}. A loss of up to {margin} counts as comparable: our choice, about the share of wrong "
        "test labels, 0.54 % (Northcutt et al. 2021).",
        verdict=verdict,
        numbers={"difference": pairs[other]["difference"], "lowest": pairs[other]["interval"][0], "margin": MARGIN},
        test=f"non-inferiority: paired bootstrap intervals against a margin of {margin}",
        effect=pairs[other]["difference"],
        interval=pairs[other]["interval"],
        neutral=-MARGIN,
        n=len(evidence.labels),
    )


# --- over seeds ------------------------------------------------------------------------------------------------------


def seed_accuracies(runs: list[Run]) -> pd.DataFrame:
    """Test accuracy, a row a run, a column a model, the ensemble included. Raises UserError."""
    return pd.DataFrame([{model: correct.mean() for model, correct in read_correct(run)[1].items()} for run in runs])


def read_correct(run: Run) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Indices (N,) of a run's test images, and which of them each model predicts correctly (N,) bool. Raises UserError."""
    return _read_correct(run.path, results.stamp_predictions(run))


@lru_cache(maxsize=512)
def _read_correct(path: Path, _stamp: tuple[tuple[int, int, int], ...]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read again when the run's stamp says that predictions changed: there may be hundreds of seeds."""
    index, labels, logits = results.load_logits(results.load_run(path))
    return index, {model: values.argmax(axis=1) == labels for model, values in logits.items()}


def compare_seeds(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Fusion against each of PAIRS: in each training `lead` and `p` (exact McNemar, Holm over the pairs), seed -> value; over trainings
    `test` (metrics.seed_test, its p before Holm); over test images `images` (metrics.mean_lead's interval). Raises UserError."""
    correct = {}
    for run in evidence.seeds:
        index, correct[run.record["seed"]] = read_correct(run)
        if not np.array_equal(index, evidence.index):
            raise UserError(f"{run.name} holds predictions of other test images than {evidence.run.name}")
    p = {seed: metrics.holm(mcnemar_pairs(one)) for seed, one in correct.items()}
    pairs = {}
    for position, other in enumerate(PAIRS):
        # Of counts, not of shares: leads of equally many images are equal.
        lead = {seed: float(one["fusion"].sum() - one[other].sum()) / len(one["fusion"]) for seed, one in correct.items()}
        both = (np.stack([one[model] for one in correct.values()]) for model in ("fusion", other))
        pairs[other] = {
            **{"lead": lead, "p": {seed: float(one[position]) for seed, one in p.items()}},
            **{"test": metrics.seed_test(np.array(list(lead.values()))), "images": metrics.mean_lead(*both)[1]},
        }
    return pairs


def compare_over_seeds(evidence: Evidence, other: str) -> Result:
    """Another training of the same recipe differs: only this test speaks of more than one run's weights.

    It asks for two things: that the lead is larger than its spread between trainings, and than what drawing other images would change.
    """
    seeds = [run.record["seed"] for run in evidence.seeds]
    if len(seeds) == 1:
        more = f"the test needs {SEEDS_TESTED}: {say_next_training(evidence)}"
        raise UserError(f"Only seed {seeds[0]} was trained with all models and {more}")
    pairs = evidence.once(compare_seeds)
    pair, test = pairs[other], pairs[other]["test"]
    numbers = {"mean": test["mean"], "std": test["std"]}
    numbers |= {f"seed_{seed}": value for seed, value in pair["lead"].items()} | {f"p_seed_{seed}": p for seed, p in pair["p"].items()}
    each = [f"seed {seed} {points(value)}, {show_p(pair['p'][seed])}" for seed, value in pair["lead"].items()]
    ends = f"from {points(min(pair['lead'].values()))} to {points(max(pair['lead'].values()))}"
    listed = "; ".join(each) if len(each) <= 10 else f"{ends} over {len(each)} seeds"
    spread = f"{points(test['mean'])} on average ({listed}), standard deviation {100 * test['std']:.2f}; over test images "
    precisions = say_precisions(evidence.seeds, ("fusion", other))
    spread += f"{bracket(pair['images'])}{precisions and f'; trained with {precisions}'}"
    tested = "in each seed exact McNemar, Holm over 3 pairs; over test images a bootstrap, each image in all seeds at once"
    if np.isnan(test["p"]):
        lack = f"{len(seeds)} seeds are too few for a test over trainings, it needs {SEEDS_TESTED}"
        lack = lack if len(seeds) < SEEDS_TESTED else "Leads that are all alike have no spread to test by"
        details = f"{spread}. {lack}: {say_next_training(evidence)}."
        return Result(verdict=UNTESTED, details=details, numbers=numbers, test=tested, effect=test["mean"], n=len(seeds))
    bare = np.nan_to_num([pairs[one]["test"]["p"] for one in PAIRS], nan=1.0)
    position = PAIRS.index(other)
    p, interval = metrics.holm(bare)[position], (test["low"], test["high"])
    verdict = judge(test["mean"], p)
    why = explain_interval(verdict, interval)
    if verdict != OPEN and judge_interval(pair["images"]) != verdict:
        verdict, why = OPEN, " Other test images could undo it: so no difference is shown."
    smallest = metrics.smallest_mean(test["std"], len(seeds), metrics.holm_level(np.delete(bare, position), ALPHA))
    statement = choose(
        verdict,
        f"Over trainings, fusion is more accurate than {name(other)}",
        f"Over trainings, fusion and {name(other)} are not distinguishable in accuracy",
        f"Over trainings, fusion is less accurate than {name(other)}",
    )
    return Result(
        statement=statement,
        details=f"{spread}; over trainings {bracket(interval)}, {show_p(p)}. With this spread a mean below {100 * smallest:.2f} points "
        f"could not have been shown.{why}",
        verdict=verdict,
        numbers=numbers | {"smallest": smallest},
        test=f"paired t test over seeds, Holm over 3 pairs; {tested}",
        p=float(p),
        effect=test["mean"],
        interval=interval,
        n=len(seeds),
    )
