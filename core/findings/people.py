"""What people make of the same images: human votes (CIFAR-10H) and doubted labels (Northcutt et al. 2021)."""

import numpy as np

from core import metrics, results
from core.config import TRIO, UserError
from core.findings.evidence import Evidence
from core.findings.finding import Need, Result, bracket, choose, judge, name, percent, points, show_p

VOTES = Need(("../human_votes.parquet",), results.HUMANS_COMMAND)
LABEL_ERRORS = Need(("../label_errors.parquet",), results.HUMANS_COMMAND)


def compare_with_people(evidence: Evidence, _: str | None) -> Result:
    """Does fusion err where people disagree with the label too, more than chance, and more than the other models?"""
    from scipy.stats import mannwhitneyu, spearmanr

    votes = results.load_human_votes(evidence.run.path.parent)[evidence.index]  # (N, 10)
    agreement = metrics.human_agreement(votes, evidence.labels)
    confidence, correct = evidence.confident("fusion")
    if correct.all() or not correct.any() or np.ptp(agreement) == 0 or np.ptp(confidence) == 0:
        raise UserError("Nothing to compare: fusion's predictions are all correct or all wrong, or equally sure, or people all agree")
    auc, p = {}, {}
    for model in TRIO:
        mine = evidence.correct(model)
        if mine.any() and not mine.all():
            test = mannwhitneyu(agreement[mine], agreement[~mine], method="asymptotic")
            auc[model], p[model] = float(test.statistic / (mine.sum() * (~mine).sum())), float(test.pvalue)
    verdict = judge(auc["fusion"] - 0.5, p["fusion"])
    predicted = evidence.logits["fusion"].argmax(axis=1)
    chosen = votes > 0
    chosen[np.arange(len(votes)), evidence.labels] = False  # what is left are the wrong classes that someone chose
    shared, base = chosen[np.arange(len(votes)), predicted][~correct].mean(), chosen[~correct].sum(axis=1).mean() / (votes.shape[1] - 1)
    numbers = {
        **{"agreement_correct": agreement[correct].mean(), "agreement_wrong": agreement[~correct].mean()},
        **{"shared_by_someone": shared, "base_rate": base, "rank_correlation": spearmanr(confidence, agreement).statistic},
        **{f"auc_{model}": value for model, value in auc.items()},
    }
    statement = choose(
        verdict,
        "Fusion errs where people disagree, as the other models do",
        "That fusion errs where people disagree is not distinguishable from chance",
        "Fusion errs where people agree with the label",
    )
    others = ", ".join(f"{name(model)} {value:.3f}" for model, value in auc.items() if model != "fusion")
    return Result(
        statement=statement,
        details=f"On images it gets wrong {percent(numbers['agreement_wrong'])} of people chose the label, on the others "
        f"{percent(numbers['agreement_correct'])}: AUC {auc['fusion']:.3f}, {show_p(p['fusion'])}. This is not special to fusion "
        f"({others}). {percent(shared)} of its errors were also made by someone, where {percent(base)} of other wrong classes were "
        f"chosen by someone. Rank correlation of confidence and agreement: {numbers['rank_correlation']:.2f}.",
        verdict=verdict,
        numbers=numbers,
        test="Mann-Whitney U of human agreement on correct against wrong predictions",
        p=p["fusion"],
        effect=auc["fusion"],
        unit="AUC",
        neutral=0.5,
        n=len(votes),
    )


def leave_out_relabelled(evidence: Evidence, other: str) -> Result:
    """Without the test images whose label fewer than three of five annotators confirm.

    Some annotators saw both classes: their vote counts against the label here, for it in the second figure.
    """
    errors = results.load_label_errors(evidence.run.path.parent)
    doubted = {
        "against": np.isin(evidence.index, errors.loc[errors["votes_given"] < 3, "index"]),
        "for": np.isin(evidence.index, errors.loc[errors["votes_given"] + errors["votes_both"] < 3, "index"]),
    }
    left_out = doubted["against"]
    if not left_out.any() or left_out.all():
        raise UserError("The run's test images hold no doubted labels, or nothing else")
    fusion, correct = evidence.correct("fusion"), evidence.correct(other)
    difference, interval = metrics.accuracy_difference(fusion[~left_out], correct[~left_out])
    p = metrics.mcnemar(fusion[~left_out], correct[~left_out])
    verdict = judge(difference, p)
    statement = choose(
        verdict,
        f"Without the doubted labels fusion is more accurate than {name(other)}",
        f"Without the doubted labels fusion and {name(other)} are not distinguishable in accuracy",
        f"Without the doubted labels fusion is less accurate than {name(other)}",
    )
    generous = fusion[~doubted["for"]].mean() - correct[~doubted["for"]].mean()
    return Result(
        statement=statement,
        details=f"Without the {left_out.sum()} test images whose label fewer than three of five annotators confirm: "
        f"{percent(fusion[~left_out].mean())} (with them {percent(fusion.mean())}) against {percent(correct[~left_out].mean())} "
        f"({percent(correct.mean())}), {points(difference)} {bracket(interval)}, {show_p(p)}. An annotator who saw both classes counts "
        f"against the label here; counted for it, {doubted['for'].sum()} images are left out and the difference is {points(generous)}.",
        verdict=verdict,
        numbers={
            **{"fusion": fusion[~left_out].mean(), other: correct[~left_out].mean(), "difference": difference},
            **{"fusion_with": fusion.mean(), f"{other}_with": correct.mean()},
            **{"left_out": left_out.sum(), "left_out_both_for": doubted["for"].sum(), "difference_both_for": generous},
        },
        test="exact McNemar; paired bootstrap",
        p=p,
        effect=difference,
        interval=interval,
        n=int((~left_out).sum()),
    )
