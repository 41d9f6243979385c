"""The statistics among the metrics against scipy, scikit-learn, statsmodels or values by hand, and what they give at the edges."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.calibration
import sklearn.metrics
import statsmodels.stats.contingency_tables
import statsmodels.stats.multitest

from core import metrics

YES, NO = np.ones(50, bool), np.zeros(50, bool)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def labels(generator) -> np.ndarray:
    return generator.integers(0, 10, 400)


@pytest.fixture
def logits(generator, labels) -> np.ndarray:
    """(400, 10): about half of them right."""
    return (generator.standard_normal((400, 10)) + 2 * np.eye(10)[labels]).astype(np.float32)


def pair(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classifiers' correctness, shuffled together."""
    order = np.random.default_rng(1).permutation(both + only_first + only_second + neither)
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])[order]
    return first, np.repeat([True, False, True, False], [both, only_first, only_second, neither])[order]


# --- one classifier --------------------------------------------------------------------------------------------------


def test_an_ensemble_of_certain_models_stays_finite():
    certain = np.array([[5000.0, 0.0, 0.0]])
    assert np.isfinite(metrics.ensemble_logits(certain, certain)).all()


def test_class_accuracy_is_recall_and_nan_where_a_class_is_absent(labels, logits):
    correct = logits.argmax(axis=1) == labels
    expected = sklearn.metrics.recall_score(labels, logits.argmax(axis=1), average=None)
    np.testing.assert_allclose(metrics.class_accuracy(labels, correct), expected)
    sparse = metrics.class_accuracy(np.array([0, 0, 2]), np.array([True, False, True]), classes=4)
    np.testing.assert_array_equal(sparse, [0.5, np.nan, 1, np.nan])


# --- two classifiers -------------------------------------------------------------------------------------------------


def test_outcomes_are_counted_by_who_is_right():
    first, second = pair(5, 3, 2, 1)
    np.testing.assert_array_equal(metrics.count_outcomes(first, second), [[1, 2], [3, 5]])
    assert metrics.count_outcomes(YES, NO, YES)[1, 0, 1] == 50


@pytest.mark.parametrize("table", [(90, 5, 1, 4), (9_000, 451, 293, 256), (10, 3, 3, 4), (0, 0, 9, 0), (0, 40, 60, 0)])
def test_mcnemar(table):
    both, only_first, only_second, neither = table
    expected = statsmodels.stats.contingency_tables.mcnemar([[both, only_first], [only_second, neither]], exact=True).pvalue
    assert metrics.mcnemar(*pair(*table)) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand_and_where_answers_never_differ():
    assert metrics.mcnemar(*pair(0, 5, 1, 0)) == pytest.approx(2 * (1 + 6) / 2**6)
    assert metrics.mcnemar(YES, YES) == metrics.mcnemar(NO, NO) == 1


def test_holm(generator):
    for p in (np.array([0.01, 0.04, 0.03]), generator.random(10) ** 3, np.array([0.2]), np.array([0.02, 0.02, 1.0])):
        np.testing.assert_allclose(metrics.holm(p), statsmodels.stats.multitest.multipletests(p, method="holm")[1])
    np.testing.assert_allclose(metrics.holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_difference_interval_is_that_of_drawing_images():
    first, second = pair(700, 120, 60, 120)
    difference, interval = metrics.accuracy_difference(first, second)
    assert difference == pytest.approx(0.06)
    slow = scipy.stats.bootstrap(
        (first.astype(float), second.astype(float)), lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True, vectorized=True, n_resamples=4_000, batch=500, method="percentile", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    assert interval == pytest.approx((slow.low, slow.high), abs=0.003)


def test_difference_interval_at_the_edges():
    assert metrics.accuracy_difference(YES, YES) == (0.0, (0.0, 0.0))
    assert metrics.accuracy_difference(YES, NO) == (1.0, (1.0, 1.0))
    low, high = metrics.accuracy_difference(*pair(0, 25, 25, 0))[1]
    assert low == pytest.approx(-high, abs=0.05) and low < 0


def test_class_differences_are_statsmodels_and_scipys():
    """Three of five classes are there: p by statsmodels, corrected by it, intervals by scipy's bootstrap of the images."""
    labels = np.repeat([0, 1, 3], 60)
    tables = {0: (40, 15, 1, 4), 1: (40, 8, 8, 4), 3: (30, 2, 18, 10)}
    first, second = (np.concatenate(parts) for parts in zip(*(pair(*table) for table in tables.values()), strict=True))
    found = metrics.class_differences(labels, first, second, classes=5)
    assert found["n"].tolist() == [60, 60, 0, 60, 0]
    p = [statsmodels.stats.contingency_tables.mcnemar([[a, b], [c, d]], exact=True).pvalue for a, b, c, d in tables.values()]
    np.testing.assert_allclose(found["p"], [p[0], p[1], 1, p[2], 1])
    np.testing.assert_allclose(found["p_holm"][[0, 1, 3]], statsmodels.stats.multitest.multipletests(p, method="holm")[1])
    for position in tables:
        mine = labels == position
        recall = [sklearn.metrics.accuracy_score(np.ones(60), one[mine]) for one in (first, second)]
        assert found["difference"][position] == pytest.approx(recall[0] - recall[1])
        slow = scipy.stats.bootstrap(
            (first[mine].astype(float), second[mine].astype(float)), lambda a, b, axis: (a - b).mean(axis=axis),
            paired=True, vectorized=True, n_resamples=4_000, batch=1_000, method="percentile", rng=np.random.default_rng(3),
        ).confidence_interval  # fmt: skip
        assert (found["low"][position], found["high"][position]) == pytest.approx((slow.low, slow.high), abs=0.02)
    for column in ("difference", "low", "high", "smallest"):
        assert np.isnan(found[column][[2, 4]]).all()


@pytest.mark.parametrize("alpha", [0.05, 0.005])
@pytest.mark.parametrize("discordant", [0, 1, 5, 6, 9, 28, 60, 121, 448])
def test_the_least_difference_mcnemar_can_show(discordant, alpha):
    """One image less and the exact test of scipy would not be significant; where even one side alone is too few, more are needed."""
    found = metrics.smallest_difference(discordant, alpha)

    def p(net: int, n: int) -> float:
        return scipy.stats.binomtest((n - net) // 2, n).pvalue

    n = max(discordant, found)
    assert p(found, n) < alpha <= (p(found - 2, n) if n == discordant and found >= 2 else p(found - 1, n - 1) if n > 1 else 1)
    if discordant == 0:
        assert found == {0.05: 6, 0.005: 9}[alpha]


@pytest.mark.parametrize("others", [[0.001, 0.9], [0.9, 0.001], [0.001, 0.02], [0.03, 0.02], [0.02, 0.03, 0.001], []])
def test_what_holm_asks_of_a_p_beside_the_others(others):
    level = metrics.holm_level(np.array(others))
    for p, shown in ((0.999 * level, True), (1.001 * level, False)):
        corrected = statsmodels.stats.multitest.multipletests([p, *others], method="holm")[1][0]
        assert (corrected < 0.05) == shown


def test_worst_classes_are_each_classifiers_own():
    labels = np.repeat([0, 1], 100)
    first = np.concatenate([pair(90, 0, 0, 10)[0], np.ones(100, bool)])
    second = np.concatenate([np.ones(100, bool), pair(60, 0, 0, 40)[0]])
    difference, (low, high) = metrics.worst_class_difference(labels, first, second)
    assert difference == pytest.approx(0.9 - 0.6)
    error = np.sqrt((0.9 * 0.1 + 0.6 * 0.4) / 100)  # the worst classes are never in doubt and independent
    assert (low, high) == pytest.approx((0.3 - 1.96 * error, 0.3 + 1.96 * error), abs=0.02)
    assert metrics.worst_class_difference(labels, first, first) == (0.0, (0.0, 0.0))


def test_seeds():
    result = metrics.seed_test(np.array([1.0, 2.0, 3.0]))
    expected = scipy.stats.t.interval(0.95, 2, loc=2, scale=1 / np.sqrt(3))
    assert (result["mean"], result["std"], result["n"]) == (2, 1, 3)
    assert (result["low"], result["high"]) == pytest.approx(expected)
    assert result["p"] == pytest.approx(2 * scipy.stats.t.sf(2 * np.sqrt(3), 2))


def test_too_few_or_equal_seeds():
    one, two = metrics.seed_test(np.array([0.5])), metrics.seed_test(np.array([0.5, 0.7]))
    assert one["mean"] == 0.5 and np.isnan([one["std"], one["p"], one["low"]]).all()
    assert two["std"] == pytest.approx(np.sqrt(0.02)) and np.isnan([two["p"], two["low"]]).all()
    equal, zero = metrics.seed_test(np.full(3, 0.5)), metrics.seed_test(np.zeros(4))
    for one in (equal, zero):
        assert one["std"] == 0 and np.isnan([one["low"], one["high"], one["p"]]).all()


def test_the_least_mean_that_seeds_can_show():
    values = np.array([1.0, 2.0, 3.5, 0.5])
    smallest = metrics.smallest_mean(values.std(ddof=1), 4, 0.02)
    shifted = values - values.mean() + smallest
    assert metrics.seed_test(shifted + 0.001)["p"] < 0.02 < metrics.seed_test(shifted - 0.001)["p"]


def test_the_mean_lead_of_trainings_is_drawn_image_by_image():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3, 2_000)) < np.array([0.9, 0.85])[:, None, None]
    lead, (low, high) = metrics.mean_lead(first, second)
    gains = (first.astype(int) - second).mean(axis=0)
    assert lead == pytest.approx(gains.mean())
    drawn = gains[rng.integers(0, 2_000, (4_000, 2_000))].mean(axis=1)
    assert (low, high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.001)
    lead, interval = metrics.mean_lead(np.repeat(first[:1], 3, 0), np.repeat(second[:1], 3, 0))  # one training thrice is one training
    difference, expected = metrics.accuracy_difference(first[0], second[0])
    assert lead == pytest.approx(difference) and interval == pytest.approx(expected, abs=0.002)


# --- probabilities ---------------------------------------------------------------------------------------------------


def test_brier(labels, logits):
    expected = sklearn.metrics.brier_score_loss(labels, metrics.softmax(logits), labels=range(10), scale_by_half=False)
    assert metrics.brier_scores(labels, logits).mean() == pytest.approx(expected)
    np.testing.assert_allclose(metrics.brier_scores(np.array([0, 1]), np.array([[900.0, 0], [900.0, 0]])), [0, 2])


@pytest.mark.parametrize(("equal_mass", "strategy"), [(True, "quantile"), (False, "uniform")])
def test_reliability(labels, logits, equal_mass, strategy):
    confidence, correct = metrics.softmax(logits).max(axis=1), logits.argmax(axis=1) == labels
    diagram = metrics.reliability(confidence, correct, bins=8, equal_mass=equal_mass)
    accuracy, mean = sklearn.calibration.calibration_curve(correct, confidence, n_bins=8, strategy=strategy)
    np.testing.assert_allclose(diagram["accuracy"], accuracy)
    np.testing.assert_allclose(diagram["confidence"], mean)
    assert diagram["n"].sum() == 400
    assert (diagram["low"] <= diagram["confidence"]).all() and (diagram["confidence"] <= diagram["high"]).all()
    if equal_mass:
        assert diagram["n"].tolist() == [50] * 8


def test_a_bin_ends_with_its_upper_edge():
    diagram = metrics.reliability(np.array([0.5, 0.6, 1.0]), np.array([True, False, True]), bins=2, equal_mass=False)
    assert diagram["n"].tolist() == [1, 2] and diagram["high"].tolist() == [0.5, 1]


def test_calibration_error_by_hand():
    confidence = np.array([0.15, 0.25, 0.85, 0.95])
    correct = np.array([False, True, True, True])
    assert metrics.calibration_error(confidence, correct, bins=2, equal_mass=False) == pytest.approx((0.3 + 0.1) / 2)
    assert metrics.calibration_error(confidence, correct, bins=2) == pytest.approx((0.3 + 0.1) / 2)
    assert metrics.calibration_error(confidence, correct, bins=4) == pytest.approx((0.15 + 0.75 + 0.15 + 0.05) / 4)


@pytest.mark.parametrize("equal_mass", [True, False])
def test_calibration_error_at_the_edges(equal_mass):
    certain = np.ones(50)
    assert metrics.calibration_error(certain, YES, equal_mass=equal_mass) == 0
    assert metrics.calibration_error(certain, NO, equal_mass=equal_mass) == 1
    tied = np.full(50, 0.9)  # equal confidences share a bin, in whatever order
    assert metrics.calibration_error(tied, np.arange(50) < 25, equal_mass=equal_mass) == pytest.approx(0.4)
    assert metrics.calibration_error(np.array([0.7]), np.array([True]), equal_mass=equal_mass) == pytest.approx(0.3)


def slow_calibration_error(confidence: np.ndarray, correct: np.ndarray, edges: np.ndarray) -> float:
    """A bin at a time, by pandas's cut at the given edges."""
    bins = pd.cut(confidence, edges, labels=False, include_lowest=True)
    table = pd.DataFrame({"bin": bins, "gap": correct - confidence}).groupby("bin")["gap"].agg(["sum"])
    return float(table["sum"].abs().sum() / len(confidence))


def test_calibration_error_difference(generator):
    """Value and interval against a bootstrap by scipy of an error computed by pandas, the bins staying where they are."""
    confidence, other = generator.uniform(0.5, 1, 3_000), generator.uniform(0.4, 0.95, 3_000)
    honest, overconfident = generator.random(3_000) < confidence, generator.random(3_000) < other - 0.1
    difference, (low, high) = metrics.calibration_error_difference((confidence, honest), (other, overconfident))
    edges = [pd.qcut(one, 15, retbins=True)[1] for one in (confidence, other)]

    def statistic(index: np.ndarray) -> float:
        first = slow_calibration_error(confidence[index], honest[index], edges[0])
        return first - slow_calibration_error(other[index], overconfident[index], edges[1])

    assert difference == pytest.approx(statistic(np.arange(3_000)), abs=1e-9)
    slow = scipy.stats.bootstrap(
        (np.arange(3_000),), statistic, vectorized=False, n_resamples=400, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert (low, high) == pytest.approx((slow.low, slow.high), abs=0.004)
    assert high < 0
    same = metrics.calibration_error_difference((confidence, honest), (confidence, honest))
    assert same == (0.0, (0.0, 0.0))


def test_the_calibration_error_of_chance_is_that_of_simulated_calibrated_models(generator):
    confidence = generator.uniform(0.5, 1, 10_000)
    simulated = [metrics.calibration_error(confidence, generator.random(10_000) < confidence) for _ in range(60)]
    assert metrics.expected_calibration_error(confidence) == pytest.approx(np.mean(simulated), rel=0.1)


def test_temperature_undoes_scaled_logits(generator):
    logits = 2 * generator.standard_normal((20_000, 10))
    labels = np.array([generator.choice(10, p=row) for row in metrics.softmax(logits)])
    assert metrics.fit_temperature(labels, logits) == pytest.approx(1, abs=0.05)
    fitted = metrics.fit_temperature(labels, 3 * logits)
    assert fitted == pytest.approx(3, abs=0.15)
    losses = [metrics.cross_entropy(labels, 3 * logits / t).mean() for t in (fitted, 0.98 * fitted, 1.02 * fitted)]
    assert min(losses) == losses[0]


def test_temperature_stays_in_its_range():
    logits = np.eye(10)
    assert metrics.fit_temperature(np.arange(10), logits) == pytest.approx(0.05, rel=0.01)
    assert metrics.fit_temperature((np.arange(10) + 1) % 10, logits) == pytest.approx(20, rel=0.01)


def test_risk_coverage_by_hand():
    coverage, risk = metrics.risk_coverage(np.array([0.6, 0.9, 0.7, 0.8]), np.array([False, True, True, False]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3, 2 / 4])
    assert metrics.risk_coverage(np.linspace(0, 1, 50), YES)[1].max() == 0
    assert metrics.risk_coverage(np.linspace(0, 1, 50), NO)[1].min() == 1


def test_ties_give_the_mean_risk_over_their_orders():
    confidence, correct = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, True, False])
    orders = [[0, *middle, 4] for middle in itertools.permutations((1, 2, 3))]
    expected = np.mean([np.cumsum(~correct[order]) / np.arange(1, 6) for order in orders], axis=0)
    np.testing.assert_allclose(metrics.risk_coverage(confidence, correct)[1], expected)
