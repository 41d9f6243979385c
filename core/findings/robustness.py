"""Does fusion withstand corrupted images better?"""

import numpy as np

from core import metrics, results
from core.config import ENSEMBLE, TRIO, UserError
from core.findings.evidence import Evidence
from core.findings.finding import Need, Result, bracket, choose, judge_interval, name, percent, points
from core.robustness import group_conditions
from core.summaries import load_robustness

CORRUPTED = Need(tuple(f"{model}/robustness.csv" for model in (*TRIO, ENSEMBLE)), "python scripts/robustness.py {run}", True)


def compare_robustness(evidence: Evidence, other: str) -> Result:
    """Mean corruption error relative to the other's."""
    correct = load_robustness(evidence.run, ("fusion", other))
    wrong = {model: group_conditions(rows) for model, rows in correct.items()}
    error, interval = metrics.corruption_error(wrong["fusion"], wrong[other])
    if not np.isfinite([error, *interval]).all():
        few, whole = correct[other].shape[1], results.split_size(evidence.run, "test")
        more = results.command("robustness.py", evidence.run.path, "--images", str(min(5 * few, whole)))
        way = f": run {more}" if few < whole else ""
        raise UserError(f"The {few} images are too few: in some draws {name(other)} makes no error to compare with{way}")
    smaller = (1 - interval[1], 1 - interval[0])
    verdict = judge_interval(smaller)
    corrupted = {model: float(rows[1:].mean()) for model, rows in correct.items()}
    clean = {model: float(rows[0].mean()) for model, rows in correct.items()}
    statement = choose(
        verdict,
        f"Corrupted images mislead fusion less than {name(other)}",
        f"On corrupted images fusion and {name(other)} are not distinguishable",
        f"Corrupted images mislead fusion more than {name(other)}",
    )
    word, ends = ("smaller", smaller) if error <= 1 else ("larger", (interval[0] - 1, interval[1] - 1))
    return Result(
        statement=statement,
        details=f"Fusion's mean corruption error is {100 * abs(1 - error):.1f} % {word} than {name(other)}'s {bracket(ends)}; "
        f"correct on {percent(corrupted['fusion'])} of the corrupted images against {percent(corrupted[other])}, clean on "
        f"{percent(clean['fusion'])} against {percent(clean[other])} of the same {correct['fusion'].shape[1]:,} images.",
        verdict=verdict,
        numbers={
            **{"mean_corruption_error": error, "fusion": corrupted["fusion"], other: corrupted[other]},
            **{"clean_fusion": clean["fusion"], f"clean_{other}": clean[other]},
        },
        test="paired bootstrap of the images, 8 corruptions in 5 severities",
        effect=1 - error,
        interval=smaller,
        unit="%",
        n=correct["fusion"].shape[1],
    )


def compare_drops(evidence: Evidence, other: str) -> Result:
    """How much of its own clean accuracy does each lose? A model that is behind on clean images does not lose by that alone."""
    correct = load_robustness(evidence.run, ("fusion", other))
    lost = {model: rows[0] - rows[1:].mean(axis=0) for model, rows in correct.items()}  # (N,) a model
    clean = {model: rows[0] for model, rows in correct.items()}
    if none := [model for model in correct if not clean[model].any()]:
        raise UserError(f"{name(none[0])} is correct on no clean image, so it has no accuracy to lose")
    drop = {model: float(lost[model].mean() / clean[model].mean()) for model in correct}
    n, generator, draws = len(lost["fusion"]), np.random.default_rng(0), []
    for _ in range(20):  # 50 resamples at a time: all at once would take 160 MB
        drawn = generator.integers(0, n, (50, n))
        drawn = drawn[np.all([clean[model][drawn].any(axis=1) for model in correct], axis=0)]  # of few images, some draws have none
        share = {model: lost[model][drawn].sum(axis=1) / clean[model][drawn].sum(axis=1) for model in correct}
        draws.append(share[other] - share["fusion"])
    smaller, interval = drop[other] - drop["fusion"], metrics.percentile_interval(np.concatenate(draws))
    verdict = judge_interval(interval)
    statement = choose(
        verdict,
        f"Corruption costs fusion a smaller share of its accuracy than {name(other)}",
        f"Corruption costs fusion and {name(other)} shares of their accuracy that are not distinguishable",
        f"Corruption costs fusion a larger share of its accuracy than {name(other)}",
    )
    return Result(
        statement=statement,
        details=f"Relative to its own clean accuracy fusion loses {100 * drop['fusion']:.2f} %, {name(other)} {100 * drop[other]:.2f} %. "
        f"{name(other)}'s loss minus fusion's: {points(smaller)} {bracket(interval)}.",
        verdict=verdict,
        numbers={"drop_fusion": drop["fusion"], f"drop_{other}": drop[other], "difference": drop["fusion"] - drop[other]},
        test="paired bootstrap of the images",
        effect=smaller,
        interval=interval,
        n=n,
    )
