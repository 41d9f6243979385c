"""Does the answer hang on test images that should not count: wrong labels, near-duplicates of training images?"""

import numpy as np

from core import results
from core.config import UserError
from core.findings.accuracy import compare_pairs, explain_interval
from core.findings.evidence import Evidence
from core.findings.finding import Need, Result, bracket, choose, judge, name, percent, points, show_p

LABEL_ERRORS = Need(("../label_errors.parquet",), results.HUMANS_COMMAND)
NEAR_DUPLICATES = Need(("../near_duplicates.parquet",), "python scripts/duplicates.py --help")


def leave_out(evidence: Evidence, other: str, left_out: np.ndarray, images: str, why: str) -> Result:
    """Fusion against the other without the images `left_out` (N,) bool, called `images` in a sentence, for the reason `why`."""
    if not left_out.any() or left_out.all():
        raise UserError(f"The run's test images hold no {images}, or nothing else")
    kept = ~left_out
    fusion, correct = evidence.correct("fusion"), evidence.correct(other)
    pair = compare_pairs(evidence, kept)[other]
    difference, interval, p = pair["difference"], pair["interval"], pair["p"]
    verdict = judge(difference, p)
    statement = choose(
        verdict,
        f"Without {images} fusion is more accurate than {name(other)}",
        f"Without {images} fusion and {name(other)} are not distinguishable in accuracy",
        f"Without {images} fusion is less accurate than {name(other)}",
    )
    return Result(
        statement=statement,
        details=f"{_say_left_out(left_out, 'test image')}: {why}. On the others fusion is correct on {percent(fusion[kept].mean())} "
        f"(on all {percent(fusion.mean())}), {name(other)} on {percent(correct[kept].mean())} ({percent(correct.mean())}): "
        f"{points(difference)} {bracket(interval)}, {show_p(p)}.{explain_interval(verdict, interval)}",
        verdict=verdict,
        numbers={
            **{"fusion": fusion[kept].mean(), other: correct[kept].mean(), "difference": difference},
            **{"fusion_with": fusion.mean(), f"{other}_with": correct.mean(), "left_out": left_out.sum()},
        },
        test="exact McNemar, Holm over 3 pairs; paired bootstrap",
        p=p,
        effect=difference,
        interval=interval,
        n=int(kept.sum()),
    )


def _say_left_out(left_out: np.ndarray, what: str) -> str:
    n = left_out.sum()
    return f"{n} {what} is left out" if n == 1 else f"{n} {what}s are left out"


def leave_out_relabelled(evidence: Evidence, other: str) -> Result:
    """An annotator who saw both classes counts against the label here, and for it in the second figure."""
    errors = results.load_label_errors(evidence.run.path.parent)
    doubted = np.isin(evidence.index, errors.loc[errors["relabelled"], "index"])
    generous = ~np.isin(evidence.index, errors.loc[errors["votes_given"] + errors["votes_both"] < 3, "index"])
    result = leave_out(evidence, other, doubted, "doubted labels", "fewer than three of five annotators confirm their label")
    difference = evidence.correct("fusion")[generous].mean() - evidence.correct(other)[generous].mean()
    remark = (
        f" An annotator who saw both classes counts against the label here; counted for it, {_say_left_out(~generous, 'image')} and "
        f"the difference is {points(difference)}."
    )
    numbers = {"left_out_both_for": (~generous).sum(), "difference_both_for": difference}
    return result.extend(remark, numbers)


def leave_out_duplicates(evidence: Evidence, other: str) -> Result:
    """A model may know the test image from training, so its prediction says little (Barz & Denzler 2020, who found others)."""
    pairs = results.load_near_duplicates(evidence.run.path.parent)
    duplicated = np.isin(evidence.index, pairs["index"])
    why = "the training batches hold an image much like them (found by scripts/duplicates.py)"
    return leave_out(evidence, other, duplicated, "near-duplicates", why)
