"""What people make of the same images: human votes (CIFAR-10H, Peterson et al. 2019)."""

import numpy as np

from core import metrics, results
from core.config import TRIO, UserError
from core.findings.evidence import Evidence
from core.findings.finding import SUPPORTED, Need, Result, choose, judge, name, percent, show_p

VOTES = Need(("../human_votes.parquet",), results.HUMANS_COMMAND)


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
    verdicts = {model: judge(value - 0.5, p[model]) for model, value in auc.items()}
    alike, verdict = len(verdicts) == len(TRIO) and set(verdicts.values()) == {SUPPORTED}, verdicts["fusion"]
    predicted = evidence.logits["fusion"].argmax(axis=1)
    chosen = votes > 0
    chosen[np.arange(len(votes)), evidence.labels] = False  # what is left are the wrong classes that someone chose
    hit = chosen[np.arange(len(votes)), predicted][~correct]
    shared, base = hit.mean(), ((chosen[~correct].sum(axis=1) - hit) / (votes.shape[1] - 2)).mean()  # of the wrong classes not predicted
    numbers = {
        **{"agreement_correct": agreement[correct].mean(), "agreement_wrong": agreement[~correct].mean()},
        **{"shared_by_someone": shared, "base_rate": base, "rank_correlation": spearmanr(confidence, agreement).statistic},
        **{f"auc_{model}": value for model, value in auc.items()},
    }
    statement = choose(
        verdict,
        f"Fusion errs where fewer people choose the label{', as the other models do' * alike}",
        "It is not shown that fusion errs where fewer people choose the label",
        "Fusion errs where more people choose the label",
    )
    others = ", ".join(f"{name(model)} {value:.3f}" for model, value in auc.items() if model != "fusion")
    return Result(
        statement=statement,
        details=f"On images it gets wrong {percent(numbers['agreement_wrong'])} of people chose the label, on the others "
        f"{percent(numbers['agreement_correct'])}: AUC {auc['fusion']:.3f}, {show_p(p['fusion'])}. "
        f"{'This is not special to fusion' if alike else 'Of the other models'} ({others or 'untested'}). "
        f"For {percent(shared)} of its errors someone chose the same wrong class; any other wrong class someone chose in "
        f"{percent(base)}. Rank correlation of confidence and agreement: {numbers['rank_correlation']:.2f}.",
        verdict=verdict,
        numbers=numbers,
        test="Mann-Whitney U of human agreement on correct against wrong predictions",
        p=p["fusion"],
        effect=auc["fusion"],
        unit="AUC",
        neutral=0.5,
        n=len(votes),
    )
