"""Statements on made-up answers whose truth is known: the numbers, the verdict, and words that go no further."""

import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy.stats import ttest_rel
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from core import findings, results, summaries
from core.config import BASELINES, RECIPES, TRIO
from core.findings import CONTRADICTED, OPEN, SUPPORTED, Evidence
from core.results import Run
from tests.fake_run import make_history, make_run

N = 2_000
LABELS = np.arange(N) % 10
SCOPE = "seed 0 only"


def answer(correct: np.ndarray, confidence: float | np.ndarray = 0.9) -> np.ndarray:
    """Logits (N, 10) that are right where `correct`, else name the next class, with the given confidence."""
    rows = np.arange(N)
    logits = np.zeros((N, 10))
    logits[rows, np.where(correct, LABELS, (LABELS + 1) % 10)] = np.log(9 * confidence / (1 - np.asarray(confidence)))
    return logits


def wrong_on(*spans: range) -> np.ndarray:
    """Correctness (N,) with errors at these positions."""
    correct = np.ones(N, bool)
    correct[[position for span in spans for position in span]] = False
    return correct


def build(fusion: np.ndarray, resnet18: np.ndarray, mobilenet_v2: np.ndarray, ensemble: np.ndarray | None = None, **changes) -> Evidence:
    """A run's evidence from correctness (N,) on test; validation answers are the same."""
    correct = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2, "fusion": fusion}
    correct["ensemble"] = resnet18 if ensemble is None else ensemble
    logits = {model: answer(one) for model, one in correct.items()} | changes.pop("logits", {})
    recipe = RECIPES["cpu-96"]
    histories = {m: pd.DataFrame(make_history(m, recipe, 0.6, correct[m].mean())) for m in TRIO} | changes.pop("histories", {})
    run = Run(results.RESULTS / "made-up", {"recipe": asdict(recipe), "seed": 0, "models": dict.fromkeys(TRIO)})
    return Evidence(run, np.arange(N), LABELS, logits, LABELS, changes.pop("val_logits", logits), histories)


def by_id(found: list[findings.Finding]) -> dict[str, findings.Finding]:
    return {one.id: one for one in found}


# --- accuracy --------------------------------------------------------------------------------------------------------

BETTER, WORSE, EQUAL = wrong_on(range(60)), wrong_on(range(300)), wrong_on(range(60, 120))  # 97 %, 85 %, 97 % right


def test_fusion_above_all_three():
    found = by_id(findings.compare_accuracies(build(BETTER, WORSE, wrong_on(range(40, 180))), SCOPE))
    tables = {"resnet18": (1_700, 240, 0, 60), "mobilenet_v2": (1_820, 120, 40, 20), "ensemble": (1_700, 240, 0, 60)}
    p = [mcnemar([[a, b], [c, d]], exact=True).pvalue for a, b, c, d in tables.values()]
    expected = dict(zip(tables, multipletests(p, method="holm")[1], strict=True))
    for other, table in tables.items():
        pair = found[f"fusion-{other}"]
        assert pair.p == pytest.approx(expected[other], rel=1e-6, abs=0)
        assert (pair.numbers["only_fusion_right"], pair.numbers[f"only_{other}_right"]) == table[1:3]
        assert pair.verdict == SUPPORTED and pair.n == N
    headline = found["fusion-better-baseline"]
    assert headline.verdict == SUPPORTED and headline.numbers["mobilenet_v2"] == 0.93
    assert headline.p == pytest.approx(max(expected["resnet18"], expected["mobilenet_v2"]), rel=1e-6, abs=0)
    assert "more often than both baselines, MobileNetV2 being the better one: +4.00 points" in headline.text


def test_fusion_above_one_baseline_alone_is_no_headline():
    found = by_id(findings.compare_accuracies(build(BETTER, WORSE, EQUAL), SCOPE))
    assert found["fusion-resnet18"].verdict == SUPPORTED
    assert found["fusion-mobilenet_v2"].verdict == found["fusion-better-baseline"].verdict == OPEN
    assert "not distinguishable from the better baseline, MobileNetV2: +0.00 points" in found["fusion-better-baseline"].text


def test_fusion_below_the_better_baseline_is_contradicted():
    found = by_id(findings.compare_accuracies(build(WORSE, WORSE, BETTER), SCOPE))
    assert found["fusion-better-baseline"].verdict == found["fusion-mobilenet_v2"].verdict == CONTRADICTED
    assert "less often than the better baseline, MobileNetV2: -12.00 points" in found["fusion-better-baseline"].text
    assert found["fusion-resnet18"].p == 1


@pytest.mark.parametrize(
    ("fusion", "verdict"),
    [(BETTER, SUPPORTED), (wrong_on(range(59)), SUPPORTED), (EQUAL, OPEN), (WORSE, CONTRADICTED), (wrong_on(range(62)), SUPPORTED)],
    ids=["the same answers", "one more", "as many others: too uncertain", "far below", "two fewer"],
)
def test_comparable_accuracy_needs_the_whole_interval(fusion, verdict):
    _, *pairs = findings.compare_accuracies(build(fusion, BETTER, BETTER), SCOPE)
    comparable = findings.compare_within_margin({one.id.removeprefix("fusion-"): one for one in pairs}, "resnet18", SCOPE)
    assert comparable.verdict == verdict
    assert (comparable.interval[0] > -findings.COMPARABLE) == (verdict == SUPPORTED)


def test_comparable_accuracy_needs_both_baselines():
    _, *pairs = findings.compare_accuracies(build(BETTER, BETTER, EQUAL), SCOPE)
    comparable = findings.compare_within_margin({one.id.removeprefix("fusion-"): one for one in pairs}, "resnet18", SCOPE)
    assert comparable.verdict == OPEN and comparable.interval == (0, 0) and comparable.numbers["lowest"] < -findings.COMPARABLE


# --- classes ---------------------------------------------------------------------------------------------------------


def wrong_in(classes: dict[int, int]) -> np.ndarray:
    """Correctness with the given number of errors in each class."""
    return wrong_on(*(range(c, 10 * n, 10) for c, n in classes.items()))


@pytest.mark.parametrize(
    ("fusion", "baseline", "verdict", "better", "worse"),
    [
        ({}, {0: 40, 3: 40, 5: 40}, SUPPORTED, 3, 0),
        ({}, {0: 40, 3: 40}, OPEN, 2, 0),
        ({7: 40}, {0: 40, 3: 40, 5: 40}, OPEN, 3, 1),
        ({7: 40}, {}, CONTRADICTED, 0, 1),
        (dict.fromkeys(range(10), 10), dict.fromkeys(range(10), 12), OPEN, 0, 0),
    ],
)
def test_several_classes_means_three(fusion, baseline, verdict, better, worse):
    classes, _ = findings.compare_classes(build(wrong_in(fusion), wrong_in(baseline), ~wrong_on()), SCOPE)
    assert classes.verdict == verdict
    assert (classes.numbers["classes_better"], classes.numbers["classes_worse"]) == (better, worse)
    assert classes.numbers["macro_recall_fusion"] == pytest.approx(wrong_in(fusion).mean())


def test_classes_are_named():
    classes, _ = findings.compare_classes(build(wrong_in({}), wrong_in({0: 40, 3: 40, 5: 40}), ~wrong_on()), SCOPE)
    assert "significantly better on 3 (airplane, cat, dog), worse on 0 of 10; by the bare numbers better on 3" in classes.text


def test_worst_class():
    _, worst = findings.compare_classes(build(wrong_in({2: 20}), wrong_in({3: 60}), ~wrong_on()), SCOPE)
    assert worst.verdict == SUPPORTED
    assert worst.numbers == pytest.approx({"fusion": 0.9, "resnet18": 0.7, "difference": 0.2})
    assert "(bird, 90.00 %)" in worst.text and "(cat, 70.00 %)" in worst.text


# --- training --------------------------------------------------------------------------------------------------------


def history(train: float, val: float, frozen_val: float = 0.8) -> pd.DataFrame:
    rows = pd.DataFrame(make_history("fusion", RECIPES["cpu-96"], 0.6, val))
    rows.loc[4, ["train_accuracy", "val_accuracy"]] = train, val
    rows.loc[0, "val_accuracy"] = frozen_val
    return rows


@pytest.mark.parametrize(("train", "verdict"), [(0.98, SUPPORTED), (1.0, OPEN), (1.02, CONTRADICTED)])
def test_gap(train, verdict):
    correct = {"fusion": BETTER, "resnet18": BETTER, "mobilenet_v2": WORSE}
    histories = {"fusion": history(train - 0.03, 0.95), "resnet18": history(0.97, 0.95)}
    gap = findings.compare_gaps(build(**correct, histories=histories), SCOPE)
    assert gap.verdict == verdict
    assert gap.numbers["gap_fusion"] == pytest.approx(train - 0.98)
    assert gap.numbers["gap_resnet18"] == pytest.approx(0.02)
    shares = np.array([train - 0.03, 0.97])  # the validation answers are the same: they add nothing
    half = 1.959964 * np.sqrt((shares * (1 - shares)).sum() / 44_928)
    assert gap.interval == pytest.approx((train - 1 - half, train - 1 + half), abs=1e-6)


@pytest.mark.parametrize(("fusion", "verdict"), [(range(260), SUPPORTED), (range(10, 330), OPEN), (range(420), CONTRADICTED)])
def test_probes_of_frozen_features(fusion, verdict):
    correct = {"fusion": wrong_on(fusion), "resnet18": wrong_on(range(600)), "mobilenet_v2": wrong_on(range(320))}
    found = findings.compare_probes(correct)
    assert found.verdict == verdict and "MobileNetV2" in found.text and found.n == N
    only = [int((correct[a] & ~correct[b]).sum()) for a, b in (("fusion", "mobilenet_v2"), ("mobilenet_v2", "fusion"))]
    assert found.p == pytest.approx(mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue, abs=1e-12)
    assert found.numbers["difference"] == pytest.approx((only[0] - only[1]) / N)


@pytest.mark.parametrize(
    ("without", "verdict", "word"),
    [
        ((range(300), range(200)), SUPPORTED, "needs both"),
        ((range(300), range(65)), OPEN, "is not shown"),
        ((range(300), range(10)), CONTRADICTED, "better off without"),
    ],
)
def test_fusion_without_one_of_its_branches(without, verdict, word):
    ablated = {branch: answer(wrong_on(one)) for branch, one in zip(BASELINES, without, strict=True)}
    found = findings.ablate_branches(build(BETTER, BETTER, BETTER), ablated, SCOPE)
    assert found.verdict == verdict and word in found.text
    p = [mcnemar([[0, abs(len(one) - 60)], [0, 0]], exact=True).pvalue for one in without]
    assert found.p == pytest.approx(multipletests(p, method="holm")[1].max(), rel=1e-6)


# --- confidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fusion", "resnet18", "verdict"), [(0.97, 0.7, SUPPORTED), (0.7, 0.97, CONTRADICTED), (0.9, 0.9, OPEN)])
def test_calibration_is_judged_as_trained(fusion, resnet18, verdict):
    logits = {"fusion": answer(BETTER, fusion), "resnet18": answer(BETTER, resnet18)}
    calibration, _ = findings.compare_calibration(build(BETTER, BETTER, WORSE, logits=logits), SCOPE)
    assert calibration.verdict == verdict
    assert calibration.numbers["fusion"] == pytest.approx(0.97 - fusion)
    assert calibration.numbers["resnet18"] == pytest.approx(0.97 - resnet18)


def test_a_temperature_is_fitted_on_validation():
    logits = {"fusion": answer(BETTER, 0.7)}
    _, temperature = findings.compare_calibration(build(BETTER, BETTER, WORSE, logits=logits), SCOPE)
    assert temperature.verdict == SUPPORTED
    assert temperature.numbers["before"] == pytest.approx(0.27)
    assert temperature.numbers["after"] == pytest.approx(0, abs=1e-4)
    misled = {model: answer(WORSE, 0.7) for model in TRIO}  # on validation as many are wrong as would suit 85 %
    _, temperature = findings.compare_calibration(build(BETTER, BETTER, WORSE, logits=logits, val_logits=misled), SCOPE)
    assert temperature.numbers["after"] == pytest.approx(0.97 - 0.85, abs=1e-4)


# --- controls and people ---------------------------------------------------------------------------------------------


def test_headroom_by_hand():
    first, second = wrong_on(range(100)), wrong_on(range(80, 200))  # either is right on all but 20
    found = findings.measure_headroom(build(wrong_on(range(60)), first, second), SCOPE)
    assert found.numbers == pytest.approx({"fusion": 0.97, "resnet18": 0.95, "oracle": 0.99, "share": 40 / 80})
    assert found.verdict == SUPPORTED and found.interval[0] < 0.5 < found.interval[1]
    assert "50 % of the way" in found.text


def test_no_headroom_and_loss():
    found = findings.measure_headroom(build(BETTER, BETTER, BETTER), SCOPE)
    assert (found.verdict, found.numbers["share"], found.interval) == (OPEN, 0, (0, 0))
    assert findings.measure_headroom(build(WORSE, BETTER, EQUAL), SCOPE).verdict == CONTRADICTED


def votes(agreement: np.ndarray) -> np.ndarray:
    """Counts (N, 10) of 50 people: this share for the label, the rest for the class two on."""
    counts = np.zeros((N, 10), int)
    counts[np.arange(N), LABELS] = (50 * agreement).round()
    counts[np.arange(N), (LABELS + 2) % 10] = 50 - counts[np.arange(N), LABELS]
    return counts


def test_people_disagree_where_fusion_errs():
    agreement = np.random.default_rng(0).uniform(0.7, 1, N)
    agreement[:60] -= 0.2
    counts = votes(agreement)
    counts[:30] = 0
    counts[np.arange(30), (LABELS[:30] + 1) % 10] = 50  # all people make these errors of fusion
    confidence = np.linspace(0.6, 0.99, N)
    evidence = build(BETTER, WORSE, EQUAL, logits={"fusion": answer(BETTER, confidence)})
    found = findings.compare_with_people(evidence, counts, SCOPE)
    shares = counts[np.arange(N), LABELS] / 50
    assert found.verdict == SUPPORTED and found.p < 1e-6
    assert found.numbers["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(BETTER, shares))
    assert found.numbers["agreement_wrong"] == pytest.approx(shares[:60].mean())
    assert found.numbers["agreement_right"] == pytest.approx(shares[60:].mean())
    assert found.numbers["shared_by_someone"] == 0.5
    assert found.numbers["rank_correlation"] == pytest.approx(pd.Series(confidence).corr(pd.Series(shares), method="spearman"))
    opposite = build(~BETTER, WORSE, EQUAL, logits={"fusion": answer(~BETTER, confidence)})
    assert findings.compare_with_people(opposite, counts, SCOPE).verdict == CONTRADICTED


@pytest.mark.parametrize(
    ("fusion", "confidence", "agreement"),
    [(wrong_on(), 0.6, 0.7), (~wrong_on(), 0.6, 0.7), (BETTER, 0.6, 1.0), (BETTER, 0.9, 0.7)],
    ids=["all right", "all wrong", "people agree everywhere", "equal confidence"],
)
def test_people_with_nothing_to_compare(fusion, confidence, agreement):
    logits = {"fusion": answer(fusion, np.linspace(confidence, 0.9, N))}
    counts = votes(np.linspace(agreement, 1, N))
    found = findings.compare_with_people(build(fusion, WORSE, EQUAL, logits=logits), counts, SCOPE)
    assert (found.verdict, found.p) == (OPEN, 1) and "cannot be asked" in found.text


def test_doubted_labels_are_left_out():
    errors = pd.DataFrame({"index": [0, 5, 70, 400, 9_999], "relabelled": [True, True, False, True, True]})
    found = findings.leave_out_relabelled(build(BETTER, WORSE, EQUAL & WORSE), errors, SCOPE)
    assert found.n == N - 3 and found.numbers["left_out"] == 3  # the last is not among these images
    assert found.numbers["fusion"] == pytest.approx((N - 3 - 58) / (N - 3))
    assert found.numbers["fusion_with"] == 0.97 and found.verdict == SUPPORTED
    assert findings.leave_out_relabelled(build(BETTER, WORSE, EQUAL), errors.assign(relabelled=False), SCOPE) is None


# --- whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four seeds of one recipe with 400 test images, human votes and label errors."""
    folder = tmp_path_factory.mktemp("results")
    for seed in range(4):
        make_run(folder, f"seed{seed}", n_test=400, seed=seed, labels=LABELS[:400])
    counts = np.full((10_000, 10), 1)
    counts[np.arange(10_000), np.arange(10_000) % 10] = np.random.default_rng(0).integers(20, 60, 10_000)
    results.write_human_votes(folder / "human_votes.parquet", counts)
    doubted = [dict.fromkeys(results.LABEL_ERROR_COLUMNS, 1) | {"index": index, "votes_given": index % 5} for index in range(0, 300, 7)]
    results.write_label_errors(folder / "label_errors.parquet", doubted)
    return folder


def open_seeds(folder, n: int) -> list[Run]:
    return [results.load_run(folder / f"seed{seed}") for seed in range(n)]


def test_every_statement_of_a_run_can_be_traced_and_says_no_more_than_its_test(folder):
    (run,) = open_seeds(folder, 1)
    found = findings.find_findings(run)
    assert found[0].id == "fusion-better-baseline"
    expected = {"comparable", "fusion-resnet18", "fusion-mobilenet_v2", "fusion-ensemble", "seeds", "classes", "worst-class", "gap"}
    expected |= {"probe", "robustness", "calibration", "temperature", "headroom", "people", "relabelled"}
    assert {one.id for one in found[1:]} == expected and len(found) == len(expected) + 1
    for one in found:
        assert one.verdict in (SUPPORTED, OPEN, CONTRADICTED) and one.view and one.test and one.claim
        assert ("seed 0" in one.text) == (one.id != "probe")  # a probe is not trained from a seed
        assert one.text.endswith(".") and one.n in (1, 200, 400, 400 - 26)
        assert all(type(value) in (int, float) for value in one.numbers.values())
        open_words = re.search(r"not distinguishable|not shown|stays open|not known", one.text)
        assert bool(open_words) == (one.verdict == OPEN), one.text
        if one.interval and one.id not in ("comparable",):
            assert one.interval[0] <= one.interval[1]


def test_the_first_page_can_do_without_the_slow_statements(folder):
    (run,) = open_seeds(folder, 1)
    left_out = ("calibration", "temperature", "people")
    assert findings.find_findings(run, slow=False) == [one for one in findings.find_findings(run) if one.id not in left_out]


def test_accuracies_are_those_of_the_answers(folder):
    (run,) = open_seeds(folder, 1)
    answers = summaries.per_image(run)
    pair = by_id(findings.find_findings(run))["fusion-ensemble"]
    assert pair.numbers["fusion"] == answers["fusion_correct"].mean()
    assert pair.numbers["ensemble"] == answers["ensemble_correct"].mean()


def test_without_people_nothing_is_said_of_them(tmp_path):
    run = results.load_run(make_run(tmp_path, "run", n_test=60, labels=LABELS[:60]))
    assert not {"people", "relabelled"} & set(by_id(findings.find_findings(run)))


def test_two_seeds_are_no_test(folder):
    found = by_id(findings.compare_over_seeds(open_seeds(folder, 2)))
    accuracy = findings.seed_accuracies(open_seeds(folder, 2))
    for other in (*BASELINES, "ensemble"):
        one = found[f"seeds-{other}"]
        assert (one.verdict, one.p, one.interval, one.n) == (OPEN, None, None, 2)
        assert one.numbers["mean"] == pytest.approx((accuracy["fusion"] - accuracy[other]).mean())
        assert "too few for a test" in one.text


def test_seeds_are_tested_from_three_on(folder, monkeypatch):
    table = pd.DataFrame({"fusion": [0.95, 0.952, 0.951, 0.95], "resnet18": [0.93, 0.931, 0.93, 0.928]})
    table["mobilenet_v2"], table["ensemble"] = [0.96, 0.961, 0.963, 0.96], [0.951, 0.95, 0.952, 0.95]
    monkeypatch.setattr(findings, "seed_accuracies", lambda runs: table)
    found = by_id(findings.compare_over_seeds(open_seeds(folder, 4)))
    assert [found[f"seeds-{other}"].verdict for other in (*BASELINES, "ensemble")] == [SUPPORTED, CONTRADICTED, OPEN]
    p = [ttest_rel(table["fusion"], table[other]).pvalue for other in (*BASELINES, "ensemble")]
    corrected = multipletests(p, method="holm")[1]
    assert [found[f"seeds-{other}"].p for other in (*BASELINES, "ensemble")] == pytest.approx(corrected, rel=1e-6, abs=0)
    assert found["seeds-resnet18"].numbers["mean"] == pytest.approx(0.021)
    assert found["seeds-resnet18"].text.startswith("Over seeds 0, 1, 2, 3 fusion is right more often than ResNet18: +2.10 points ± 0.08")


def test_each_seed_counts_once(folder):
    runs = open_seeds(folder, 3)
    found = by_id(findings.find_findings(runs[0], [*runs, runs[0]]))
    assert found["seeds-resnet18"].n == 3 and "seeds" not in found


def test_the_headline_says_all_that_was_tested(folder):
    runs = open_seeds(folder, 3)
    alone, together = (findings.write_headline(runs[0], findings.find_findings(runs[0], seeds)) for seeds in ((), runs))
    assert alone.count(".\n") == 0 and alone.endswith(".") and "seed 0 only" in alone and "the baselines' ensemble" in alone
    assert "over 3 seeds the difference to" in together and together.startswith(alone.rstrip("."))


def test_an_incomplete_run_is_not_compared(tmp_path):
    run = results.load_run(make_run(tmp_path, "run", n_test=60, models=("resnet18", "fusion"), labels=LABELS[:60]))
    assert findings.find_findings(run) == []
    assert findings.write_headline(run, []).startswith("This run lacks MobileNetV2")
