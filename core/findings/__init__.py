"""What may be said of a run: a table of claims, each with its test, and a verdict that goes no further than the test.

Every claim is in fusion's favour and is tested two-sided at 5 %. "supported": the data say so; "contradicted": they say the
opposite; "not distinguishable": they say neither, which is no proof of equality; "untested": something is missing, and the
finding says what. Tests on images speak of the trained weights at hand; only those over seeds speak of the method. Tests are
corrected for being several within a claim's family (pairs, classes, branches), not across claims. A claim against either baseline is
tested against each, and the less favourable result counts. No torch here.

To add a claim, write a function of (Evidence, the model it is against) -> Result and a row in CLAIMS.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from core.config import ENSEMBLE, TRIO, label
from core.findings import accuracy, branches, calibration, classes, controls, doubtful, headroom, people, robustness, training
from core.findings.accuracy import seed_accuracies
from core.findings.controls import MATCHED
from core.findings.evidence import Evidence
from core.findings.finding import (
    ALPHA,
    BETTER,
    CONTRADICTED,
    EITHER,
    OPEN,
    OTHER,
    SHARES,
    SUPPORTED,
    UNTESTED,
    Claim,
    Finding,
    Need,
    Result,
    bracket,
    name,
    percent,
    points,
    rank_result,
    show_effect,
)  # fmt: skip
from core.results import Run

__all__ = [
    "ALPHA",
    "BETTER",
    "CLAIMS",
    "CONTRADICTED",
    "EITHER",
    "HEADLINE",
    "OPEN",
    "OTHER",
    "SHARES",
    "SUPPORTED",
    "UNTESTED",
    "Claim",
    "Evidence",
    "Finding",
    "Headline",
    "Need",
    "Result",
    "bracket",
    "describe_scope",
    "find_findings",
    "name",
    "percent",
    "points",
    "seed_accuracies",
    "show_effect",
    "write_headline",
]  # fmt: skip

# id, kind, what is claimed, how it is tested, against whom, what it needs
CLAIMS = (
    Claim("accuracy-better", "accuracy", "Fusion is more accurate than the baseline better on validation, {other}",
          accuracy.compare_accuracy, BETTER),
    Claim("accuracy-ensemble", "accuracy", "Fusion is more accurate than {other}", accuracy.compare_accuracy, ENSEMBLE),
    Claim("accuracy-other", "accuracy", "Fusion is more accurate than {other}", accuracy.compare_accuracy, OTHER),
    Claim("comparable", "accuracy", "Fusion's accuracy is comparable or improved", accuracy.compare_within_margin),
    Claim("seeds-better", "seeds", "Over trainings, fusion is more accurate than {other}", accuracy.compare_over_seeds, BETTER),
    Claim("seeds-ensemble", "seeds", "Over trainings, fusion is more accurate than {other}", accuracy.compare_over_seeds, ENSEMBLE),
    Claim("seeds-other", "seeds", "Over trainings, fusion is more accurate than {other}", accuracy.compare_over_seeds, OTHER),
    Claim("late", "controls", "Fusion is more accurate than the two networks combined after training", controls.compare_with_late),
    Claim("twice", "controls", "Fusion is more accurate than two trainings of one network, averaged", controls.compare_with_twice,
          EITHER),
    Claim("architectures", "controls", "Averaging two architectures beats averaging two trainings of one", controls.compare_architectures,
          EITHER),
    Claim("disagreement", "disagreement", "Two architectures err on different images more than two trainings of {other}",
          controls.compare_disagreement, EITHER),
    Claim("matched", "controls", "Fusion is more accurate than one network of its cost, {other}", controls.compare_matched, MATCHED),
    Claim("branch-losses", "controls", "Fusion with branch losses is more accurate than without", controls.compare_losses),
    Claim("head-mean", "controls", "Fusion is more accurate than the mean of its two heads' logits", controls.compare_with_head_mean),
    Claim("headroom", "headroom", "Fusion takes part of what a perfect choice of network gains", headroom.measure_headroom, EITHER),
    Claim("probe", "probe", "Two frozen backbones' features tell more than one's", training.compare_probes, None, (training.PROBES,)),
    Claim("classes", "classes", "Fusion is better than {other} on several classes", classes.compare_classes, EITHER),
    Claim("worst-class", "classes", "Fusion is better on its worst class than {other}", classes.compare_worst_class, EITHER),
    Claim("branches", "branches", "Fusion's predictions depend on both branches", branches.ablate_branches, None, (branches.ABLATED,)),
    Claim("branch-heads", "branches", "Fusion is more accurate than either of its branches' own heads", branches.compare_with_heads),
    Claim("branches-alone", "branches", "Within the fusion each network stays as good as trained alone", controls.compare_heads_alone),
    Claim("gap", "gap", "Fusion loses less from training to validation images than {other}", training.compare_gaps, EITHER,
          (training.TRAIN_SAMPLES,)),
    Claim("calibration", "calibration", "Fusion is better calibrated than {other}", calibration.compare_calibration, EITHER),
    Claim("temperature", "calibration", "A temperature improves fusion's calibration", calibration.scale_confidence),
    Claim("people", "people", "Fusion errs where fewer people choose the label", people.compare_with_people, None, (people.VOTES,)),
    Claim("relabelled", "doubtful", "Without doubted labels fusion is more accurate than {other}", doubtful.leave_out_relabelled, EITHER,
          (doubtful.LABEL_ERRORS,)),
    Claim("near-duplicates", "doubtful", "Without near-duplicates of training images fusion is more accurate than {other}",
          doubtful.leave_out_duplicates, EITHER, (doubtful.NEAR_DUPLICATES,)),
    Claim("robustness", "robustness", "Corrupted images mislead fusion less than {other}", robustness.compare_robustness, EITHER,
          (robustness.CORRUPTED,)),
    Claim("robustness-ensemble", "robustness", "Corrupted images mislead fusion less than {other}", robustness.compare_robustness, ENSEMBLE,
          (robustness.CORRUPTED,)),
    Claim("robustness-drop", "robustness", "Corruption costs fusion a smaller share of its accuracy than {other}", robustness.compare_drops,
          EITHER, (robustness.CORRUPTED,)),
)  # fmt: skip


HEADLINE = (
    "accuracy-better",
    "accuracy-other",
    "accuracy-ensemble",
    "seeds-better",
    "seeds-other",
    "seeds-ensemble",
    "branch-losses",
)  # claims it rests on


def find_findings(run: Run, runs: Sequence[Run] = (), ids: Collection[str] | None = None) -> list[Finding]:
    """Claims tested on a run, the headline's first: all, or those with these ids; none unless the run holds all three models.

    `runs`: all at hand, from which the claims pick the other seeds and the controls. Raises UserError where the predictions of
    `run` itself cannot be read; whatever else is missing or damaged leaves a claim untested.
    """
    if not set(TRIO) <= set(run.models):
        return []
    evidence = Evidence.load(run, runs)
    found = [claim.test(evidence) for claim in CLAIMS if ids is None or claim.id in ids]
    if any(finding.kind == "seeds" and finding.verdict != UNTESTED for finding in found):
        found.sort(key=lambda finding: finding.kind != "seeds")  # the method's test goes before the tests of one run's weights
    return found


class Headline(NamedTuple):
    """The answer to the project's question for a run: a sentence anyone understands, and its numbers."""

    sentence: str
    numbers: str
    decisive: Finding | None = None  # fusion against the baseline that is harder to beat; None where nothing was compared


def write_headline(run: Run, findings: list[Finding]) -> Headline:
    """Fusion against either baseline, the less favourable verdict counting, and the ensemble; over seeds where that was tested,
    else on the images.

    Takes the findings of HEADLINE, others may be among them.
    """
    by_id = {finding.id: finding for finding in findings}
    if not by_id:
        missing = " and ".join(label(model) for model in TRIO if model not in run.models)
        more = "import the rest with scripts/import.py" if run.imported else "train the rest with --resume"
        return Headline(f"This run lacks {missing}: {more} before fusion can be compared.", "")
    over_seeds = by_id["seeds-better"].verdict != UNTESTED
    *baselines, ensemble = (by_id[f"{'seeds' if over_seeds else 'accuracy'}-{against}"] for against in ("better", "other", "ensemble"))
    hardest = min(baselines, key=rank_result)
    alone = f"{name(hardest.against or '')} alone"
    losses = " with branch losses" if run.recipe.branch_loss else ""
    beats = {
        SUPPORTED: f"Yes, fusing{losses} beats either network alone"
        if over_seeds
        else f"In one training, fusing{losses} beat either network alone",
        OPEN: f"No gain shown: the two networks fused{losses} are not distinguishable from {alone}",
        CONTRADICTED: f"No: the two networks fused{losses} do worse than {alone}",
    }[hardest.verdict]
    does = "does" if over_seeds or hardest.verdict != SUPPORTED else "did"
    beside = {
        SUPPORTED: f"simply averaging their predictions {does} worse",
        OPEN: f"simply averaging their predictions {does} as well, as far as the test can tell",
        CONTRADICTED: f"simply averaging their predictions {does} better",
    }[ensemble.verdict]
    link = "but" if hardest.verdict == SUPPORTED and ensemble.verdict != SUPPORTED else "and"
    numbers = "; ".join(
        f"over {name(one.against) if one.against else 'fusion without branch losses'} {points(one.effect)} {bracket(one.interval)}"
        for one in (*baselines, ensemble, *([] if over_seeds else [by_id["branch-losses"]]))
        if one.effect is not None and one.interval and not one.of  # which were tested, and on this run
    )
    tested = f"{ensemble.n} seeds" if over_seeds else f"{ensemble.n:,} test images, one training (seed {run.record['seed']})"
    return Headline(f"{beats}, {link} {beside}.", f"Fusion's lead in accuracy: {numbers}; 95 % intervals from {tested}.", hardest)


def describe_scope(run: Run, findings: list[Finding]) -> str:
    """Whom the tests speak of: said once, where the claims stand."""
    seeds = max((finding.n for finding in findings if finding.kind == "seeds"), default=1)
    images = f"Tests on images speak of the weights of one training (seed {run.record['seed']}): another training gives other weights."
    if seeds >= accuracy.SEEDS_TESTED:
        return f"{images} Tests over the {seeds} seeds speak of the method."
    trained = "one was" if seeds < 2 else f"{seeds} were"
    return f"{images} Only a test over {accuracy.SEEDS_TESTED} or more seeds speaks of the method; {trained} trained with all models."
