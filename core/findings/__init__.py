"""What may be said of a run: a table of claims, each with its test, and a verdict that goes no further than the test.

Every claim is in favour of fusing and is tested two-sided at 5 %. "supported": the data say so; "contradicted": they say the
opposite; "not distinguishable": they say neither, which is no proof of equality; "untested": something is missing, and the
finding says what. Tests on images speak of the trained weights at hand; only those over seeds speak of other trainings. Tests are
corrected for being several within a claim's family (pairs, classes, branches), not across claims. A claim against either baseline is
tested against each, and the less favourable result counts, as it does over other trainings: strict where a claim is supported, but
"contradicted" then rests on one of several tests, each at 5 %. No torch here.

To add a claim, write a function of (Evidence, the model it is against) -> Result and a row in CLAIMS.
"""

import math
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
    FROM_WORST,
    OPEN,
    OTHER,
    SEPARATELY,
    SHARES,
    SUPPORTED,
    UNTESTED,
    Claim,
    Finding,
    Need,
    Result,
    judge,
    name,
    percent,
    points,
    rank_result,
    show_effect,
    show_p,
    signed,
    tell_p,
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
    "SEPARATELY",
    "SHARES",
    "SUPPORTED",
    "UNTESTED",
    "Claim",
    "Evidence",
    "Finding",
    "Headline",
    "Need",
    "Result",
    "describe_scope",
    "find_findings",
    "name",
    "percent",
    "points",
    "say_mixing",
    "seed_accuracies",
    "show_effect",
    "show_p",
    "tell_p",
    "write_headline",
]  # fmt: skip

# id, kind, what is claimed, how it is tested, against whom, what it needs
CLAIMS = (
    Claim("accuracy-better", "accuracy", "In this training fusion is more accurate than the baseline better on validation, {other}",
          accuracy.compare_accuracy, BETTER),
    Claim("accuracy-ensemble", "accuracy", "In this training fusion is more accurate than {other}", accuracy.compare_accuracy, ENSEMBLE),
    Claim("accuracy-other", "accuracy", "In this training fusion is more accurate than {other}", accuracy.compare_accuracy, OTHER),
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
    Claim("headroom", "headroom", "Fusion gains, as a perfect choice of network would", headroom.measure_headroom, EITHER),
    Claim("probe", "probe", "Two frozen backbones' features tell more than one's", training.compare_probes, None, (training.PROBES,)),
    Claim("classes", "classes", "Fusion is better than {other} on several classes", classes.compare_classes, EITHER),
    Claim("worst-class", "classes", "Fusion is better on its worst class than {other}", classes.compare_worst_class, EITHER),
    Claim("branches", "branches", "Fusion's predictions depend on both branches", branches.ablate_branches, None, (branches.ABLATED,)),
    Claim("branch-heads", "branches", "Fusion is more accurate than either of its branches' own heads", branches.compare_with_heads),
    Claim("branches-alone", "branches", "Within the fusion each network stays as good as trained alone", controls.compare_heads_alone),
    Claim("gap", "gap", "Fusion loses less from training to test images than {other}", training.compare_gaps, EITHER,
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
    "head-mean",
)  # claims it rests on


def find_findings(run: Run, runs: Sequence[Run] = (), ids: Collection[str] | None = None) -> list[Finding]:
    """Claims tested on a run, the headline's first: all, or those with these ids; none unless the run holds all three models.

    `runs`: all at hand, from which the claims pick the other seeds and the controls. Raises UserError where the predictions of
    `run` itself cannot be read; whatever else is missing or damaged leaves a claim untested.
    """
    if not run.whole:
        return []
    evidence = Evidence.load(run, runs)
    found = [claim.test(evidence) for claim in CLAIMS if ids is None or claim.id in ids]
    if any(finding.kind == "seeds" and finding.verdict != UNTESTED for finding in found):
        found.sort(key=lambda finding: finding.kind != "seeds")  # the test over trainings goes before those of one run's weights
    return found


AVERAGING = {SUPPORTED: "worse", CONTRADICTED: "better"}  # of the claim in fusion's favour
NO_DIFFERENCE = "no difference from simply averaging their predictions is shown"
COUNTS = ("none", "one", "two", "three", "four", "five")
LISTED = 5  # trainings, each with a column


class Headline(NamedTuple):
    """The answer to the project's question for a run: a sentence anyone understands, and its numbers."""

    sentence: str
    table: tuple[tuple[str, ...], ...] = ()  # fusion's leads: a head, then a row for each baseline and the ensemble
    note: str = ""  # what the table holds
    decisive: Finding | None = None  # fusion against the baseline that is harder to beat; None where nothing was compared

    @property
    def numbers(self) -> str:
        """The table in sentences; "" where nothing was compared."""
        if not self.table:
            return ""
        (_, *columns), *rows = self.table
        leads = (f"{rival}: {'; '.join(map(' '.join, zip(columns, cells, strict=True)))}" for rival, *cells in rows)
        return f"Fusion's lead over {'. Over '.join(leads)}. {self.note}"


def write_headline(run: Run, findings: list[Finding]) -> Headline:
    """Fusion against either baseline, the less favourable verdict counting, and the ensemble; over seeds where that was tested, else
    on the images, in how many of the trainings at hand. Where the test over seeds is open, what all of them show is told too.

    Takes the findings of HEADLINE, others may be among them.
    """
    by_id = {finding.id: finding for finding in findings}
    if not by_id:
        missing = " and ".join(label(model) for model in TRIO if model not in run.models)
        more = "import the rest with scripts/import.py" if run.imported else "train the rest with --resume"
        return Headline(f"This run lacks {missing}: {more} before fusion can be compared.")
    leads, seeds = ([by_id[f"{kind}-{against}"] for against in ("better", "other", "ensemble")] for kind in ("accuracy", "seeds"))
    over_seeds = all(one.verdict != UNTESTED for one in seeds)
    *baselines, ensemble = seeds if over_seeds else leads
    hardest = min(baselines, key=rank_result)
    losses = " with branch losses" if run.recipe.branch_loss else ""
    beats, beside = _say_verdicts(hardest, ensemble, losses, over_seeds)
    won = hardest.verdict == SUPPORTED and ensemble.verdict != SUPPORTED
    trained = _judge_trainings(seeds)
    if trained and not over_seeds:
        beats, beside = _say_trainings(trained, losses)
        won = any(alone == SUPPORTED for alone, _ in trained) and any(averaged != SUPPORTED for _, averaged in trained)
    elif over_seeds and hardest.verdict == OPEN and all(alone == SUPPORTED for alone, _ in trained):
        less = [name(one.against or "") for one in baselines if one.verdict == OPEN]
        against = f" against {less[0]}" if len(less) == 1 else ""
        beats = f"{_say_trainings(trained, losses)[0]}, though for training in general that is not shown{against}"
        won = ensemble.verdict == CONTRADICTED
    elif over_seeds and hardest.verdict == OPEN and all(alone == CONTRADICTED for alone, _ in trained):
        beats = f"{_say_trainings(trained, losses)[0]}, though for training in general that is not shown"
    table, note = _tabulate_leads(run, leads, seeds, over_seeds)
    return Headline(f"{beats}, {'but' if won else 'and'} {beside}.", table, f"{note} {say_mixing(run, findings)}".rstrip(), hardest)


def say_mixing(run: Run, findings: list[Finding]) -> str:
    """Does the fusion predict what the mean of its own two heads does? "" where that was not tested, or there is a difference."""
    heads = next((finding for finding in findings if finding.id == "head-mean" and finding.verdict == OPEN), None)
    if heads is None or not run.recipe.shortcut:
        return ""
    return (
        "The fusion is the mean of two heads, one on each network's features, plus an MLP on both. This MLP, the only part that mixes "
        f"features, changes {heads.numbers['changed']:,} of {heads.n:,} predictions with seed {run.record['seed']}: that mixing them gains "
        "anything is not shown."
    )


def _tabulate_leads(run: Run, leads: list[Finding], seeds: list[Finding], over_seeds: bool) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Headline's table and note: a column for each training, where they are not many, and one for all where that was tested.

    `leads`, `seeds`: the findings on images and over seeds against both baselines and the ensemble.
    """
    trainings = list(seeds[0].seeds)
    listed = [] if over_seeds and len(trainings) > LISTED else trainings
    head = ["Fusion's lead over", *(f"seed {seed}" for seed in listed)]
    rows = [
        [name(one.against or ""), *(f"{signed(one.seeds[seed])}, {show_p(one.numbers[f'p_seed_{seed}'])}" for seed in listed)]
        for one in seeds
    ]
    p, bound, whole = f"from an exact McNemar test on {leads[0].n:,} test images", "", []
    if over_seeds:
        head.append(f"mean of {seeds[0].n} seeds [95 %]")
        whole = seeds
        p = f"of a seed {p}, of the mean from a t test over seeds"
        bound = " A mean counts as shown only if p < 0.05 and a bootstrap of the test images leaves out zero, too."
    elif not listed:
        head.append(f"seed {run.record['seed']} [95 %]")
        whole = leads
    for row, one in zip(rows, whole, strict=False):
        row.append(f"{show_effect(one).replace(' points', '')}, {show_p(math.nan if one.p is None else one.p)}")
    if whole:
        bound += " Intervals are of one comparison alone."
    return (tuple(head), *map(tuple, rows)), f"In points of test accuracy; p {p}, Holm over the three comparisons.{bound}"


def _say_verdicts(hardest: Finding, ensemble: Finding, losses: str, over_seeds: bool) -> tuple[str, str]:
    """What one training, or the test over several, says of fusion beside either network alone, and beside averaging them."""
    alone = f"{name(hardest.against or '')} alone"
    beats = {
        SUPPORTED: f"Yes, fusing{losses} beats either network alone"
        if over_seeds
        else f"In one training, fusing{losses} beat either network alone",
        OPEN: f"No gain shown: the two networks fused{losses} are not distinguishable from {alone}",
        CONTRADICTED: f"No: the two networks fused{losses} do worse than {alone}"
        if over_seeds
        else f"In one training, the two networks fused{losses} did worse than {alone}",
    }[hardest.verdict]
    if ensemble.verdict == OPEN:
        return beats, NO_DIFFERENCE
    does = "does" if over_seeds or hardest.verdict == OPEN else "did"
    return beats, f"simply averaging their predictions {does} {AVERAGING[ensemble.verdict]}"


def _say_trainings(trained: list[tuple[str, str]], losses: str) -> tuple[str, str]:
    """The same of several trainings, each by itself: `trained` holds both verdicts of each."""
    won, lost = (sum(alone == verdict for alone, _ in trained) for verdict in (SUPPORTED, CONTRADICTED))
    some, several = (COUNTS[n] if len(trained) < len(COUNTS) else f"{n}" for n in (won or lost, len(trained)))
    which = f"{some} of {several}" if (won or lost) < len(trained) else "both" if len(trained) == 2 else f"all {several}"
    beats = f"In {which} trainings, fusing{losses} beat either network alone"
    if lost == len(trained):
        beats = f"In {which} trainings, fusing{losses} did worse than one network alone"
    elif not won:
        none = "neither" if len(trained) == 2 else "none"
        beats = f"No gain shown: in {none} of {several} trainings did fusing{losses} beat both networks alone"
    averaged = [words for verdict, words in AVERAGING.items() if any(verdict == other for _, other in trained)]
    if not averaged:
        return beats, NO_DIFFERENCE
    beside = f"simply averaging their predictions did {', or '.join(averaged)}"
    return beats, f"{beside}, or no difference is shown" if any(other == OPEN for _, other in trained) else beside


def _judge_trainings(leads: list[Finding]) -> list[tuple[str, str]]:
    """The verdicts of each training on its test images, against the baseline that is harder to beat and against the ensemble.

    `leads`: the findings over seeds against both baselines and the ensemble.
    """
    verdicts = ([judge(lead, one.numbers[f"p_seed_{seed}"]) for seed, lead in one.seeds.items()] for one in leads)
    return [(min(pair, key=FROM_WORST.index), averaged) for *pair, averaged in zip(*verdicts, strict=True)]


def describe_scope(run: Run, findings: list[Finding]) -> str:
    """Whom the tests speak of: said once, where the claims stand."""
    seeds = max((finding.n for finding in findings if finding.kind == "seeds"), default=1)
    images = f"Where a claim names no seeds, its test is of the weights of seed {run.record['seed']}: another training gives others. "
    images += "A claim against either baseline is tested against both and the less favourable result counts; where that contradicts "
    images += "the claim, it is not corrected for the two tests, except where Holm is named."
    if any(finding.kind == "seeds" and finding.verdict != UNTESTED for finding in findings):
        return f"{images} Only the tests over {seeds} seeds speak of training by this recipe, on these test images."
    trained = "one was" if seeds < 2 else f"{seeds} were"
    needed = accuracy.SEEDS_TESTED
    return f"{images} Only a test over {needed} or more seeds speaks of training by this recipe; {trained} trained with all models."
