"""Numbers from predictions: arrays in, arrays out. N images, C classes; logits are (N, C), labels (N,) class positions.

Accuracies are shares in [0, 1]; losses are in nats. Intervals are (low, high) at 95 % unless said otherwise.
"""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) in float64; rows sum to one."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def ensemble_logits(*logits: np.ndarray) -> np.ndarray:
    """Logits (N, C) of the classifier that averages the given models' probabilities."""
    return np.log(np.mean([softmax(one) for one in logits], axis=0).clip(np.finfo(np.float64).tiny))


def oracle_correct(labels: np.ndarray, *logits: np.ndarray) -> np.ndarray:
    """(N,) bool: is any of the models right? What a perfect choice between them would reach."""
    return np.any([one.argmax(axis=1) == labels for one in logits], axis=0)


def cross_entropy(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Each image's negative log-likelihood (N,), without label smoothing."""
    logits = logits.astype(np.float64)
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def wilson_interval(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share `right / n` (Wilson 1927, as scipy computes it); (0, 1) where n is 0."""
    from scipy.stats import binomtest

    if n == 0:
        return 0.0, 1.0
    interval = binomtest(int(right), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


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
    """precision, recall, f1 and support, (C,) each (scikit-learn); 0 where a class is absent."""
    from sklearn.metrics import precision_recall_fscore_support

    values = precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    return dict(zip(("precision", "recall", "f1", "support"), values, strict=True))
