"""The basic numbers against hand and independent libraries."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.special import softmax as scipy_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from statsmodels.stats.proportion import proportion_confint

from core import metrics

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 10, 500)
LOGITS = (3 * GENERATOR.standard_normal((500, 10))).astype(np.float32)
PREDICTED = LOGITS.argmax(axis=1)


def test_softmax_is_scipys_and_does_not_overflow():
    np.testing.assert_allclose(metrics.softmax(LOGITS), scipy_softmax(LOGITS.astype(np.float64), axis=1), rtol=1e-12)
    assert metrics.softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)).tolist() == [[1, 0], [0.5, 0.5]]


def test_cross_entropy_is_the_log_likelihood():
    expected = logsumexp(LOGITS.astype(np.float64), axis=1) - LOGITS[np.arange(500), LABELS]
    np.testing.assert_allclose(metrics.cross_entropy(LABELS, LOGITS), expected, rtol=1e-9)
    assert metrics.cross_entropy(np.array([1]), np.array([[2e4, 0]], np.float32)) == pytest.approx(2e4)


def test_the_ensemble_averages_probabilities():
    """0.9 and 0.2 for the first class make 0.55: it wins, though the mean of the logits would let it lose."""
    first, second = np.log([[0.9, 0.1]]), np.log([[0.2, 0.8]])
    np.testing.assert_allclose(metrics.softmax(metrics.ensemble_logits(first, second)), [[0.55, 0.45]])
    np.testing.assert_allclose(metrics.softmax(metrics.ensemble_logits(LOGITS)), metrics.softmax(LOGITS))
    certain = np.array([[1e4, 0.0]])
    assert np.isfinite(metrics.ensemble_logits(certain, certain)).all()


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (9_312, 10_000), (1, 3)])
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_wilson_interval_is_statsmodels(right, n, confidence):
    expected = proportion_confint(right, n, alpha=1 - confidence, method="wilson")
    assert metrics.wilson_interval(right, n, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_interval_of_nothing_is_everything():
    assert metrics.wilson_interval(0, 0) == (0, 1)


def test_confusion_is_sklearns():
    counts = metrics.confusion(LABELS, PREDICTED)
    assert np.array_equal(counts, confusion_matrix(LABELS, PREDICTED))
    for by, theirs in (("true", "true"), ("predicted", "pred"), ("all", "all")):
        np.testing.assert_allclose(metrics.normalize_confusion(counts, by), confusion_matrix(LABELS, PREDICTED, normalize=theirs))
    assert metrics.confusion(np.array([0]), np.array([2]), classes=3).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert metrics.normalize_confusion(np.zeros((3, 3), int), "true").tolist() == np.zeros((3, 3)).tolist()  # no division by 0


def test_classes_that_are_confused_stand_side_by_side():
    counts = 90 * np.eye(6, dtype=int)
    for one, other, n in ((0, 4, 8), (1, 5, 8), (2, 3, 8), (4, 1, 2)):
        counts[one, other] = n  # in one direction alone
    order = metrics.cluster_classes(counts)
    assert sorted(order) == list(range(6))
    assert [abs(order.index(one) - order.index(other)) for one, other in ((0, 4), (1, 5), (2, 3), (4, 1))] == [1, 1, 1, 1]


def test_per_class_is_sklearns():
    expected = precision_recall_fscore_support(LABELS, PREDICTED, labels=range(12), zero_division=0)  # two classes are absent
    for values, theirs in zip(metrics.per_class(LABELS, PREDICTED, 12).values(), expected, strict=True):
        np.testing.assert_allclose(values, theirs)


def test_per_class_by_hand():
    """Class 0: 2 of 3 found, 1 false alarm. Class 1: 1 of 2 found, 1 false alarm. Class 2 is absent."""
    scores = metrics.per_class(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0]), classes=3)
    assert scores["precision"] == pytest.approx([2 / 3, 1 / 2, 0])
    assert scores["recall"] == pytest.approx([2 / 3, 1 / 2, 0])
    assert scores["f1"] == pytest.approx([2 / 3, 1 / 2, 0])
    assert scores["support"].tolist() == [3, 2, 0]
