"""Numbers from predictions: arrays in, arrays out. N images, C classes; logits are (N, C), labels (N,) class positions.

Accuracies are shares in [0, 1]; losses are in nats. Intervals are (low, high) at 95 % unless said otherwise.
"""

import numpy as np
from scipy import special
from scipy.special import bdtr, ndtri, stdtr, stdtrit  # scipy.stats is imported where it is needed: it takes a second


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) in float64; rows sum to one."""
    return special.softmax(logits.astype(np.float64), axis=1)


def ensemble_logits(*logits: np.ndarray) -> np.ndarray:
    """Logits (N, C) of the classifier that averages the given models' probabilities."""
    return np.log(np.mean([softmax(one) for one in logits], axis=0).clip(np.finfo(np.float64).tiny))


def cross_entropy(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Each image's negative log-likelihood (N,), without label smoothing."""
    return -special.log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]


def wilson_interval(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share `correct / n` (Wilson 1927); (0, 1) where n is 0."""
    if n == 0:
        return 0.0, 1.0
    z2 = ndtri((1 + confidence) / 2) ** 2
    centre = (correct + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (correct * (n - correct) / n + z2 / 4)) / (n + z2)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int = 10) -> np.ndarray:
    """Counts (C, C): row = true class, column = predicted class."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def normalize_confusion(counts: np.ndarray, by: str) -> np.ndarray:
    """Divide counts (C, C) by the `true` class's sum (rows), the `predicted` class's (columns) or `all`; 0 where that is 0."""
    totals = {
        "true": counts.sum(axis=1, keepdims=True),
        "predicted": counts.sum(axis=0, keepdims=True),
        "all": counts.sum(keepdims=True),
    }[by]
    return np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)


def per_class(labels: np.ndarray, predicted: np.ndarray, classes: int = 10) -> dict[str, np.ndarray]:
    """precision, recall, f1 and support, (C,) each; 0 where a class is absent."""
    counts = confusion(labels, predicted, classes)
    correct, support, called = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    shares = {"precision": (correct, called), "recall": (correct, support), "f1": (2 * correct, support + called)}
    return {name: np.divide(part, whole, out=np.zeros(classes), where=whole > 0) for name, (part, whole) in shares.items()} | {
        "support": support
    }


def cluster_classes(counts: np.ndarray) -> list[int]:
    """An order of the classes that puts those confused with each other side by side (average linkage, optimal leaf order)."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    mixed = normalize_confusion(counts, "true")
    distance = 1 - (mixed + mixed.T) / 2
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance), "average", optimal_ordering=True)).tolist()


# --- comparing classifiers on the same images: `first` and `second` are (N,) bool, is the image predicted correctly? ----


def count_outcomes(*correct: np.ndarray) -> np.ndarray:
    """Images by who is correct: k arrays (N,) bool -> counts (2, …, 2), an axis a model, position 1 = correct."""
    shape = (2,) * len(correct)
    return np.bincount(np.ravel_multi_index([one.astype(int) for one in correct], shape), minlength=2 ** len(correct)).reshape(shape)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of the exact McNemar test (1947): of the images only one predicts correctly, are half the first's? 1 if none."""
    counts = count_outcomes(first, second)
    fewer, discordant = min(counts[1, 0], counts[0, 1]), counts[1, 0] + counts[0, 1]
    return min(1.0, 2 * float(bdtr(fewer, discordant, 0.5))) if discordant else 1.0


def smallest_difference(discordant: int, alpha: float = 0.05) -> int:
    """The least net number of images at which mcnemar gives p < alpha when `discordant` images are predicted correctly by one alone.

    Where even all of them on one side would not do, the least number of images that would.
    """
    least = int(np.floor(1 - np.log2(alpha))) + 1  # 2 · 0.5^n < alpha
    if discordant < least:
        return least
    fewer = np.arange(discordant // 2 + 1)
    return int(discordant - 2 * fewer[2 * bdtr(fewer, discordant, 0.5) < alpha].max())


def holm(p: np.ndarray) -> np.ndarray:
    """p values (k,) corrected for being looked at together (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1)).clip(max=1)
    corrected = np.empty(len(p))
    corrected[order] = stepped
    return corrected


def holm_level(others: np.ndarray, alpha: float = 0.05) -> float:
    """What a p value must stay below to be significant after holm, beside `others` (k,) as they are: alpha / (k + 1) to alpha."""
    left = len(others) + 1
    for p in np.sort(others):
        if p >= alpha / left:
            break
        left -= 1
    return alpha / left


def resample_outcomes(counts: np.ndarray, resamples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Bootstrap counts (resamples, *counts.shape).

    Drawing N images with replacement and counting their outcomes is one multinomial draw, whatever N.
    """
    n = counts.sum()
    draws = np.random.default_rng(seed).multinomial(n, counts.ravel() / n, resamples)
    return draws.reshape(resamples, *counts.shape)


def percentile_interval(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of bootstrap draws (R,)."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def total_interval(gains: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the sum of the images' gains (N,), which take few values."""
    steps, counts = np.unique(gains, return_counts=True)
    return percentile_interval(resample_outcomes(counts) @ steps)


def accuracy_difference(first: np.ndarray, second: np.ndarray, resamples: int = 10_000, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """first's accuracy minus second's, and its paired bootstrap interval; (0, 0) if they are correct on the same images."""
    draws = resample_outcomes(count_outcomes(first, second), resamples, seed)
    return float(first.mean() - second.mean()), percentile_interval((draws[:, 1, 0] - draws[:, 0, 1]) / len(first))


def class_accuracy(labels: np.ndarray, correct: np.ndarray, classes: int = 10) -> np.ndarray:
    """Share of each class's images that is predicted correctly (C,), which is its recall; NaN where a class is absent.

    Its nanmean is the macro accuracy, its nanmin the worst class's.
    """
    totals = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, weights=correct, minlength=classes)
    return np.divide(hits, totals, out=np.full(classes, np.nan), where=totals > 0)


def class_differences(labels: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int = 10) -> dict[str, np.ndarray]:
    """Class by class, (C,) each: n, difference, low, high (paired bootstrap), p (exact McNemar), p_holm over the classes and smallest.

    smallest: the least difference the test can show at 5 % where no other class differs more, a share of the class's images.
    An absent class has n 0, NaN for difference, interval and smallest, p 1, and does not count for Holm.
    """
    columns = {name: np.full(classes, np.nan) for name in ("difference", "low", "high", "smallest")}
    n, p, p_holm = np.bincount(labels, minlength=classes), np.ones(classes), np.ones(classes)
    tested = (n > 0).sum()
    for position in np.flatnonzero(n):
        mine = labels == position
        difference, (low, high) = accuracy_difference(first[mine], second[mine])
        columns["difference"][position], columns["low"][position], columns["high"][position] = difference, low, high
        p[position] = mcnemar(first[mine], second[mine])
        columns["smallest"][position] = smallest_difference(int((first ^ second)[mine].sum()), 0.05 / tested) / n[position]
    p_holm[n > 0] = holm(p[n > 0])
    return {"n": n, **columns, "p": p, "p_holm": p_holm}


def worst_class_difference(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Accuracy on first's worst class minus that on second's worst (each its own), bootstrapped within the classes."""
    present = np.unique(labels)
    tables = [resample_outcomes(count_outcomes(first[labels == c], second[labels == c]), seed=int(c)) for c in present]
    shares = np.stack([table / table[0].sum() for table in tables])  # (C, R, 2, 2)
    draws = shares[:, :, 1, :].sum(axis=-1).min(axis=0) - shares[:, :, :, 1].sum(axis=-1).min(axis=0)  # (R,)
    difference = np.nanmin(class_accuracy(labels, first)) - np.nanmin(class_accuracy(labels, second))
    return float(difference), percentile_interval(draws)


def seed_test(values: np.ndarray, confidence: float = 0.95) -> dict[str, float]:
    """mean, std (of the sample), and, from 3 seeds on, interval low, high and p of "the mean is 0" (one-sample t test).

    NaN where there are too few seeds, or no spread between them to test by.
    """
    values = np.asarray(values, float)
    result = {"n": len(values), "mean": float(values.mean()), "std": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
    if len(values) > 1:
        result["std"] = float(values.std(ddof=1)) if np.ptp(values) > 0 else 0.0
    if len(values) > 2 and np.ptp(values) > 0:
        error, freedom = result["std"] / len(values) ** 0.5, len(values) - 1
        reach = error * stdtrit(freedom, (1 + confidence) / 2)
        p = 2 * stdtr(freedom, -abs(result["mean"]) / error)
        result |= {"low": result["mean"] - reach, "high": result["mean"] + reach, "p": float(p)}
    return result


def smallest_mean(std: float, n: int, alpha: float = 0.05) -> float:
    """The least mean of `n` values of standard deviation `std` (of the sample) at which seed_test gives p < alpha."""
    return float(stdtrit(n - 1, 1 - alpha / 2) * std / n**0.5)


def mean_lead(first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[float, float]]:
    """first's mean accuracy over trainings minus second's, from (S, N) bool each, and its bootstrap interval over the N images.

    An image is drawn for all trainings at once: their errors on it are not independent. The trainings stay as they are.
    """
    gains = (first.astype(int) - second).sum(axis=0)
    low, high = total_interval(gains)
    return float(gains.mean() / len(first)), (low / first.size, high / first.size)


# --- probabilities: `confidence` (N,) is the largest probability, `correct` (N,) bool ---------------------------------


def brier_scores(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Each image's squared distance (N,) between probabilities and the true class: 0 certain and correct, 2 certain and wrong."""
    return ((softmax(logits) - np.eye(logits.shape[1])[labels]) ** 2).sum(axis=1)


def confidence_edges(confidence: np.ndarray, bins: int = 15, equal_mass: bool = True) -> np.ndarray:
    """Ascending bin edges: of [0, 1] in equal widths, or with about equally many images between them.

    Equal confidences always share a bin, so with ties there can be fewer bins than asked for.
    """
    if equal_mass:
        return np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)))
    return np.linspace(0, 1, bins + 1)


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = 15, equal_mass: bool = True) -> dict[str, np.ndarray]:
    """The reliability diagram: low, high, n, confidence (mean) and accuracy of each bin (low, high] that holds images."""
    edges = confidence_edges(confidence, bins, equal_mass)
    place = np.searchsorted(edges[1:-1], confidence)
    n = np.bincount(place, minlength=max(len(edges) - 1, 1))
    held = n > 0
    return {
        "low": edges[:-1][held] if len(edges) > 1 else edges,
        "high": edges[1:][held] if len(edges) > 1 else edges,
        "n": n[held],
        "confidence": np.bincount(place, confidence, len(n))[held] / n[held],
        "accuracy": np.bincount(place, correct, len(n))[held] / n[held],
    }


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15, equal_mass: bool = True) -> float:
    """Expected calibration error (Naeini et al. 2015): mean |accuracy - confidence| over the bins, weighted by images."""
    diagram = reliability(confidence, correct, bins, equal_mass)
    return float(np.average(np.abs(diagram["accuracy"] - diagram["confidence"]), weights=diagram["n"]))


def expected_calibration_error(confidence: np.ndarray, bins: int = 15) -> float:
    """The calibration error (equal mass) that chance alone gives a perfectly calibrated model of these confidences (N,).

    A bin's accuracy then strays from its confidence by a normal with variance sum c (1 - c) / n², whose mean size this averages.
    """
    place = np.searchsorted(confidence_edges(confidence, bins)[1:-1], confidence)
    variance = np.bincount(place, confidence * (1 - confidence))
    return float(np.sqrt(2 / np.pi * variance).sum() / len(confidence))


def calibration_error_difference(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], resamples: int = 1_000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Calibration error (equal mass) of the first (confidence, correct) minus that of the second, same images; paired
    bootstrap interval, the bins staying where they are."""
    n = len(first[0])
    gaps = []  # each bin's sum of (correct - confidence), as a matrix that sums the images
    for confidence, correct in (first, second):
        place = np.searchsorted(confidence_edges(confidence)[1:-1], confidence)
        gaps.append(np.eye(place.max() + 1)[place] * (correct - confidence)[:, None])  # (N, bins)
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(0, resamples, 100):  # in hundreds: all counts at once would take 160 MB
        counts = np.stack([np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(100)])  # (100, N)
        one, other = (np.abs(counts @ gap).sum(axis=1) / n for gap in gaps)
        draws.append(one - other)
    return calibration_error(*first) - calibration_error(*second), percentile_interval(np.concatenate(draws)[:resamples])


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The T in [0.05, 20] for which logits / T have the least cross-entropy (Guo et al. 2017); fit it on validation.

    An end of the range is the result if all are correct (0.05) or confidence has nothing to say (20).
    """
    from scipy.optimize import minimize_scalar

    low, high = np.log(0.05), np.log(20)
    found = minimize_scalar(lambda t: cross_entropy(labels, logits / np.exp(t)).mean(), bounds=(low, high), method="bounded")
    return float(np.exp(found.x))


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """coverage (N,) and risk (N,): share of wrong predictions among the k most confident, k = 1 … N.

    Images of equal confidence come in no order: their errors are spread evenly over them. The mean risk is the area under
    the curve (AURC, Geifman et al. 2019).
    """
    _, place, n = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = (np.bincount(place, ~correct) / n).repeat(n)
    k = np.arange(1, len(confidence) + 1)
    return k / len(k), np.cumsum(wrong) / k


# --- beside people, and on corrupted images ---------------------------------------------------------------------------


def human_agreement(votes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share (N,) of the votes (N, 10) that go to the label (N,)."""
    return votes[np.arange(len(labels)), labels] / votes.sum(axis=1)


def corruption_error(wrong: np.ndarray, reference: np.ndarray, resamples: int = 1_000, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Mean corruption error relative to a reference model, and its 95 % interval from resampled images, paired.

    `wrong` and `reference`: (corruptions, severities, N) bool on the same images. A corruption's error is a model's sum over its
    severities divided by the reference's, and these are averaged (Hendrycks & Dietterich 2019); below 1 is better than the
    reference. NaN where the reference makes no error.
    """
    sums = [one.sum(axis=1).astype(np.float64) for one in (wrong, reference)]  # (corruptions, N) each

    def ratio(weights: np.ndarray) -> np.ndarray:  # (B, N) -> (B,)
        errors, of_reference = (weights @ one.T for one in sums)
        return np.where(of_reference > 0, errors / np.where(of_reference > 0, of_reference, 1), np.nan).mean(axis=1)

    n, generator = wrong.shape[-1], np.random.default_rng(seed)
    draws = [ratio(np.bincount(generator.integers(0, n, n), minlength=n)[None].astype(np.float64)) for _ in range(resamples)]
    return float(ratio(np.ones((1, n)))[0]), percentile_interval(np.concatenate(draws))


# --- what fusing changed: `after` (N,) bool, is fusion correct?; `before` the same of the models it is compared with ------


def transitions(after: np.ndarray, *before: np.ndarray) -> np.ndarray:
    """Each image's gain (N,) over the mean of `before`: above 0 rescued (correct where one was wrong), below 0 broken, else 0.

    1 or -1 where all of `before` were wrong or correct; the sum is the images gained over their mean accuracy.
    """
    return after - np.mean(before, axis=0)


def class_transitions(labels: np.ndarray, gain: np.ndarray, classes: int = 10) -> dict[str, np.ndarray]:
    """Class by class, (C,) each, from the gains (N,) of `transitions`: n, rescued, broken (images), net (sum), low, high (bootstrap).

    An absent class has zeros throughout.
    """
    columns = {name: np.bincount(labels[gain * sign > 0], minlength=classes) for name, sign in (("rescued", 1), ("broken", -1))}
    n, low, high = np.bincount(labels, minlength=classes), np.zeros(classes), np.zeros(classes)
    for position in np.flatnonzero(n):
        low[position], high[position] = total_interval(gain[labels == position])
    return {"n": n, **columns, "net": np.bincount(labels, weights=gain, minlength=classes), "low": low, "high": high}
