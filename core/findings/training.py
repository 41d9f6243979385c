"""What training did: the gap between training and test images, and what frozen features tell without any."""

import numpy as np
from scipy.special import ndtr, ndtri

from core import metrics, results
from core.config import BASELINES, TRIO, UserError
from core.findings.evidence import Evidence
from core.findings.finding import ALPHA, Need, Result, bracket, choose, judge, judge_interval, name, percent, points, show_p

TRAIN_SAMPLES = Need(tuple(f"{model}/train_sample.parquet" for model in TRIO), "python scripts/evaluate.py {run} --features", True)
PROBES = Need(tuple(f"{model}/probe.parquet" for model in TRIO), "python scripts/evaluate.py {run} --probe{start}")


def compare_gaps(evidence: Evidence, other: str) -> Result:
    """Final weights on training images without augmentation: the history's training accuracy is of moving weights on augmented ones.

    Against test images, since those of validation chose the recipe.
    """
    samples = {model: evidence.predict(model, "train", "train_sample") for model in ("fusion", other)}
    if not np.array_equal(samples["fusion"].index, samples[other].index):
        raise UserError(f"The samples of training images differ: run {TRAIN_SAMPLES.command.format(run=results.quote(evidence.run.path))}")
    train = {model: (one.logits.argmax(axis=1) == one.labels).astype(float) for model, one in samples.items()}
    test = {model: evidence.correct(model).astype(float) for model in samples}
    gap = {model: train[model].mean() - test[model].mean() for model in samples}
    smaller = gap[other] - gap["fusion"]
    pairs = [split["fusion"] - split[other] for split in (train, test)]  # both models saw the same images of each split
    if min(map(len, pairs)) < 2:
        raise UserError("It needs at least two training and two test images")
    error = np.sqrt(sum(pair.var(ddof=1) / len(pair) for pair in pairs))
    half = -ndtri(ALPHA / 2) * error
    interval = (float(smaller - half), float(smaller + half))
    verdict = judge_interval(interval)
    p = float(2 * ndtr(-abs(smaller) / error)) if error else float(smaller == 0)
    statement = choose(
        verdict,
        f"Fusion loses less between training and test images than {name(other)}",
        f"Fusion and {name(other)} are not distinguishable in what they lose between training and test images",
        f"Fusion loses more between training and test images than {name(other)}",
    )
    return Result(
        statement=statement,
        details=f"Correct on {percent(train['fusion'].mean())} of {len(pairs[0]):,} training images without augmentation and "
        f"{percent(test['fusion'].mean())} of the test images, a gap of {points(gap['fusion'])}; {name(other)}'s is "
        f"{points(gap[other])}. {name(other)}'s minus fusion's: {points(smaller)} {bracket(interval)}, {show_p(p)}.",
        verdict=verdict,
        numbers={
            **{"gap_fusion": gap["fusion"], f"gap_{other}": gap[other], "difference": gap["fusion"] - gap[other]},
            **{f"{when}_{model}": of[model].mean() for model in samples for when, of in (("train", train), ("test", test))},
        },
        test="normal interval, paired within both splits",
        p=p,
        effect=smaller,
        interval=interval,
        n=len(pairs[0]) + len(pairs[1]),
    )


def compare_probes(evidence: Evidence, _: str | None) -> Result:
    """A control: without any fine-tuning, do both backbones' features tell a linear classifier more than the better one's?"""
    correct = {}
    for split in ("val", "test"):
        probes = {model: evidence.predict(model, split, "probe") for model in TRIO}
        correct[split] = {model: one.logits.argmax(axis=1) == one.labels for model, one in probes.items()}
    other = max(BASELINES, key=lambda model: correct["val"][model].mean())
    fusion, single = correct["test"]["fusion"], correct["test"][other]
    p = metrics.mcnemar(fusion, single)
    difference, interval = metrics.accuracy_difference(fusion, single)
    verdict = judge(difference, p)
    statement = choose(
        verdict,
        "Before any fine-tuning, both networks' features together tell more than one's",
        "Before any fine-tuning, both networks' features together and one's are not distinguishable",
        "Before any fine-tuning, both networks' features together tell less than one's",
    )
    return Result(
        statement=statement,
        details=f"A linear probe on both backbones' features is correct on {percent(fusion.mean())} of the test images, one on "
        f"{name(other)}'s on {percent(single.mean())}: {points(difference)} {bracket(interval)}, {show_p(p)}.",
        verdict=verdict,
        numbers={"fusion": fusion.mean(), other: single.mean(), "difference": difference},
        test="exact McNemar; paired bootstrap",
        p=p,
        effect=difference,
        interval=interval,
        n=len(fusion),
    )
