"""What may be said of a run: statements, each with its numbers, its test and a verdict that goes no further than the test.

Every claim is about fusion and is tested two-sided at 5 %. "supported": the data say so; "contradicted": they say the
opposite; "not distinguishable": they say neither, which is no proof of equality. The tests on images ask about the trained
weights at hand; only those over seeds ask about the recipe. Tests are corrected for being several within a statement's
family (pairs, classes, pairs over seeds), not across statements. No torch here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from core import metrics, results
from core.config import BASELINES, CLASSES, TRIO
from core.results import Run
from core.robustness import group_conditions

ALPHA = 0.05
COMPARABLE = 0.005  # of accuracy: no worse than this counts as comparable
SEVERAL = 3  # classes
TRAIN_IMAGES = 45_000
SUPPORTED, OPEN, CONTRADICTED = "supported", "not distinguishable", "contradicted"
RIGHT = ("is right more often than", "is right less often than")
SMALLER = ("is smaller than", "is larger than")
NAMES = {"resnet18": "ResNet18", "mobilenet_v2": "MobileNetV2", "fusion": "fusion", "ensemble": "the baselines' ensemble"}


@dataclass(frozen=True)
class Finding:
    """One statement. Accuracies and their differences in `numbers` are shares; `interval` is that of the claim's quantity."""

    id: str
    claim: str  # what is tested, always in fusion's favour
    text: str  # what came out, in words that go no further than the verdict
    verdict: str  # supported | not distinguishable | contradicted
    numbers: dict[str, float]
    test: str
    p: float | None
    interval: tuple[float, float] | None  # 95 %
    n: int  # images, or seeds
    view: str  # the dashboard page that shows it

    def __post_init__(self):
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in self.numbers.items()}
        object.__setattr__(self, "numbers", plain)


@dataclass(frozen=True)
class Evidence:
    """A run's answers, loaded once: test and validation."""

    run: Run
    index: np.ndarray  # (N,) of the test images
    labels: np.ndarray
    logits: dict[str, np.ndarray]  # (N, 10) a model, the ensemble included
    val_labels: np.ndarray
    val_logits: dict[str, np.ndarray]
    histories: dict[str, pd.DataFrame]

    @classmethod
    def load(cls, run: Run) -> "Evidence":
        """Raises UserError."""
        _, val_labels, val_logits = results.load_logits(run, "val")
        histories = {model: results.load_history(run, model) for model in run.models}
        return cls(run, *results.load_logits(run, "test"), val_labels, val_logits, histories)

    def correct(self, model: str) -> np.ndarray:
        return self.logits[model].argmax(axis=1) == self.labels

    def val_correct(self, model: str) -> np.ndarray:
        return self.val_logits[model].argmax(axis=1) == self.val_labels

    def confident(self, model: str, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Confidence (N,) at a temperature, and correctness (N,): what the calibration metrics take."""
        return metrics.softmax(self.logits[model] / temperature).max(axis=1), self.correct(model)

    @property
    def better_baseline(self) -> str:
        """By test accuracy: the harder one to beat."""
        return max(BASELINES, key=lambda model: self.correct(model).mean())


# --- words -----------------------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def points(difference: float) -> str:
    return f"{100 * difference:+.2f} points"


def bracket(interval: tuple[float, float]) -> str:
    return f"[{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"


def show_p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def judge(difference: float, p: float) -> str:
    if p >= ALPHA or difference == 0:
        return OPEN
    return SUPPORTED if difference > 0 else CONTRADICTED


def judge_interval(interval: tuple[float, float]) -> str:
    """Verdict on "the quantity is above 0"."""
    if interval[0] > 0:
        return SUPPORTED
    return CONTRADICTED if interval[1] < 0 else OPEN


def relate(verdict: str, better: str, worse: str) -> str:
    """The verb of a comparison."""
    return {SUPPORTED: better, CONTRADICTED: worse, OPEN: "is not distinguishable from"}[verdict]


# --- statements on one run's images ----------------------------------------------------------------------------------


def compare_accuracies(evidence: Evidence, scope: str) -> list[Finding]:
    """Fusion against both baselines and their ensemble, and what follows from these for the better baseline."""
    others = (*BASELINES, "ensemble")
    fusion = evidence.correct("fusion")
    p = dict(zip(others, metrics.holm(np.array([metrics.mcnemar(fusion, evidence.correct(other)) for other in others])), strict=True))
    pairs = {}
    for other in others:
        correct = evidence.correct(other)
        difference, interval = metrics.accuracy_difference(fusion, correct)
        counts = metrics.count_outcomes(fusion, correct)
        verdict = judge(difference, p[other])
        pairs[other] = Finding(
            id=f"fusion-{other}",
            claim=f"Fusion is more accurate than {NAMES[other]}",
            text=f"Fusion {relate(verdict, *RIGHT)} {NAMES[other]}: {percent(fusion.mean())} against {percent(correct.mean())}, "
            f"{points(difference)} {bracket(interval)} ({show_p(p[other])}; {scope}).",
            verdict=verdict,
            numbers={
                **{"fusion": fusion.mean(), other: correct.mean(), "difference": difference},
                **{"only_fusion_right": counts[1, 0], f"only_{other}_right": counts[0, 1]},
            },
            test="exact McNemar, Holm over 3 pairs; paired bootstrap",
            p=p[other],
            interval=interval,
            n=len(fusion),
            view="evidence",
        )
    better, name = pairs[evidence.better_baseline], NAMES[evidence.better_baseline]
    verdict, headline_p = better.verdict, better.p
    if better.numbers["difference"] > 0:  # "above both" needs both tests: the larger p decides
        headline_p = max(p[one] for one in BASELINES)
        verdict = judge(better.numbers["difference"], headline_p)
    start = {
        SUPPORTED: f"Fusion is right more often than both baselines, {name} being the better one",
        OPEN: f"Fusion is not distinguishable from the better baseline, {name}",
        CONTRADICTED: f"Fusion is right less often than the better baseline, {name}",
    }[verdict]
    headline = replace(
        better,
        id="fusion-better-baseline",
        claim="Fusion is more accurate than the better baseline",
        text=f"{start}: {points(better.numbers['difference'])} {bracket(better.interval)} ({show_p(headline_p)}; {scope}).",
        verdict=verdict,
        p=headline_p,
    )
    return [headline, *pairs.values()]


def compare_within_margin(pairs: dict[str, Finding], better: str, scope: str) -> Finding:
    """The claim the project set out with: comparable or improved accuracy."""
    low = min(pairs[one].interval[0] for one in BASELINES)
    verdict = SUPPORTED if low > -COMPARABLE else OPEN
    if pairs[better].interval[1] < -COMPARABLE:
        verdict = CONTRADICTED
    margin = f"{100 * COMPARABLE:g} points"
    start = {
        SUPPORTED: f"Fusion's accuracy is comparable to or above both baselines': at worst {points(low)} (margin: {margin})",
        OPEN: f"Whether fusion's accuracy is within {margin} of the better baseline's stays open: at worst it is {points(low)}",
        CONTRADICTED: f"Fusion's accuracy is more than {margin} below {NAMES[better]}'s",
    }[verdict]
    return replace(
        pairs[better],
        id="comparable",
        claim="Fusion's accuracy is comparable or improved",
        text=f"{start}, difference to {NAMES[better]} {bracket(pairs[better].interval)} ({scope}).",
        verdict=verdict,
        numbers={**pairs[better].numbers, "lowest": low, "margin": COMPARABLE},
        test=f"paired bootstrap interval against a margin of {margin}",
        p=None,
    )


def compare_classes(evidence: Evidence, scope: str) -> list[Finding]:
    """Better on several classes than the better baseline? And on the worst class?"""
    other = evidence.better_baseline
    fusion, correct = evidence.correct("fusion"), evidence.correct(other)
    table = metrics.class_differences(evidence.labels, fusion, correct)
    certain = table["p_holm"] < ALPHA
    better, worse = certain & (table["difference"] > 0), certain & (table["difference"] < 0)
    verdict = OPEN
    if better.sum() >= SEVERAL and not worse.any():
        verdict = SUPPORTED
    elif worse.sum() > better.sum():
        verdict = CONTRADICTED
    accuracy = {one: metrics.class_accuracy(evidence.labels, evidence.correct(one)) for one in ("fusion", other)}
    macro = {one: np.nanmean(values) for one, values in accuracy.items()}
    start = {
        SUPPORTED: f"Fusion generalises better than {NAMES[other]} on several classes",
        OPEN: f"That fusion generalises better than {NAMES[other]} on several classes is not shown",
        CONTRADICTED: f"Fusion generalises worse than {NAMES[other]} on more classes than better",
    }[verdict]
    named = ", ".join(np.array(CLASSES)[better]) or "none"
    higher, lower = int((table["difference"] > 0).sum()), int((table["difference"] < 0).sum())
    classes = Finding(
        id="classes",
        claim="Fusion generalises better across several classes",
        text=f"{start}: significantly better on {better.sum()} ({named}), worse on {worse.sum()} of "
        f"{(table['n'] > 0).sum()}; by the bare numbers better on {higher}, worse on {lower}. "
        f"Macro recall {percent(macro['fusion'])} against {percent(macro[other])} ({scope}).",
        verdict=verdict,
        numbers={
            **{"classes_better": better.sum(), "classes_worse": worse.sum(), "classes_higher": higher, "classes_lower": lower},
            **{"macro_recall_fusion": macro["fusion"], f"macro_recall_{other}": macro[other]},
        },
        test=f"exact McNemar a class, Holm over classes; several: {SEVERAL} or more, and none worse",
        p=None,
        interval=None,
        n=len(fusion),
        view="evidence",
    )
    difference, interval = metrics.worst_class_difference(evidence.labels, fusion, correct)
    verdict = judge_interval(interval)
    lowest = {one: np.nanmin(values) for one, values in accuracy.items()}
    worst = {one: CLASSES[int(np.nanargmin(values))] for one, values in accuracy.items()}
    return [
        classes,
        Finding(
            id="worst-class",
            claim="Fusion is better on the worst class",
            text=f"On its worst class ({worst['fusion']}, {percent(lowest['fusion'])}) fusion "
            f"{relate(verdict, 'is better than', 'is worse than')} {NAMES[other]} on its own ({worst[other]}, "
            f"{percent(lowest[other])}): {points(difference)} {bracket(interval)} ({scope}).",
            verdict=verdict,
            numbers={**lowest, "difference": difference},
            test="paired bootstrap within the classes",
            p=None,
            interval=interval,
            n=len(fusion),
            view="evidence",
        ),
    ]


def compare_gaps(evidence: Evidence, scope: str) -> Finding:
    """Does fusion lose less between training and validation than the better baseline?"""
    other, recipe = evidence.better_baseline, evidence.run.recipe
    last = {one: evidence.histories[one].iloc[-1] for one in ("fusion", other)}
    train = {one: float(row["train_accuracy"]) for one, row in last.items()}
    gap = {one: train[one] - float(row["val_accuracy"]) for one, row in last.items()}
    val = {one: evidence.val_correct(one).astype(float) for one in last}
    seen = (recipe.images_per_split or TRAIN_IMAGES) // recipe.batch_size * recipe.batch_size  # of the last epoch
    variance = sum(share * (1 - share) / seen for share in train.values())
    variance += (val["fusion"] - val[other]).var() / len(val[other])
    difference = gap["fusion"] - gap[other]
    half = -ndtri(ALPHA / 2) * np.sqrt(variance)
    verdict = judge_interval((-difference - half, -difference + half))
    return Finding(
        id="gap",
        claim=f"Fusion's gap between training and validation is smaller than {NAMES[other]}'s",
        text=f"Fusion's gap between training and validation accuracy after the last epoch, {points(gap['fusion'])}, "
        f"{relate(verdict, *SMALLER)} {NAMES[other]}'s, {points(gap[other])}: "
        f"difference {bracket((difference - half, difference + half))} points; training accuracy is on augmented images ({scope}).",
        verdict=verdict,
        numbers={"gap_fusion": gap["fusion"], f"gap_{other}": gap[other], "difference": difference},
        test="normal interval, validation answers paired, training answers taken as independent",
        p=float(2 * ndtr(-abs(difference) / np.sqrt(variance))) if variance else float(difference == 0),
        interval=(float(difference - half), float(difference + half)),
        n=len(evidence.val_labels),
        view="training",
    )


def compare_probes(correct: dict[str, np.ndarray]) -> Finding:
    """A control: without any fine-tuning, do both backbones' features tell a linear classifier more than one's?

    `correct`: right answers (N,) of the probes on the test images, by model.
    """
    other = max(BASELINES, key=lambda model: correct[model].mean())
    p = metrics.mcnemar(correct["fusion"], correct[other])
    difference, interval = metrics.accuracy_difference(correct["fusion"], correct[other])
    verdict = judge(difference, p)
    accuracy = {model: float(correct[model].mean()) for model in ("fusion", other)}
    return Finding(
        id="probe",
        claim="Two frozen backbones' features tell more than one's",
        text=f"Before any fine-tuning, a linear classifier on both backbones' features {relate(verdict, *RIGHT)} one on "
        f"{NAMES[other]}'s: {percent(accuracy['fusion'])} against {percent(accuracy[other])}, {points(difference)} {bracket(interval)} "
        f"({show_p(p)}).",
        verdict=verdict,
        numbers={**accuracy, "difference": difference},
        test="exact McNemar; paired bootstrap",
        p=p,
        interval=interval,
        n=len(correct["fusion"]),
        view="evidence",
    )


def compare_calibration(evidence: Evidence, scope: str) -> list[Finding]:
    """Is fusion's confidence closer to its accuracy than the better baseline's, and does a temperature bring it closer?"""
    other = evidence.better_baseline
    temperature = {one: metrics.fit_temperature(evidence.val_labels, evidence.val_logits[one]) for one in ("fusion", other)}
    as_trained = {one: evidence.confident(one) for one in temperature}
    scaled = {one: evidence.confident(one, temperature[one]) for one in temperature}
    before = {one: metrics.calibration_error(*as_trained[one]) for one in temperature}
    after = {one: metrics.calibration_error(*scaled[one]) for one in temperature}
    difference, interval = metrics.calibration_error_difference(as_trained["fusion"], as_trained[other])
    verdict = judge_interval((-interval[1], -interval[0]))
    gain, gain_interval = metrics.calibration_error_difference(scaled["fusion"], as_trained["fusion"])
    gain_verdict = judge_interval((-gain_interval[1], -gain_interval[0]))
    test = "paired bootstrap of the calibration error in 15 bins of equal mass"
    return [
        Finding(
            id="calibration",
            claim=f"Fusion is better calibrated than {NAMES[other]}",
            text=f"As trained, fusion's calibration error {relate(verdict, *SMALLER)} {NAMES[other]}'s: "
            f"{100 * before['fusion']:.2f} against {100 * before[other]:.2f} points, difference {bracket(interval)} ({scope}).",
            verdict=verdict,
            numbers={"fusion": before["fusion"], other: before[other], "difference": difference},
            test=test,
            p=None,
            interval=interval,
            n=len(evidence.labels),
            view="calibration",
        ),
        Finding(
            id="temperature",
            claim="A temperature improves fusion's calibration",
            text=f"Fusion's calibration error with a temperature of {temperature['fusion']:.2f}, fitted on validation, "
            f"{relate(gain_verdict, *SMALLER)} without: {100 * after['fusion']:.2f} against "
            f"{100 * before['fusion']:.2f} points, difference {bracket(gain_interval)}; {NAMES[other]}'s is {100 * after[other]:.2f} "
            f"with {temperature[other]:.2f} ({scope}).",
            verdict=gain_verdict,
            numbers={
                **{"before": before["fusion"], "after": after["fusion"], "difference": gain, f"after_{other}": after[other]},
                **{"temperature_fusion": temperature["fusion"], f"temperature_{other}": temperature[other]},
            },
            test=test,
            p=None,
            interval=gain_interval,
            n=len(evidence.labels),
            view="calibration",
        ),
    ]


def measure_headroom(evidence: Evidence, scope: str) -> Finding:
    """How much of what a perfect choice between the baselines would gain does fusion take?"""
    better = evidence.better_baseline
    outcomes = [evidence.correct(one) for one in ("fusion", better, *(one for one in BASELINES if one != better))]
    counts = metrics.count_outcomes(*outcomes)  # (fusion, better, other)

    def split(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (R,) the oracle and fusion get right beyond the better baseline."""
        baseline = tables[:, :, 1].sum(axis=(1, 2))
        return tables[:, :, 0, 1].sum(axis=1), tables[:, 1].sum(axis=(1, 2)) - baseline

    draws = metrics.resample_outcomes(counts)
    headroom, taken = (int(values[0]) for values in split(counts[None]))
    room, gain = split(draws)
    n = len(outcomes[0])
    oracle = (counts.sum() - counts[:, 0, 0].sum()) / n
    if headroom == 0:
        share, interval, verdict = 0.0, (0.0, 0.0), OPEN
    else:
        share, interval = taken / headroom, metrics.percentile_interval(gain[room > 0] / room[room > 0])
        verdict = judge_interval(interval)
    start = {
        SUPPORTED: "Fusion takes part of what a perfect choice between the baselines would gain",
        OPEN: "That fusion takes part of what a perfect choice between the baselines would gain is not shown",
        CONTRADICTED: "Fusion loses where a perfect choice between the baselines would gain",
    }[verdict]
    return Finding(
        id="headroom",
        claim="Fusion takes part of what a perfect choice between the baselines would gain",
        text=f"{start}: the better one alone is right on {percent(outcomes[1].mean())}, either of them on {percent(oracle)}; "
        f"fusion's {percent(outcomes[0].mean())} is {round(100 * share)} % of the way "
        f"[{round(100 * interval[0])}, {round(100 * interval[1])}] ({scope}).",
        verdict=verdict,
        numbers={"fusion": outcomes[0].mean(), better: outcomes[1].mean(), "oracle": oracle, "share": share},
        test="bootstrap of the images",
        p=None,
        interval=interval,
        n=n,
        view="rescued",
    )


def compare_with_people(evidence: Evidence, votes: np.ndarray, scope: str) -> Finding:
    """Does fusion err where people disagree with the label too? `votes` are CIFAR-10H's counts (10000, 10)."""
    from scipy.stats import mannwhitneyu, spearmanr

    votes, rows = votes[evidence.index], np.arange(len(evidence.labels))
    agreement = metrics.human_agreement(votes, evidence.labels)
    confidence, right = evidence.confident("fusion")
    predicted = evidence.logits["fusion"].argmax(axis=1)
    numbers = {"agreement_right": agreement[right].mean() if right.any() else np.nan}
    numbers["agreement_wrong"] = agreement[~right].mean() if not right.all() else np.nan
    numbers["shared_by_someone"] = (votes[rows, predicted] > 0)[~right].mean() if not right.all() else np.nan
    if right.all() or not right.any() or np.ptp(agreement) == 0 or np.ptp(confidence) == 0:
        text, verdict, p, numbers["auc"] = "Whether fusion errs where people disagree cannot be asked: nothing to compare", OPEN, 1.0, 0.5
    else:
        test = mannwhitneyu(agreement[right], agreement[~right], method="asymptotic")
        p, numbers["auc"] = float(test.pvalue), test.statistic / (right.sum() * (~right).sum())
        numbers["rank_correlation"] = spearmanr(confidence, agreement).statistic
        verdict = judge(numbers["auc"] - 0.5, p)
        start = {
            SUPPORTED: "Fusion errs more where people disagree with the label too",
            OPEN: "That fusion errs more where people disagree with the label is not shown",
            CONTRADICTED: "Fusion errs more where people agree with the label",
        }[verdict]
        text = (
            f"{start}: on images it gets wrong {percent(numbers['agreement_wrong'])} of people chose the label, on the others "
            f"{percent(numbers['agreement_right'])} ({show_p(p)}); {percent(numbers['shared_by_someone'])} of its errors were also made "
            f"by at least one person; confidence and agreement have a rank correlation of {numbers['rank_correlation']:.2f}"
        )
    return Finding(
        id="people",
        claim="Fusion errs where people disagree",
        text=f"{text} ({scope}).",
        verdict=verdict,
        numbers=numbers,
        test="Mann-Whitney U of human agreement on right against wrong images",
        p=p,
        interval=None,
        n=len(rows),
        view="errors",
    )


def leave_out_relabelled(evidence: Evidence, label_errors: pd.DataFrame, scope: str) -> Finding | None:
    """Is fusion above the better baseline without the test images people doubt? None where a run has none of these, or no others."""
    doubted = np.isin(evidence.index, label_errors.loc[label_errors["relabelled"], "index"])
    if not doubted.any() or doubted.all():
        return None
    other = evidence.better_baseline
    fusion, correct = evidence.correct("fusion"), evidence.correct(other)
    difference, interval = metrics.accuracy_difference(fusion[~doubted], correct[~doubted])
    p = metrics.mcnemar(fusion[~doubted], correct[~doubted])
    verdict = judge(difference, p)
    return Finding(
        id="relabelled",
        claim="Fusion is more accurate without the doubted labels, too",
        text=f"Without the {doubted.sum()} test images whose label fewer than three of five annotators confirm, fusion "
        f"{relate(verdict, *RIGHT)} {NAMES[other]}: {percent(fusion[~doubted].mean())} "
        f"(with them {percent(fusion.mean())}) against {percent(correct[~doubted].mean())} ({percent(correct.mean())}), "
        f"{points(difference)} {bracket(interval)} ({show_p(p)}; {scope}).",
        verdict=verdict,
        numbers={
            **{"fusion": fusion[~doubted].mean(), other: correct[~doubted].mean(), "difference": difference},
            **{"fusion_with": fusion.mean(), f"{other}_with": correct.mean(), "left_out": doubted.sum()},
        },
        test="exact McNemar; paired bootstrap",
        p=p,
        interval=interval,
        n=int((~doubted).sum()),
        view="errors",
    )


# --- statements over seeds -------------------------------------------------------------------------------------------


def compare_robustness(evidence: Evidence, scope: str) -> Finding:
    """Fusion's mean corruption error against ResNet18's. Raises UserError."""
    run = evidence.run
    correct = {model: results.load_robustness(run, model) for model in ("resnet18", "fusion")}
    error, interval = metrics.corruption_error(*(group_conditions(correct[model]) for model in ("fusion", "resnet18")))
    verdict = judge_interval((1 - interval[1], 1 - interval[0]))
    corrupted = {model: float(rows[1:].mean()) for model, rows in correct.items()}
    return Finding(
        id="robustness",
        claim="Fusion withstands corrupted images better than ResNet18",
        text=f"On corrupted images fusion's error {relate(verdict, *SMALLER)} ResNet18's: mean corruption error "
        f"{100 * error:.1f} % of it [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]; right on {percent(corrupted['fusion'])} of them "
        f"against {percent(corrupted['resnet18'])} ({scope}).",
        verdict=verdict,
        numbers={"mean_corruption_error": error, **corrupted},
        test="paired bootstrap of the images, 8 corruptions in 5 severities",
        p=None,
        interval=interval,
        n=correct["fusion"].shape[1],
        view="robustness",
    )


def ablate_branches(evidence: Evidence, ablated: dict[str, np.ndarray], scope: str) -> Finding:
    """Does fusion need both branches? `ablated`: its logits (N, 10) with one branch's features replaced by their training mean."""
    whole = evidence.correct("fusion")
    without = {branch: logits.argmax(axis=1) == evidence.labels for branch, logits in ablated.items()}
    p = metrics.holm(np.array([metrics.mcnemar(whole, one) for one in without.values()]))
    differences = {branch: metrics.accuracy_difference(whole, one) for branch, one in without.items()}
    verdicts = [judge(difference, one) for (difference, _), one in zip(differences.values(), p, strict=True)]
    verdict = next(v for v in (CONTRADICTED, OPEN, SUPPORTED) if v in verdicts)
    start = {
        SUPPORTED: "Fusion needs both branches",
        OPEN: "That fusion needs both branches is not shown",
        CONTRADICTED: "Fusion is better off without one of its branches",
    }[verdict]
    least = min(differences, key=lambda branch: differences[branch][0])
    return Finding(
        id="branches",
        claim="Fusion needs both of its branches",
        text=f"{start}: with both it is right on {percent(whole.mean())}; with a branch's features replaced by their training mean, "
        + "; ".join(
            f"without {NAMES[branch]} on {percent(one.mean())} ({show_p(value)})"
            for (branch, one), value in zip(without.items(), p, strict=True)
        )
        + f" ({scope}).",
        verdict=verdict,
        numbers={"fusion": whole.mean(), **{f"without_{branch}": one.mean() for branch, one in without.items()}},
        test="exact McNemar, Holm over 2 branches",
        p=float(p.max()),
        interval=differences[least][1],
        n=len(whole),
        view="attributions",
    )


def compare_over_seeds(runs: list[Run]) -> list[Finding]:
    """Fusion against each other model, a difference a seed. Raises UserError."""
    seeds = [run.record["seed"] for run in runs]
    if len(runs) == 1:
        return [
            Finding(
                id="seeds",
                claim="Fusion is more accurate over seeds",
                text=f"Only seed {seeds[0]} was trained: how much another training would differ is not known.",
                verdict=OPEN,
                numbers={"seeds": 1},
                test="none: it needs 3 seeds",
                p=None,
                interval=None,
                n=1,
                view="evidence",
            )
        ]
    accuracy = seed_accuracies(runs)
    others = (*BASELINES, "ensemble")
    tests = {other: metrics.seed_test(accuracy["fusion"] - accuracy[other]) for other in others}
    corrected = metrics.holm(np.array([tests[other]["p"] for other in others])) if len(runs) > 2 else [None] * len(others)
    findings = []
    for other, p in zip(others, corrected, strict=True):
        test = tests[other]
        interval, tail = None, "two seeds are too few for a test"
        verdict = OPEN
        if p is not None:
            p, interval, verdict = float(p), (test["low"], test["high"]), judge(test["mean"], p)
            tail = f"{bracket(interval)}, {show_p(p)}"
        findings.append(
            Finding(
                id=f"seeds-{other}",
                claim=f"Over seeds, fusion is more accurate than {NAMES[other]}",
                text=f"Over seeds {', '.join(map(str, seeds))} fusion {relate(verdict, *RIGHT)} "
                f"{NAMES[other]}: {points(test['mean'])} ± {100 * test['std']:.2f} (standard deviation; {tail}).",
                verdict=verdict,
                numbers={"mean": test["mean"], "std": test["std"], "fusion": accuracy["fusion"].mean(), other: accuracy[other].mean()},
                test="t test of the differences over seeds, Holm over 3 pairs" if p is not None else "none: it needs 3 seeds",
                p=p,
                interval=interval,
                n=len(runs),
                view="evidence",
            )
        )
    return findings


def seed_accuracies(runs: list[Run]) -> pd.DataFrame:
    """Test accuracy, a row a run, a column a model, the ensemble included. Raises UserError."""
    rows = []
    for run in runs:
        _, labels, logits = results.load_logits(run)
        rows.append({model: float((values.argmax(axis=1) == labels).mean()) for model, values in logits.items()})
    return pd.DataFrame(rows)


# --- all of it -------------------------------------------------------------------------------------------------------


def find_findings(run: Run, seeds: Sequence[Run] = (), slow: bool = True) -> list[Finding]:
    """Every statement on a run, the headline's first; none unless it holds all three models. Raises UserError.

    `seeds` are runs of the same recipe and start weights, this one among them or not. Human votes and label errors are
    read from the folder the run lies in; without these files there are no statements on people. With `slow` False those on
    calibration and people are left out, which take as long as all the others.
    """
    if set(run.models) != set(TRIO):
        return []
    folder = run.path.parent
    others = {other.record["seed"]: other for other in seeds if set(other.models) == set(TRIO)}
    runs = [one for _, one in sorted((others | {run.record["seed"]: run}).items())]
    scope = f"seed {run.record['seed']} only"
    evidence = Evidence.load(run)
    headline, *pairs = compare_accuracies(evidence, scope)
    findings = [
        *(headline, compare_within_margin({pair.id.removeprefix("fusion-"): pair for pair in pairs}, evidence.better_baseline, scope)),
        *pairs,
        *compare_over_seeds(runs),
        *compare_classes(evidence, scope),
        compare_gaps(evidence, scope),
    ]
    if all((run.path / model / "probe.parquet").exists() for model in TRIO):
        probes = {model: results.load_predictions(run, model, name="probe") for model in TRIO}
        correct = {model: one.logits.argmax(axis=1) == evidence.labels for model, one in probes.items()}
        findings.append(compare_probes(correct))
    if slow:
        findings += compare_calibration(evidence, scope)
    findings.append(measure_headroom(evidence, scope))
    if slow and (folder / "human_votes.parquet").exists():
        findings.append(compare_with_people(evidence, results.load_human_votes(folder), scope))
    if (folder / "label_errors.parquet").exists():
        findings.append(leave_out_relabelled(evidence, results.load_label_errors(folder), scope))
    computed = (run.path / "fusion" / "attributions.npz").exists()
    if computed and (branches := results.load_attributions(run, "fusion").branches):
        findings.append(ablate_branches(evidence, branches["ablated"], scope))
    if all((run.path / model / "robustness.csv").exists() for model in TRIO):
        findings.append(compare_robustness(evidence, scope))
    return [finding for finding in findings if finding]


def write_headline(run: Run, findings: list[Finding]) -> str:
    """One sentence for a run: fusion against the better baseline, the ensemble and, where tested, over seeds."""
    by_id = {finding.id: finding for finding in findings}
    if not by_id:
        missing = ", ".join(NAMES[model] for model in TRIO if model not in run.models)
        return f"This run lacks {missing}: train the rest with --resume before anything can be compared."
    first, ensemble = by_id["fusion-better-baseline"], by_id["fusion-ensemble"]
    sentence = (
        f"{first.text.rstrip('.')}; it {relate(ensemble.verdict, *RIGHT)} "
        f"{NAMES['ensemble']}, {points(ensemble.numbers['difference'])} {bracket(ensemble.interval)}"
    )
    better = next(one for one in BASELINES if one in first.numbers)
    over_seeds = by_id.get(f"seeds-{better}")
    if over_seeds and over_seeds.p is not None:
        mean = points(over_seeds.numbers["mean"])
        sentence += f"; over {over_seeds.n} seeds the difference to {NAMES[better]} is {mean} ({show_p(over_seeds.p)})"
    return sentence + "."
