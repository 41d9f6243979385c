"""Is a prediction correct as often as its confidence says?"""

from dataclasses import dataclass

import numpy as np

from core import metrics
from core.config import BASELINES, CLASSES
from core.findings.evidence import Evidence
from core.findings.finding import Result, bracket, choose, judge_interval, name, signed

TEST = "paired bootstrap of the calibration error in 15 bins of equal mass"


@dataclass(frozen=True)
class Confidence:
    """A model's, as trained and with the temperature fitted on validation; errors are shares."""

    temperature: float
    as_trained: tuple[np.ndarray, np.ndarray]  # (confidence, correct) of the test images
    scaled: tuple[np.ndarray, np.ndarray]
    before: float
    after: float


def measure_confidence(evidence: Evidence) -> dict[str, Confidence]:
    """Of fusion and both baselines."""
    measured = {}
    for model in ("fusion", *BASELINES):
        temperature = metrics.fit_temperature(evidence.val_labels, evidence.val_logits[model])
        as_trained, scaled = evidence.confident(model), evidence.confident(model, temperature)
        measured[model] = Confidence(
            temperature, as_trained, scaled, metrics.calibration_error(*as_trained), metrics.calibration_error(*scaled)
        )
    return measured


def compare_calibration(evidence: Evidence, other: str) -> Result:
    """Calibration errors as trained, in 15 bins; a bin's share of images that is correct against its mean confidence."""
    measured = evidence.once(measure_confidence)
    fusion, baseline = measured["fusion"], measured[other]
    difference, interval = metrics.calibration_error_difference(fusion.as_trained, baseline.as_trained)
    better = (-interval[1], -interval[0])
    verdict = judge_interval(better)
    statement = choose(
        verdict,
        f"Fusion's confidence is closer to its accuracy than {name(other)}'s",
        f"Fusion and {name(other)} are not distinguishable in how well confidence tells accuracy",
        f"Fusion's confidence is farther from its accuracy than {name(other)}'s",
    )
    loss = {model: metrics.cross_entropy(evidence.labels, evidence.logits[model]).mean() for model in ("fusion", other)}
    mean, accuracy = fusion.as_trained[0].mean(), evidence.correct("fusion").mean()
    smoothing = 0 if evidence.run.imported else evidence.run.recipe.label_smoothing
    modest = smoothing and accuracy - mean > fusion.before / 2
    baseline_mean, baseline_accuracy = baseline.as_trained[0].mean(), evidence.correct(other).mean()
    scaled, scaled_interval = metrics.calibration_error_difference(fusion.scaled, baseline.scaled)
    gaps, errors = [accuracy - mean, baseline_accuracy - baseline_mean], [fusion.before, baseline.before]
    under = np.allclose(gaps, errors, atol=1e-4)  # in every bin
    alike = (
        " Both are underconfident at all confidences: of two that are equally confident, the more accurate has the larger error." * under
    )
    why = f"Most of it fits the label smoothing of {smoothing:g}: mean" if modest else "Mean"
    return Result(
        statement=statement,
        details=f"Calibration error as trained: {100 * fusion.before:.2f} against {100 * baseline.before:.2f} points; "
        f"{name(other)}'s minus fusion's: {signed(-difference)} {bracket(better)}. {why} confidence is {100 * mean:.1f} %, accuracy "
        f"{100 * accuracy:.1f} %; {name(other)}'s {100 * baseline_mean:.1f} % and {100 * baseline_accuracy:.1f} %.{alike} With a "
        f"temperature each the difference is {signed(-scaled)} {bracket((-scaled_interval[1], -scaled_interval[0]))}. Negative "
        f"log-likelihood {loss['fusion']:.4f} against {loss[other]:.4f} nats.",
        verdict=verdict,
        numbers={
            **{"fusion": fusion.before, other: baseline.before, "difference": difference, "mean_confidence": mean},
            **{"nll_fusion": loss["fusion"], f"nll_{other}": loss[other]},
        },
        test=TEST,
        effect=-difference,
        interval=better,
        n=len(evidence.labels),
    )


def scale_confidence(evidence: Evidence, _: str | None) -> Result:
    """Does a temperature, fitted on validation, bring fusion's confidence closer to its accuracy?"""
    fusion = evidence.once(measure_confidence)["fusion"]
    baseline = evidence.once(measure_confidence)[evidence.better]
    difference, interval = metrics.calibration_error_difference(fusion.scaled, fusion.as_trained)
    better = (-interval[1], -interval[0])
    verdict = judge_interval(better)
    statement = choose(
        verdict,
        "One number, a temperature, brings fusion's confidence closer to its accuracy",
        "A temperature does not distinguishably bring fusion's confidence closer to its accuracy",
        "A temperature takes fusion's confidence farther from its accuracy",
    )
    confidence, correct = fusion.scaled
    predicted = evidence.logits["fusion"].argmax(axis=1)
    over = {c: (confidence - correct)[predicted == c].mean() for c in np.unique(predicted)}
    worst = max(over, key=lambda c: abs(over[c]))
    chance = metrics.expected_calibration_error(confidence)
    return Result(
        statement=statement,
        details=f"A temperature of {fusion.temperature:.2f}, fitted on validation, takes the calibration error from "
        f"{100 * fusion.before:.2f} to {100 * fusion.after:.2f} points (before minus after: {signed(-difference)} {bracket(better)}); "
        f"{name(evidence.better)}'s becomes {100 * baseline.after:.2f} with {baseline.temperature:.2f}. Chance alone would give a "
        f"calibrated model {100 * chance:.2f}. Predictions of {CLASSES[worst]} remain the worst calibrated: confidence minus accuracy "
        f"{100 * over[worst]:+.1f} points.",
        verdict=verdict,
        numbers={
            **{"before": fusion.before, "after": fusion.after, "difference": difference, f"after_{evidence.better}": baseline.after},
            **{"temperature_fusion": fusion.temperature, f"temperature_{evidence.better}": baseline.temperature},
            **{"chance": chance, "worst_class": over[worst]},
        },
        test=TEST,
        effect=-difference,
        interval=better,
        n=len(evidence.labels),
    )
