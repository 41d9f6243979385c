"""What the fusion's branches are worth: replaced by their mean, and, with branch losses, each with a head of its own."""

from collections.abc import Callable

import numpy as np

from core import metrics, results
from core.config import BASELINES, UserError
from core.findings.evidence import Evidence
from core.findings.finding import (
    CONTRADICTED,
    OPEN,
    SUPPORTED,
    Need,
    Result,
    bracket,
    choose,
    judge,
    name,
    percent,
    points,
    show_p,
)  # fmt: skip

ABLATED = Need(("fusion/attributions.npz",), "python scripts/explain.py {run} --model fusion --errors --branches", True)


def load_ablated(evidence: Evidence) -> dict[str, np.ndarray]:
    """Correctness (N,) of the fusion with one branch's features replaced by their training mean. Raises UserError."""
    branches = results.load_attributions(evidence.run, "fusion").branches
    if not branches:
        run = results.quote(evidence.run.path)
        raise UserError(f"What each branch carries over the test set is not computed: run {ABLATED.command.format(run=run)}")
    return {branch: logits.argmax(axis=1) == evidence.labels for branch, logits in branches["ablated"].items()}


def ablate_branches(evidence: Evidence, _: str | None) -> Result:
    """Dependence, not need: the shared normalisation was never trained for a missing branch."""
    whole, without = evidence.correct("fusion"), load_ablated(evidence)
    return _compare_with_parts(
        whole,
        without,
        (
            "Fusion's predictions depend on both of its branches",
            "It is not shown that fusion's predictions depend on both branches",
            "Fusion is better off without one of its branches",
        ),
        lambda branch: f"without {name(branch)}",
        "A branch's features are replaced by their training mean. This shows dependence, not need: another training could do without.",
    )


def load_heads(evidence: Evidence) -> dict[str, np.ndarray]:
    """Logits (N, 10) of each branch's own head. Raises UserError."""
    try:
        return {branch: evidence.predict("fusion", "test", f"branch_{branch}").logits for branch in BASELINES}
    except results.MissingFile:
        if evidence.run.recipe.branch_loss:
            raise
        raise UserError("This run's branches have no heads of their own, which only branch losses train") from None


def correct_heads(evidence: Evidence) -> dict[str, np.ndarray]:
    """Correctness (N,) of each branch's own head. Raises UserError."""
    return {branch: logits.argmax(axis=1) == evidence.labels for branch, logits in evidence.once(load_heads).items()}


def compare_with_heads(evidence: Evidence, _: str | None) -> Result:
    """Is the fused head better than each branch's own head, trained beside it?"""
    return _compare_with_parts(
        evidence.correct("fusion"),
        correct_heads(evidence),
        (
            "Fusion is more accurate than either of its branches' own heads",
            "Fusion and the better of its branches' own heads are not distinguishable in accuracy",
            "One branch's own head is more accurate than the fused one",
        ),
        lambda branch: f"{name(branch)}'s own head",
        "Each branch has a linear head of its own, trained with a loss of its own.",
    )


def _compare_with_parts(
    whole: np.ndarray, parts: dict[str, np.ndarray], words: tuple[str, str, str], call: Callable[[str], str], remark: str
) -> Result:
    p = dict(zip(parts, metrics.holm(np.array([metrics.mcnemar(whole, one) for one in parts.values()])), strict=True))
    differences = {branch: metrics.accuracy_difference(whole, one) for branch, one in parts.items()}
    verdicts = [judge(differences[branch][0], p[branch]) for branch in parts]
    verdict = next(v for v in (CONTRADICTED, OPEN, SUPPORTED) if v in verdicts)
    least = min(differences, key=lambda branch: differences[branch][0])
    listed = "; ".join(f"{call(branch)} on {percent(one.mean())} ({show_p(p[branch])})" for branch, one in parts.items())
    return Result(
        statement=choose(verdict, *words),
        details=f"The fusion is correct on {percent(whole.mean())} of the test images; {listed}. Least difference: "
        f"{points(differences[least][0])} {bracket(differences[least][1])}. {remark}",
        verdict=verdict,
        numbers={"fusion": whole.mean(), **{f"without_{branch}": one.mean() for branch, one in parts.items()}},
        test="exact McNemar, Holm over 2 branches",
        p=float(max(p[branch] for branch, one in zip(parts, verdicts, strict=True) if one == verdict)),
        effect=differences[least][0],
        interval=differences[least][1],
        n=len(whole),
    )
