"""Is fusion better class by class, and on the worst class?"""

import numpy as np

from core import metrics
from core.config import CLASSES
from core.findings.evidence import Evidence
from core.findings.finding import ALPHA, CONTRADICTED, OPEN, SUPPORTED, Result, bracket, choose, judge_interval, name, percent, points

SEVERAL = 3  # classes


def compare_classes(evidence: Evidence, other: str) -> Result:
    """Recall of each class; better on several means SEVERAL or more, and worse on none."""
    fusion, correct = evidence.correct("fusion"), evidence.correct(other)
    table = metrics.class_differences(evidence.labels, fusion, correct)
    certain = table["p_holm"] < ALPHA
    better, worse = certain & (table["difference"] > 0), certain & (table["difference"] < 0)
    verdict = OPEN
    if better.sum() >= SEVERAL and not worse.any():
        verdict = SUPPORTED
    elif worse.sum() > better.sum():
        verdict = CONTRADICTED
    macro = {one: np.nanmean(metrics.class_accuracy(evidence.labels, evidence.correct(one))) for one in ("fusion", other)}
    both = better.any() and worse.any()
    statement = choose(
        verdict,
        f"Fusion is better than {name(other)} on several classes",
        f"Fusion is better than {name(other)} on some classes and worse on others"
        if both
        else f"It is not shown that fusion is better than {name(other)} on several classes",
        f"Fusion is worse than {name(other)} on more classes than better",
    )
    named = ", ".join(np.array(CLASSES)[better]) or "none"
    higher, lower = int((table["difference"] > 0).sum()), int((table["difference"] < 0).sum())
    least, most = np.nanmin(table["smallest"]), np.nanmax(table["smallest"])
    return Result(
        statement=statement,
        details=f"Significantly better on {better.sum()} ({named}), worse on {worse.sum()} of {(table['n'] > 0).sum()}; by the bare "
        f"numbers better on {higher}, worse on {lower}. Macro recall {percent(macro['fusion'])} against {percent(macro[other])}. A class's "
        f"difference, if the largest, must reach {100 * least:.1f} to {100 * most:.1f} points to be significant: none found is "
        "no proof of equality.",
        verdict=verdict,
        numbers={
            **{"classes_better": better.sum(), "classes_worse": worse.sum(), "classes_higher": higher, "classes_lower": lower},
            **{"macro_recall_fusion": macro["fusion"], f"macro_recall_{other}": macro[other]},
            **{"smallest_low": least, "smallest_high": most},
        },
        test=f"exact McNemar a class, Holm over classes; several: {SEVERAL} or more, and none worse",
        effect=float(better.sum()) - float(worse.sum()),
        unit="classes",
        n=len(fusion),
    )


def compare_worst_class(evidence: Evidence, other: str) -> Result:
    """The lowest recall of each, which may be of different classes."""
    fusion, correct = evidence.correct("fusion"), evidence.correct(other)
    difference, interval = metrics.worst_class_difference(evidence.labels, fusion, correct)
    accuracy = {one: metrics.class_accuracy(evidence.labels, evidence.correct(one)) for one in ("fusion", other)}
    lowest = {one: np.nanmin(values) for one, values in accuracy.items()}
    worst = {one: CLASSES[int(np.nanargmin(values))] for one, values in accuracy.items()}
    verdict = judge_interval(interval)
    statement = choose(
        verdict,
        f"Fusion is better on its worst class than {name(other)} on its own",
        f"On their worst classes fusion and {name(other)} are not distinguishable",
        f"Fusion is worse on its worst class than {name(other)} on its own",
    )
    return Result(
        statement=statement,
        details=f"Fusion's is {worst['fusion']}, {percent(lowest['fusion'])}; {name(other)}'s is {worst[other]}, {percent(lowest[other])}: "
        f"{points(difference)} {bracket(interval)}. A single test of two lowest recalls; class by class, ten tests are corrected together.",
        verdict=verdict,
        numbers={**lowest, "difference": difference},
        test="paired bootstrap within the classes",
        effect=difference,
        interval=interval,
        n=len(fusion),
    )
