"""Claims on made-up predictions whose truth is known: the numbers, the verdict, and words that go no further."""

import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics
from scipy.special import softmax as scipy_softmax
from scipy.stats import norm, ttest_rel
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from core import combine, findings, metrics, results, summaries
from core.config import BASELINES, RECIPES, TRIO, UserError, label
from core.findings import (
    BETTER,
    CONTRADICTED,
    EITHER,
    OPEN,
    SUPPORTED,
    UNTESTED,
    Claim,
    Evidence,
    Need,
    Result,
    accuracy,
    branches,
    calibration,
    classes,
    controls,
    doubtful,
    headroom,
    people,
    robustness,
    training,
)
from core.results import Predictions, Run
from tests.fake_run import make_run

N = 2_000
LABELS = np.arange(N) % 10


def answer(correct: np.ndarray, confidence: float | np.ndarray = 0.9) -> np.ndarray:
    """Logits (N, 10) that are correct where `correct`, else name the next class, with the given confidence."""
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
    """A run's evidence from correctness (N,) on test; validation predictions are the same."""
    correct = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2, "fusion": fusion}
    correct["ensemble"] = resnet18 if ensemble is None else ensemble
    logits = {model: answer(one) for model, one in correct.items()} | changes.pop("logits", {})
    models = {model: {} for model in TRIO}
    record = {"recipe": asdict(RECIPES["cpu-96"]), "seed": 0, "models": models, "start_weights": {}, "precision": "float32"}
    run = Run(results.RESULTS / "made-up", record)
    return Evidence(run, [], np.arange(N), LABELS, logits, LABELS, changes.pop("val_logits", logits))


def by_id(found: list[findings.Finding]) -> dict[str, findings.Finding]:
    return {one.id: one for one in found}


# --- accuracy --------------------------------------------------------------------------------------------------------

BETTER_ONE, WORSE, EQUAL = wrong_on(range(60)), wrong_on(range(300)), wrong_on(range(60, 120))  # 97 %, 85 %, 97 % correct


def test_fusion_above_all_three():
    evidence = build(BETTER_ONE, WORSE, wrong_on(range(40, 180)))
    tables = {"resnet18": (1_700, 240, 0, 60), "mobilenet_v2": (1_820, 120, 40, 20), "ensemble": (1_700, 240, 0, 60)}
    p = [mcnemar([[a, b], [c, d]], exact=True).pvalue for a, b, c, d in tables.values()]
    expected = dict(zip(tables, multipletests(p, method="holm")[1], strict=True))
    for other, table in tables.items():
        found = accuracy.compare_accuracy(evidence, other)
        assert found.p == pytest.approx(expected[other], rel=1e-6, abs=0)
        assert (found.numbers["only_fusion"], found.numbers[f"only_{other}"]) == table[1:3]
        assert found.verdict == SUPPORTED and found.n == N and found.effect == pytest.approx((table[1] - table[2]) / N)
        assert found.statement.startswith("In this training fusion is more accurate than")


@pytest.mark.parametrize(("fusion", "verdict"), [(EQUAL, OPEN), (WORSE, CONTRADICTED)])
def test_fusion_not_above_the_better_baseline(fusion, verdict):
    found = accuracy.compare_accuracy(build(fusion, WORSE, BETTER_ONE), "mobilenet_v2")
    assert found.verdict == verdict
    assert ("not distinguishable" in found.statement, "less accurate" in found.statement) == (verdict == OPEN, verdict == CONTRADICTED)


def test_the_better_baseline_is_chosen_on_validation():
    val = {"resnet18": answer(WORSE), "mobilenet_v2": answer(BETTER_ONE)}
    evidence = build(BETTER_ONE, BETTER_ONE, WORSE, val_logits=val)
    assert (evidence.better, evidence.other) == ("mobilenet_v2", "resnet18")  # though ResNet18 is better on test


def test_the_least_difference_a_test_can_show_is_said():
    found = accuracy.compare_accuracy(build(BETTER_ONE, EQUAL, EQUAL), "resnet18")  # 120 images only one is correct on
    assert found.numbers["smallest"] == 28 / N and "a difference below 1.40 points could not have been shown" in found.details
    alone = accuracy.compare_accuracy(build(BETTER_ONE, EQUAL, WORSE, WORSE), "resnet18")  # of three pairs the others are beyond doubt
    assert alone.numbers["smallest"] == 24 / N
    largest = accuracy.compare_accuracy(build(BETTER_ONE, WORSE, wrong_on(range(100)), wrong_on(range(100))), "resnet18")
    assert largest.numbers["smallest"] == metrics.smallest_difference(240, 0.05) / N  # which would show it beside the other two


@pytest.mark.parametrize(
    ("fusion", "verdict"),
    [(BETTER_ONE, SUPPORTED), (wrong_on(range(59)), SUPPORTED), (EQUAL, OPEN), (WORSE, CONTRADICTED), (wrong_on(range(62)), SUPPORTED)],
    ids=["the same predictions", "one more", "as many others: too uncertain", "far below", "two fewer"],
)
def test_comparable_accuracy_needs_the_whole_interval(fusion, verdict):
    found = accuracy.compare_within_margin(build(fusion, BETTER_ONE, BETTER_ONE), "resnet18")
    assert found.verdict == verdict
    assert (found.interval[0] > found.neutral == -accuracy.MARGIN) == (verdict == SUPPORTED)


def test_comparable_accuracy_needs_both_baselines():
    found = accuracy.compare_within_margin(build(BETTER_ONE, BETTER_ONE, EQUAL), "resnet18")
    assert found.verdict == OPEN and found.interval[0] == found.numbers["lowest"] < -accuracy.MARGIN
    assert found.statement == "It is not shown whether in this training fusion's accuracy is comparable to MobileNetV2's"
    assert found.details.index("to MobileNetV2") < found.details.index("to ResNet18 +0.00 points")  # the one that decides comes first


def test_a_baseline_that_fusion_is_shown_to_be_below_decides():
    """Though the other one's interval, which is wider, begins lower."""
    wide, narrow = wrong_on(range(50), range(100, 112)), wrong_on(range(60))
    found = accuracy.compare_within_margin(build(wrong_on(range(80)), wide, narrow), "resnet18")
    (low, high), (other_low, _) = found.interval, metrics.accuracy_difference(wrong_on(range(80)), wide)[1]
    assert other_low < low < high < -accuracy.MARGIN and found.verdict == CONTRADICTED
    assert found.statement == "In this training fusion's accuracy is more than 0.5 points below MobileNetV2's"


def test_the_margin_is_less_than_the_share_of_wrong_test_labels():
    """54 of 10,000 (Northcutt et al. 2021): the reason stands beside the number."""
    assert 0 < accuracy.MARGIN < 54 / 10_000


# --- classes ---------------------------------------------------------------------------------------------------------


def wrong_in(errors: dict[int, int]) -> np.ndarray:
    """Correctness with the given number of errors in each class."""
    return wrong_on(*(range(c, 10 * n, 10) for c, n in errors.items()))


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
    found = classes.compare_classes(build(wrong_in(fusion), wrong_in(baseline), ~wrong_on()), "resnet18")
    assert found.verdict == verdict and found.effect == better - worse
    assert (found.numbers["classes_better"], found.numbers["classes_worse"]) == (better, worse)
    assert found.numbers["macro_recall_fusion"] == pytest.approx(wrong_in(fusion).mean())


def test_classes_are_named_and_what_could_not_be_seen_is_said():
    found = classes.compare_classes(build(wrong_in({}), wrong_in({0: 40, 3: 40, 5: 40}), ~wrong_on()), "resnet18")
    assert "Significantly better on 3 (airplane, cat, dog), worse on 0 of 10; by the bare numbers better on 3" in found.details
    # 9 of a class's 200 images are the fewest with 2 · 0.5^9 < 0.05 / 10; of 40 that only one is correct on, 30 against 10 would do
    assert (found.numbers["smallest_low"], found.numbers["smallest_high"]) == (9 / 200, 20 / 200)
    assert "must reach 4.5 to 10.0 points" in found.details


def test_classes_that_gain_and_classes_that_lose_are_both_said():
    evidence = build(wrong_in({4: 60}), wrong_in({0: 60, 1: 60, 2: 60, 3: 60}), WORSE)
    found = classes.compare_classes(evidence, "resnet18")
    assert found.verdict == OPEN and found.statement == "Fusion is better than ResNet18 on some classes and worse on others"


def test_worst_class():
    found = classes.compare_worst_class(build(wrong_in({2: 20}), wrong_in({3: 60}), ~wrong_on()), "resnet18")
    assert found.verdict == SUPPORTED
    assert found.numbers == pytest.approx({"fusion": 0.9, "resnet18": 0.7, "difference": 0.2})
    assert "Fusion's is bird, 90.00 %" in found.details and "is cat, 70.00 %" in found.details


# --- training --------------------------------------------------------------------------------------------------------


def with_files(evidence: Evidence, on_val: dict[str, np.ndarray] | None = None, **files: dict[str, np.ndarray]) -> Evidence:
    """Evidence whose other files hold these models' correctness (N,), the same on every split unless told for validation."""

    def predict(model: str, split: str = "test", file: str = "predictions") -> Predictions:
        correct = on_val if on_val and split == "val" else files[file]
        return Predictions(np.arange(N), LABELS, answer(correct[model]))

    evidence.predict = predict
    return evidence


@pytest.mark.parametrize(
    ("fusion", "verdict"), [(range(95), SUPPORTED), (range(55), OPEN), (range(10), CONTRADICTED)], ids=["loses less", "alike", "loses more"]
)
def test_the_gap_is_that_of_final_weights_on_plain_training_images(fusion, verdict):
    nobody = {model: answer(np.zeros(N, bool)) for model in ("fusion", "resnet18", "mobilenet_v2", "ensemble")}
    test = {"fusion": wrong_on(range(60)), "resnet18": wrong_on(range(1_500, 1_560))}
    evidence = build(test["fusion"], test["resnet18"], WORSE, val_logits=nobody)  # validation, which chose the recipe, has no say
    sample = {"fusion": wrong_on(fusion), "resnet18": wrong_on(range(1_000, 1_050))}
    found = training.compare_gaps(with_files(evidence, train_sample=sample), "resnet18")
    assert found.verdict == verdict
    assert found.numbers["gap_fusion"] == pytest.approx(60 / N - len(fusion) / N)
    of_train, of_test = (one["resnet18"].astype(float) - one["fusion"] for one in (sample, test))
    error = np.sqrt((of_train.var(ddof=1) + of_test.var(ddof=1)) / N)
    assert found.effect == pytest.approx(of_train.mean() - of_test.mean())
    assert found.p == pytest.approx(2 * norm.sf(abs(found.effect) / error), rel=1e-6)


def test_samples_of_other_training_images_are_not_compared(tmp_path):
    run = results.load_run(make_run(tmp_path, "run", n_test=400, labels=LABELS[:400]))
    assert findings.find_findings(run, ids=("gap",))[0].verdict != UNTESTED
    sample = results.load_predictions(run, "fusion", "train", name="train_sample")
    for kept, moved in ((300, 0), (400, 1)):
        splits = {"train": (sample.index[:kept] + moved, sample.labels[:kept], sample.logits[:kept])}
        results.write_predictions(run.path / "fusion" / "train_sample.parquet", splits)
        (found,) = findings.find_findings(run, ids=("gap",))
        assert found.verdict == UNTESTED and found.details.startswith(
            "The samples of training images differ: run python scripts/evaluate.py"
        )


@pytest.mark.parametrize(("fusion", "verdict"), [(range(260), SUPPORTED), (range(10, 330), OPEN), (range(420), CONTRADICTED)])
def test_probes_of_frozen_features(fusion, verdict):
    correct = {"fusion": wrong_on(fusion), "resnet18": wrong_on(range(600)), "mobilenet_v2": wrong_on(range(320))}
    on_val = dict(correct)
    correct["resnet18"] = wrong_on(range(2))  # better on test, but validation chooses
    found = training.compare_probes(with_files(build(BETTER_ONE, WORSE, WORSE), on_val, probe=correct), None)
    assert found.verdict == verdict and "MobileNetV2" in found.details and found.n == N
    only = [int((correct[a] & ~correct[b]).sum()) for a, b in (("fusion", "mobilenet_v2"), ("mobilenet_v2", "fusion"))]
    assert found.p == pytest.approx(mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue, abs=1e-12)
    assert found.effect == pytest.approx((only[0] - only[1]) / N)


# --- branches --------------------------------------------------------------------------------------------------------

PARTS = [((range(300), range(200)), SUPPORTED), ((range(300), range(65)), OPEN), ((range(65), range(10)), CONTRADICTED)]


@pytest.mark.parametrize(("parts", "verdict"), PARTS)
@pytest.mark.parametrize("kind", ["mean", "head"])
def test_fusion_beside_its_branches(monkeypatch, parts, verdict, kind):
    correct = {branch: wrong_on(one) for branch, one in zip(BASELINES, parts, strict=True)}
    evidence = build(BETTER_ONE, BETTER_ONE, BETTER_ONE)
    if kind == "mean":
        monkeypatch.setattr(branches, "load_ablated", lambda evidence: correct)
        found = branches.ablate_branches(evidence, None)
        assert ("not need" in found.details and "depend" in found.statement) or verdict == CONTRADICTED
    else:
        files = {f"branch_{branch}": {"fusion": one} for branch, one in correct.items()}
        found = branches.compare_with_heads(with_files(evidence, **files), None)
        assert ("either of its branches' own heads" in found.statement) == (verdict == SUPPORTED)
    assert found.verdict == verdict
    p = [mcnemar([[0, abs(len(one) - 60)], [0, 0]], exact=True).pvalue for one in parts]
    corrected = multipletests(p, method="holm")[1]
    assert found.p == pytest.approx(corrected.min() if verdict == CONTRADICTED else corrected.max(), rel=1e-6)  # one branch is enough
    assert found.effect == pytest.approx((min(map(len, parts)) - 60) / N)


@pytest.mark.parametrize(
    ("resnet18", "mobilenet_v2", "verdict"),
    [(range(60), range(60), SUPPORTED), (range(60), range(100), CONTRADICTED), (range(30, 92), range(60), OPEN)],
    ids=["the same", "one starved", "too uncertain"],
)
def test_branches_beside_their_networks_alone(resnet18, mobilenet_v2, verdict):
    heads = {"branch_resnet18": {"fusion": wrong_on(resnet18)}, "branch_mobilenet_v2": {"fusion": wrong_on(mobilenet_v2)}}
    found = controls.compare_heads_alone(with_files(build(WORSE, BETTER_ONE, BETTER_ONE), **heads), None)
    assert found.verdict == verdict and ("starves" in found.statement) == (verdict == CONTRADICTED)
    assert "less accurate" not in found.statement
    assert found.statement.endswith("or less than 0.5 points below") == (verdict == SUPPORTED)  # a loss of less may be there
    only = [(len(set(range(60)) - set(one)), len(set(one) - set(range(60)))) for one in (resnet18, mobilenet_v2)]
    p = [mcnemar([[0, a], [b, 0]], exact=True).pvalue for a, b in only]
    assert found.p == pytest.approx(multipletests(p, method="holm")[1].min(), rel=1e-6)


def test_a_branch_that_lost_something_is_named_though_whether_it_is_much_stays_open():
    heads = {"branch_resnet18": {"fusion": wrong_on(range(60))}, "branch_mobilenet_v2": {"fusion": wrong_on(range(72))}}
    found = controls.compare_heads_alone(with_files(build(WORSE, BETTER_ONE, BETTER_ONE), **heads), None)
    assert found.verdict == OPEN
    assert found.statement == "MobileNetV2 is less accurate as a branch than alone; whether by more than 0.5 points is open"


@pytest.mark.parametrize(
    ("fusion", "verdict", "changed"), [(range(60), OPEN, 0), (range(40), SUPPORTED, 20), (range(90), CONTRADICTED, 30)]
)
def test_what_the_fused_head_adds_to_the_mean_of_its_heads(fusion, verdict, changed):
    """The heads err on the first 40 and 80 images, the surer one decides: their mean errs on the first 60."""
    sure = np.where(np.arange(N) < 60, 0.6, 0.99)
    evidence = build(wrong_on(fusion), WORSE, WORSE)
    evidence._kept[branches.load_heads] = {"resnet18": answer(wrong_on(range(40)), sure), "mobilenet_v2": answer(wrong_on(range(80)), 0.9)}
    found = controls.compare_with_head_mean(evidence, None)
    assert found.verdict == verdict and found.numbers["changed"] == changed
    assert found.details.endswith(f"The fused head changes {changed} of 2,000 predictions.")
    evidence.run.record["recipe"] = asdict(RECIPES["cpu-224"])
    shortcut = controls.compare_with_head_mean(evidence, None)
    assert shortcut.details.endswith(f"that mean plus what its MLP adds: the MLP changes {changed} of 2,000 predictions.")
    said = findings.say_mixing(evidence.run, [findings.Finding(id="head-mean", kind="controls", against=None, claim="", **vars(shortcut))])
    same = f"This MLP, the only part that mixes features, changes {changed} of 2,000 predictions with seed 0: "
    assert (same in said) == bool(said) == (verdict == OPEN)
    assert found.numbers["second"] == 1 - 60 / N
    assert ("image by image" in found.statement) == (changed == 0)


# --- confidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fusion", "resnet18", "verdict"), [(0.97, 0.7, SUPPORTED), (0.7, 0.97, CONTRADICTED), (0.9, 0.9, OPEN)])
def test_calibration_is_judged_as_trained(fusion, resnet18, verdict):
    logits = {"fusion": answer(BETTER_ONE, fusion), "resnet18": answer(BETTER_ONE, resnet18)}
    found = calibration.compare_calibration(build(BETTER_ONE, BETTER_ONE, WORSE, logits=logits), "resnet18")
    assert found.verdict == verdict and found.effect == pytest.approx(abs(0.97 - resnet18) - abs(0.97 - fusion))
    assert found.numbers["fusion"] == pytest.approx(0.97 - fusion)
    assert found.numbers["nll_fusion"] == pytest.approx(sklearn.metrics.log_loss(LABELS, np.exp(log_softmax(logits["fusion"]))))
    assert f"ean confidence is {100 * fusion:.1f} %, accuracy 97.0 %" in found.details
    assert ("fits the label smoothing of 0.1" in found.details) == (fusion < 0.97)  # which makes no model too sure


def test_smoothing_is_named_only_where_confidence_lies_mostly_below_accuracy():
    """Too sure of one half, too modest of the other: on average there is next to nothing to explain."""
    right = wrong_on(range(100), range(1_000, 1_095))  # 90 % of either half
    logits = {"fusion": answer(right, np.where(np.arange(N) < 1_000, 0.999, 0.8))}
    found = calibration.compare_calibration(build(right, WORSE, WORSE, logits=logits), "resnet18")
    assert found.numbers["fusion"] > 0.09 and found.numbers["mean_confidence"] < right.mean()
    assert "label smoothing" not in found.details


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_a_temperature_is_fitted_on_validation():
    logits = {"fusion": answer(BETTER_ONE, 0.7)}
    found = calibration.scale_confidence(build(BETTER_ONE, BETTER_ONE, WORSE, logits=logits), None)
    assert found.verdict == SUPPORTED
    assert found.numbers["before"] == pytest.approx(0.27)
    assert found.numbers["after"] == pytest.approx(0, abs=1e-4)
    assert found.effect == pytest.approx(0.27, abs=1e-4)
    misled = {model: answer(WORSE, 0.7) for model in TRIO}  # on validation as many are wrong as would suit 85 %
    found = calibration.scale_confidence(build(BETTER_ONE, BETTER_ONE, WORSE, logits=logits, val_logits=misled), None)
    assert found.numbers["after"] == pytest.approx(0.97 - 0.85, abs=1e-4)


def test_the_class_whose_confidence_stays_off_most_is_named():
    """Errors of class 3 are predicted as 4: of what is called 4, a ninth is wrong, at the same confidence as all else."""
    correct = wrong_in({3: 25})
    evidence = build(correct, correct, WORSE, logits={"fusion": answer(correct, 0.95)})
    found = calibration.scale_confidence(evidence, None)
    confidence, right = evidence.confident("fusion", found.numbers["temperature_fusion"])
    called = evidence.logits["fusion"].argmax(axis=1) == 4
    assert "Predictions of deer remain the worst calibrated" in found.details
    assert found.numbers["worst_class"] == pytest.approx(confidence[called].mean() - right[called].mean())


# --- controls and people ---------------------------------------------------------------------------------------------


def test_headroom_by_hand():
    first, second = wrong_on(range(100)), wrong_on(range(80, 200))  # either is correct on all but 20
    found = headroom.measure_headroom(build(wrong_on(range(60)), first, second), "resnet18")
    assert found.numbers == pytest.approx({"fusion": 0.97, "resnet18": 0.95, "oracle": 0.99, "share": 40 / 80})
    assert found.verdict == SUPPORTED and found.interval[0] < 0.5 < found.interval[1]
    assert found.statement == "Fusion gains 50 % as much as a perfect choice between the two networks would"
    assert "a gain 50 % as large" in found.details and "; 20 of its images neither network gets." in found.details


def test_a_gain_is_corrected_alike_wherever_it_stands(monkeypatch):
    """What Holm's correction leaves open is not shown by calling it headroom, nor by leaving out one image."""
    evidence = build(wrong_on(range(30)), wrong_on(range(20, 67)), wrong_on(range(22, 68)), wrong_on(range(30)))
    doubted = pd.DataFrame({"index": [500], "votes_given": [0], "votes_both": [0], "relabelled": [True]})
    monkeypatch.setattr(results, "load_label_errors", lambda folder: doubted)
    tests = accuracy.compare_accuracy, headroom.measure_headroom, doubtful.leave_out_relabelled
    found = [test(evidence, "resnet18") for test in tests]
    assert metrics.mcnemar(evidence.correct("fusion"), evidence.correct("resnet18")) < 0.05 < found[0].p
    assert [(one.verdict, one.p) for one in found] == [(OPEN, found[0].p)] * 3
    assert all("The interval is of this comparison alone; corrected for three" in one.details for one in found)  # it leaves out 0
    assert "1 test image is left out: " in found[2].details and "1 image is left out and the difference" in found[2].details


def test_no_headroom_and_loss():
    with pytest.raises(UserError, match="nothing to gain, so nothing to test"):
        headroom.measure_headroom(build(BETTER_ONE, BETTER_ONE, BETTER_ONE), "resnet18")
    assert headroom.measure_headroom(build(WORSE, BETTER_ONE, EQUAL), "resnet18").verdict == CONTRADICTED


def votes(agreement: np.ndarray) -> np.ndarray:
    """Counts (N, 10) of 50 people: this share for the label, the rest for the class two on."""
    counts = np.zeros((N, 10), int)
    counts[np.arange(N), LABELS] = (50 * agreement).round()
    counts[np.arange(N), (LABELS + 2) % 10] = 50 - counts[np.arange(N), LABELS]
    return counts


def test_people_disagree_where_fusion_errs(monkeypatch):
    agreement = np.random.default_rng(0).uniform(0.7, 0.97, N)
    agreement[:60] -= 0.2
    counts = votes(agreement)
    counts[:30] = 0
    counts[np.arange(30), (LABELS[:30] + 1) % 10] = 50  # all people make these errors of fusion
    monkeypatch.setattr(results, "load_human_votes", lambda folder: counts)
    confidence = np.linspace(0.6, 0.99, N)
    found = people.compare_with_people(build(BETTER_ONE, WORSE, EQUAL, logits={"fusion": answer(BETTER_ONE, confidence)}), None)
    shares = counts[np.arange(N), LABELS] / 50
    assert found.verdict == SUPPORTED and found.p < 1e-6
    for model, correct in (("fusion", BETTER_ONE), ("resnet18", WORSE), ("mobilenet_v2", EQUAL)):
        assert found.numbers[f"auc_{model}"] == pytest.approx(sklearn.metrics.roc_auc_score(correct, shares))
    assert found.effect == found.numbers["auc_fusion"] and found.neutral == 0.5
    assert found.numbers["agreement_wrong"] == pytest.approx(shares[:60].mean())
    assert found.numbers["agreement_correct"] == pytest.approx(shares[60:].mean())
    assert found.numbers["shared_by_someone"] == 0.5
    assert found.numbers["base_rate"] == pytest.approx(0.5 / 8)  # half of these have, among eight others, one that someone chose
    assert found.numbers["rank_correlation"] == pytest.approx(pd.Series(confidence).corr(pd.Series(shares), method="spearman"))
    opposite = build(~BETTER_ONE, WORSE, EQUAL, logits={"fusion": answer(~BETTER_ONE, confidence)})
    assert people.compare_with_people(opposite, None).verdict == CONTRADICTED
    for others, alike in ((BETTER_ONE, ", as the other models do"), (wrong_on(np.flatnonzero(shares > 0.95)[:40]), "")):
        evidence = build(BETTER_ONE, BETTER_ONE, others, logits={"fusion": answer(BETTER_ONE, confidence)})
        found = people.compare_with_people(evidence, None)
        assert found.statement == f"Fusion errs where fewer people choose the label{alike}"
        assert ("not special to fusion" in found.details) == bool(alike)
    by_chance = wrong_on(range(500, 2_000, 25))  # where people agree as elsewhere
    evidence = build(by_chance, BETTER_ONE, BETTER_ONE, logits={"fusion": answer(by_chance, confidence)})
    found = people.compare_with_people(evidence, None)
    assert found.verdict == OPEN and "not special to fusion" not in found.details


@pytest.mark.parametrize(
    ("fusion", "confidence", "agreement"),
    [(wrong_on(), 0.6, 0.7), (~wrong_on(), 0.6, 0.7), (BETTER_ONE, 0.6, 1.0), (BETTER_ONE, 0.9, 0.7)],
    ids=["all correct", "all wrong", "people agree everywhere", "equal confidence"],
)
def test_people_with_nothing_to_compare(monkeypatch, fusion, confidence, agreement):
    monkeypatch.setattr(results, "load_human_votes", lambda folder: votes(np.linspace(agreement, 1, N)))
    logits = {"fusion": answer(fusion, np.linspace(confidence, 0.9, N))}
    with pytest.raises(UserError, match="Nothing to compare"):
        people.compare_with_people(build(fusion, WORSE, EQUAL, logits=logits), None)


def test_doubted_labels_are_left_out_and_what_both_means_is_said(monkeypatch):
    doubted = pd.DataFrame({"index": [0, 5, 70, 400, 9_999], "votes_given": [2, 0, 3, 1, 0], "votes_both": [1, 0, 0, 0, 0]})
    monkeypatch.setattr(results, "load_label_errors", lambda folder: doubted.assign(relabelled=doubted["votes_given"] < 3))
    found = doubtful.leave_out_relabelled(build(BETTER_ONE, WORSE, EQUAL & WORSE), "resnet18")
    assert found.n == N - 3 and found.numbers["left_out"] == 3  # the last is not among these images
    assert found.numbers["left_out_both_for"] == 2  # of the first, two saw the label and one saw both
    assert found.numbers["fusion"] == pytest.approx((N - 3 - 58) / (N - 3))
    assert found.numbers["difference_both_for"] == pytest.approx(240 / (N - 2))
    assert found.numbers["fusion_with"] == 0.97 and found.verdict == SUPPORTED
    monkeypatch.setattr(results, "load_label_errors", lambda folder: doubted.assign(votes_given=5, relabelled=False))
    with pytest.raises(UserError, match="hold no doubted labels"):
        doubtful.leave_out_relabelled(build(BETTER_ONE, WORSE, EQUAL), "resnet18")


def test_near_duplicates_of_training_images_are_left_out(monkeypatch):
    pairs = pd.DataFrame({"index": [0, 0, 70, 400, 9_999]})  # two of one image; the last is not among these images
    monkeypatch.setattr(results, "load_near_duplicates", lambda folder: pairs)
    found = doubtful.leave_out_duplicates(build(BETTER_ONE, WORSE, EQUAL), "resnet18")
    assert (found.n, found.numbers["left_out"], found.numbers["fusion"]) == (N - 3, 3, (N - 3 - 59) / (N - 3))


# --- robustness ------------------------------------------------------------------------------------------------------


def under_corruption(clean: np.ndarray, corrupted: np.ndarray) -> np.ndarray:
    """Correctness (41, N) that is the same in every corruption and severity."""
    return np.stack([clean, *[corrupted] * 40])


def test_a_model_that_errs_on_too_few_corrupted_images_is_nothing_to_compare_with(monkeypatch):
    monkeypatch.setattr(results, "load_robustness", lambda run, model: under_corruption(wrong_on(), wrong_on(range(1)))[:, :50])
    with pytest.raises(UserError, match=r"The 50 images are too few: .* ResNet18 makes no error .*robustness\.py \S+ --images 250$"):
        robustness.compare_robustness(build(BETTER_ONE, BETTER_ONE, WORSE), "resnet18")


def test_corruption_beside_the_models_own_clean_accuracy(monkeypatch):
    """Fusion errs more on corrupted images, yet loses less: it was behind on the clean ones already."""
    correct = {
        "fusion": under_corruption(wrong_on(range(300)), wrong_on(range(500))),
        "resnet18": under_corruption(wrong_on(), wrong_on(range(100, 500))),
    }
    monkeypatch.setattr(results, "load_robustness", lambda run, model: correct[model])
    evidence = build(BETTER_ONE, BETTER_ONE, WORSE)
    error, drop = robustness.compare_robustness(evidence, "resnet18"), robustness.compare_drops(evidence, "resnet18")
    assert re.search(r"is 25\.0 % larger than ResNet18's \[\+\d+\.\d\d, \+\d+\.\d\d\];", error.details)
    assert findings.show_effect(error).startswith("−25.0 % [−") and findings.show_effect(drop).startswith("+8.24 points [+")
    assert error.verdict == CONTRADICTED and error.numbers["mean_corruption_error"] == pytest.approx(500 / 400)
    assert error.effect == pytest.approx(-0.25) and error.interval[0] < -0.25 < error.interval[1] < 0
    assert drop.verdict == SUPPORTED
    assert (drop.numbers["drop_fusion"], drop.numbers["drop_resnet18"]) == pytest.approx((200 / 1_700, 400 / 2_000))
    assert drop.effect == pytest.approx(0.2 - 200 / 1_700) and drop.interval[0] < drop.effect < drop.interval[1]


# --- over seeds ------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_are_no_test(folder, n):
    runs = open_seeds(folder, n)
    found = [one for one in findings.find_findings(runs[0], runs) if one.kind == "seeds"]
    table = accuracy.seed_accuracies(runs)
    assert len(found) == 3
    for one in found:
        assert (one.verdict, one.p, one.interval) == (UNTESTED, None, None)
        assert one.statement.startswith("Not tested: ") and "run python scripts/train.py" in one.details
        if n == 2:
            assert one.effect == pytest.approx((table["fusion"] - table[one.against]).mean())
            assert "2 seeds are too few for a test" in one.details


def drop_model(run: Run, model: str) -> Run:
    shutil.rmtree(run.path / model)
    results.write_run(run.path / "run.json", run.record | {"models": {one: {} for one in run.models if one != model}})
    return results.load_run(run.path)


def test_a_seed_that_lacks_a_model_is_finished_before_another_is_begun(tmp_path):
    """Its folder is there: a training that starts anew would be refused."""
    runs = [results.load_run(make_run(tmp_path, f"seed{seed}", n_test=400, seed=seed, labels=LABELS[:400])) for seed in (0, 1)]
    part = drop_model(runs[1], "fusion")
    more = f"seed1 lacks Fusion: run python scripts/train.py --recipe cpu-96 --seed 1 --model fusion --out {part.path} --resume"
    for found in findings.find_findings(runs[0], [runs[0], part], ("seeds-better", "seeds-other", "seeds-ensemble")):
        assert found.details == f"Only seed 0 was trained with all models and the test needs 3: {more}."
    assert findings.find_findings(runs[0], [runs[0], part], ("twice",))[0].verdict != UNTESTED  # this needs the baselines alone
    part = drop_model(part, "resnet18")
    (twice,) = findings.find_findings(runs[0], [runs[0], part], ("twice",))
    assert "seed1 lacks ResNet18 and Fusion: run " in twice.details and "--model resnet18 fusion --out" in twice.details


@pytest.mark.parametrize(
    ("start", "option"),
    [
        ({"name": "torchvision IMAGENET1K_V1", "file": "resnet18-f37072fd.pth"}, ""),
        (
            {"name": "state dict resnet18.safetensors", "file": "resnet18.safetensors"},
            " --start-weights FOLDER (FOLDER: where the start weights lie)",
        ),
        ({"name": "random", "file": None}, " --start-weights none"),
    ],
)
def test_advice_to_train_starts_from_the_runs_own_weights(tmp_path, start, option):
    """From others it would be another measurement, which no test over seeds takes."""
    run = results.load_run(make_run(tmp_path, "seed0", n_test=400, labels=LABELS[:400]))
    starts = dict.fromkeys(BASELINES, start | {"sha256": "0" * 64})
    results.write_run(run.path / "run.json", run.record | {"start_weights": starts})
    run = results.load_run(run.path)
    ids = ("seeds-better", "twice", "branch-losses")
    for found in findings.find_findings(run, [run], ids):
        assert found.details.endswith(f"--seed {int(found.id != 'branch-losses')}{option}."), found.details
    (matched,) = findings.find_findings(run, [run], ("matched",))
    assert matched.details.endswith(f"--resume{option}.")
    (run.path / "fusion" / "probe.parquet").unlink()
    (probe,) = findings.find_findings(run, [run], ("probe",))
    assert probe.details.endswith(f"--probe{option}.")
    command = option.removesuffix(" (FOLDER: where the start weights lie)")
    with pytest.raises(UserError, match=f"--probe{command}$"):
        results.load_predictions(run, "fusion", name="probe")


def made_up_seeds(folder, monkeypatch, right: dict[str, list[int]], first: dict[str, list[int]] | None = None) -> Evidence:
    """Seeds that predict so many of 1,000 images correctly: those from the image `first` (0) on, round and round."""

    def read_correct(run: Run) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        seed = run.record["seed"]
        starts = {model: (first or {}).get(model, [0] * 4)[seed] for model in right}
        correct = {model: np.roll(np.arange(1_000) < counts[seed], starts[model]) for model, counts in right.items()}
        return runs_index, correct

    monkeypatch.setattr(accuracy, "read_correct", read_correct)
    runs = open_seeds(folder, 4)
    evidence = Evidence.load(runs[0], runs)
    runs_index = evidence.index
    return evidence


def test_seeds_are_tested_from_three_on(folder, monkeypatch):
    right = {"fusion": [950, 952, 951, 950], "resnet18": [930, 931, 930, 928], "mobilenet_v2": [960, 961, 963, 960]}
    right["ensemble"] = [951, 950, 952, 950]
    evidence = made_up_seeds(folder, monkeypatch, right)
    found = {other: accuracy.compare_over_seeds(evidence, other) for other in accuracy.PAIRS}
    assert [one.verdict for one in found.values()] == [SUPPORTED, CONTRADICTED, OPEN]
    bare = [ttest_rel(right["fusion"], right[other]).pvalue for other in accuracy.PAIRS]
    assert [one.p for one in found.values()] == pytest.approx(multipletests(bare, method="holm")[1], rel=1e-6, abs=0)
    resnet = found["resnet18"]
    assert resnet.effect == pytest.approx(0.021) and resnet.n == 4 and resnet.numbers["seed_3"] == pytest.approx(0.022)
    in_seed_0 = [mcnemar([[0, max(950 - n, 0)], [max(n - 950, 0), 0]], exact=True).pvalue for n in (930, 960, 951)]
    assert resnet.numbers["p_seed_0"] == pytest.approx(multipletests(in_seed_0, method="holm")[1][0])
    assert resnet.details.startswith("+2.10 points on average (seed 0 +2.00 points, p < 0.001; seed 1 +2.10 points, p < 0.001; ")
    lead = np.subtract(right["fusion"], right["resnet18"]) / 1_000
    rest = np.sort(np.delete(bare, 0))
    level = next((0.05 / (3 - i) for i, p in enumerate(rest) if p >= 0.05 / (3 - i)), 0.05)  # as Holm steps down the others
    smallest = scipy.stats.t.isf(level / 2, 3) * lead.std(ddof=1) / 2
    assert resnet.numbers["smallest"] == pytest.approx(smallest) and f"a mean below {100 * smallest:.2f} points could not" in resnet.details


def test_a_lead_that_other_images_could_undo_is_none(folder, monkeypatch):
    """Alike in every training, but of a few images out of many that either predicts correctly alone."""
    right = {"fusion": [803, 804, 803, 804], "resnet18": [800] * 4, "mobilenet_v2": [700, 705, 702, 703], "ensemble": [790, 794, 795, 791]}
    evidence = made_up_seeds(folder, monkeypatch, right, {"resnet18": [150] * 4})
    found = accuracy.compare_over_seeds(evidence, "resnet18")
    assert found.p < 0.05 and found.interval[0] > 0 and found.verdict == OPEN
    assert accuracy.compare_over_seeds(evidence, "mobilenet_v2").verdict == SUPPORTED


def test_a_damaged_run_of_two_models_does_not_hide_what_three_seeds_show(folder):
    runs = open_seeds(folder, 3)
    whole = findings.find_findings(runs[0], runs, ("seeds-better",))
    record = runs[0].record | {"seed": 9, "models": {"resnet18": {}, "mobilenet_v2": {}}}
    part = Run(folder / "seed9", record)  # of which nothing is there
    assert findings.find_findings(runs[0], [*runs, part], ("seeds-better",)) == whole and whole[0].verdict != UNTESTED


def test_leads_that_are_all_alike_are_no_test(folder, monkeypatch):
    """Ten images each time, though the differences of the accuracies, as floats, are not all alike."""
    right = {"fusion": [935, 936, 937, 938], "resnet18": [925, 926, 927, 928], "mobilenet_v2": [900, 901, 903, 900], "ensemble": [900] * 4}
    assert np.ptp(np.divide(right["fusion"], 1_000) - np.divide(right["resnet18"], 1_000)) > 0
    evidence = made_up_seeds(folder, monkeypatch, right)
    found = accuracy.compare_over_seeds(evidence, "resnet18")
    assert (found.verdict, found.p) == (UNTESTED, None) and "no spread to test by" in found.details
    assert accuracy.compare_over_seeds(evidence, "mobilenet_v2").verdict == SUPPORTED


def test_where_one_pair_has_no_spread_the_headline_counts_trainings(folder, monkeypatch):
    right = {"fusion": [950, 992, 991, 950], "resnet18": [940, 942, 941, 939], "mobilenet_v2": [900, 901, 903, 900]}
    evidence = made_up_seeds(folder, monkeypatch, right | {"ensemble": [949, 991, 990, 949]})
    found = findings.find_findings(evidence.run, evidence.runs, findings.HEADLINE)
    assert {one.id: one.verdict == UNTESTED for one in found if one.kind == "seeds"}["seeds-ensemble"]
    sentence = findings.write_headline(evidence.run, found).sentence
    assert sentence.startswith("In all four trainings, fusing beat either network alone, but no difference from simply averaging")


def test_what_each_training_shows_is_told_where_the_test_over_them_shows_nothing(folder, monkeypatch):
    right = {"fusion": [970, 990, 999], "resnet18": [950, 950, 951], "mobilenet_v2": [940, 941, 939], "ensemble": [969, 991, 998]}
    evidence = made_up_seeds(folder, monkeypatch, right)
    found = findings.find_findings(evidence.run, evidence.runs[:3], findings.HEADLINE)
    headline = findings.write_headline(evidence.run, found)
    assert headline.decisive.kind == "seeds" and headline.decisive.verdict == OPEN
    assert headline.sentence == (
        "In all three trainings, fusing beat either network alone, though for training in general that is not shown, "
        "and no difference from simply averaging their predictions is shown."
    )
    assert ". Over ResNet18: seed 0 +2.00, p < 0.001; seed 1 +4.00" in headline.numbers
    evidence = made_up_seeds(folder, monkeypatch, right | {"mobilenet_v2": [900, 921, 929]})
    found = findings.find_findings(evidence.run, evidence.runs[:3], findings.HEADLINE)
    assert " is not shown against ResNet18, and no" in findings.write_headline(evidence.run, found).sentence


@pytest.mark.parametrize(
    ("fusion", "ensemble", "words"),
    [
        (
            [970, 990, 999],
            [999, 1000, 1000],
            "In all three trainings, fusing beat either network alone, though for training in",
        ),
        (
            [930, 910, 860],
            [999, 1000, 1000],
            "In all three trainings, fusing did worse than one network alone, though for training in general that is not shown",
        ),
        ([970, 930, 925], [969, 991, 998], "No gain shown: the two networks fused are not distinguishable from ResNet18 alone, and"),
    ],
)
def test_a_headline_over_seeds_tells_of_single_trainings_only_where_all_agree(folder, monkeypatch, fusion, ensemble, words):
    right = {"fusion": fusion, "resnet18": [950, 950, 951], "mobilenet_v2": [940, 941, 939], "ensemble": ensemble}
    evidence = made_up_seeds(folder, monkeypatch, right)
    headline = findings.write_headline(evidence.run, findings.find_findings(evidence.run, evidence.runs[:3], findings.HEADLINE))
    assert headline.decisive.kind == "seeds" and re.match(words, headline.sentence)


def test_no_command_trains_settings_that_its_recipe_has_no_more(folder):
    (run,) = open_seeds(folder, 1)
    former = Run(run.path, run.record | {"recipe": run.record["recipe"] | {"lr_backbone": 7e-4}})
    found = findings.find_findings(former, [former])
    assert run.recipe.is_current and not former.recipe.is_current
    seeds = [one.details for one in found if one.kind == "seeds"]
    assert len(seeds) == 3 and all("train its settings, which no recipe has now, with seed 1" in details for details in seeds)
    assert not any(f"--recipe {former.recipe.name} " in one.details for one in found)


def test_a_seed_whose_folder_is_taken_by_another_recipe_is_not_suggested(tmp_path):
    runs = [results.load_run(make_run(tmp_path, name, n_test=300, seed=0)) for name in ("imagenet-96-long-seed0", "imagenet-96-seed1")]
    record = runs[1].record
    other = Run(runs[1].path, record | {"recipe": record["recipe"] | {"lr_head": 7e-4}})
    details = [one.details for one in findings.find_findings(runs[0], [runs[0], other]) if one.kind == "seeds"]
    assert len(details) == 3 and all("--recipe cpu-96 --seed 2" in text for text in details)


def test_what_is_made_with_weights_that_are_not_there_names_no_command_that_needs_them(tmp_path):
    run = results.load_run(make_run(tmp_path, "run", n_test=300))
    assert not run.has_weights
    for name in ("robustness.csv", "train_sample.parquet", "attributions.npz"):
        for path in run.path.rglob(name):
            path.unlink()
    needs = {one.id: one for one in findings.find_findings(run, [run])}
    for found in (needs[name] for name in ("robustness", "gap", "branches")):
        assert found.verdict == UNTESTED
        assert "made with the models' weights, which run does not ship: run python scripts/evaluate.py " in found.details


def test_seeds_with_other_test_images_are_not_compared(folder, monkeypatch):
    runs = open_seeds(folder, 2)
    monkeypatch.setattr(accuracy, "read_correct", lambda run: (np.arange(400) + run.record["seed"], {}))
    (found,) = findings.find_findings(runs[0], runs, ("seeds-better",))
    assert found.verdict == UNTESTED and found.details == "seed1 holds predictions of other test images than seed0."


def test_what_trainings_differ_in_beside_the_seed_is_said(folder, monkeypatch):
    runs = open_seeds(folder, 3)
    changed = Run(runs[1].path, runs[1].record | {"precision": "float32"})
    evidence = Evidence.load(runs[0], [runs[0], changed, runs[2]])
    kinds = "seeds 0, 2 in bfloat16, seed 1 in float32"
    assert f"; trained with {kinds}; over trainings [" in accuracy.compare_over_seeds(evidence, "resnet18").details
    pair = "Trained with seed 0 in bfloat16, seed 1 in float32."
    assert pair in controls.compare_with_twice(evidence, "resnet18").details
    found = {seed: f"The trainings are those with seeds 0 and {seed}. " for seed in (1, 2)}
    details = controls.compare_disagreement(evidence, "resnet18").details
    assert sum(f"{words}{pair * (seed == 1)}" in details for seed, words in found.items()) == 1


def test_a_run_whose_models_were_trained_in_two_precisions_says_which(folder):
    runs = open_seeds(folder, 3)
    models = runs[2].record["models"]
    mixed = Run(runs[2].path, runs[2].record | {"models": models | {"resnet18": models["resnet18"] | {"precision": "float32"}}})
    kinds = "seed 2 in bfloat16 (Fusion) and float32 (ResNet18)"
    alone = Evidence.load(mixed, [mixed])
    assert accuracy.compare_accuracy(alone, "resnet18").details.endswith(f" Trained with {kinds}.")
    assert "Trained with" not in accuracy.compare_accuracy(alone, "mobilenet_v2").details
    evidence = Evidence.load(runs[0], [*runs[:2], mixed])
    assert f"; trained with seeds 0, 1 in bfloat16, {kinds}; over" in accuracy.compare_over_seeds(evidence, "resnet18").details
    assert "float32" not in accuracy.compare_over_seeds(evidence, "mobilenet_v2").details
    both = "seed 2 in bfloat16 (Fusion, MobileNetV2) and float32 (ResNet18)"
    assert both in accuracy.compare_over_seeds(evidence, "ensemble").details
    assert "float32" not in controls.compare_with_twice(evidence, "mobilenet_v2").details


@pytest.mark.parametrize(
    ("fusion", "ensemble", "words"),
    [
        ([990, 990], [900, 900], "In both trainings, fusing beat either network alone, and {} did worse."),
        ([990, 951], [990, 951], "In one of two trainings, fusing beat either network alone, but no difference from {} is shown"),
        ([951, 990], [951, 999], "In one of two trainings, fusing beat either network alone, but {} did better, or no difference is "),
        ([951, 900], [990, 990], "No gain shown: in neither of two trainings did fusing beat both networks alone, and {} did "),
        ([900, 900], [990, 990], "In both trainings, fusing did worse than one network alone, and {} did better."),
    ],
)  # fmt: skip
def test_two_trainings_are_both_told_in_the_headline(folder, monkeypatch, fusion, ensemble, words):
    """The one that is opened first must not hide the other."""
    right = {"fusion": fusion, "resnet18": [950, 950], "mobilenet_v2": [940, 941], "ensemble": ensemble}
    evidence = made_up_seeds(folder, monkeypatch, right)
    evidence = Evidence.load(evidence.run, evidence.runs[:2])
    by_id = {one.id: one for one in findings.find_findings(evidence.run, evidence.runs, findings.HEADLINE)}
    headline = findings.write_headline(evidence.run, list(by_id.values()))
    assert headline.sentence.startswith(words.format("simply averaging their predictions"))
    lead = f"{findings.points((fusion[1] - 950) / 1_000).removesuffix(' points')}, p"
    assert headline.table[0] == ("Fusion's lead over", "seed 0", "seed 1")
    assert {row[0]: row[2] for row in headline.table[1:]}["ResNet18"].startswith(lead)
    assert f"; seed 1 {lead}" in headline.numbers.split("Over ResNet18: seed 0 ")[1]
    assert by_id["seeds-better"].verdict == UNTESTED


def test_each_seed_counts_once_and_the_method_is_asked_first(folder):
    runs = open_seeds(folder, 3)
    found = findings.find_findings(runs[0], [*runs, runs[0]])
    assert [one.kind for one in found[:4]] == ["seeds", "seeds", "seeds", "accuracy"] and found[0].n == 3
    assert findings.find_findings(runs[0], runs[:2])[0].kind == "accuracy"


def test_a_seeds_accuracy_is_measured_anew_when_its_predictions_change(folder, tmp_path):
    shutil.copytree(folder / "seed0", tmp_path / "run")
    run = results.load_run(tmp_path / "run")
    before = accuracy.seed_accuracies([run])
    shutil.copy(folder / "seed1" / "fusion" / "predictions.parquet", tmp_path / "run" / "fusion")
    after = accuracy.seed_accuracies([run])
    assert after["resnet18"].equals(before["resnet18"])
    assert after["fusion"].equals(accuracy.seed_accuracies(open_seeds(folder, 2)[1:])["fusion"])


def test_a_page_may_ask_for_some_of_the_claims(folder):
    runs = open_seeds(folder, 3)
    whole, some = findings.find_findings(runs[0], runs), findings.find_findings(runs[0], runs, findings.HEADLINE)
    seeds, images = ([f"{kind}-{against}" for against in ("better", "ensemble", "other")] for kind in ("seeds", "accuracy"))
    assert [one.id for one in some] == [*seeds, *images, "head-mean"]
    assert findings.write_headline(runs[0], some) == findings.write_headline(runs[0], whole)


# --- controls --------------------------------------------------------------------------------------------------------


def copy_run(folder, source: str, to: str, change=None, **recipe) -> Run:
    """A run copied under another name, its recipe changed, and `change` applied to its record."""
    shutil.copytree(folder / source, folder / to)
    record = results.load_run(folder / to).record
    record["recipe"] |= recipe
    if change:
        change(record)
    results.write_run(folder / to / "run.json", record)
    return results.load_run(folder / to)


def test_branch_losses_are_compared_with_the_same_run_without(tmp_path):
    plain = [results.load_run(make_run(tmp_path, f"plain{seed}", n_test=400, seed=seed, labels=LABELS[:400])) for seed in (0, 1)]
    with_losses = copy_run(tmp_path, "plain0", "branch0", name="cpu-96-branch", branch_loss=1.0)
    other = copy_run(tmp_path, "plain1", "other-seed", name="cpu-96-branch", branch_loss=1.0)
    fusion = results.load_predictions(with_losses, "fusion")
    better = fusion.logits.copy()
    better[:40] = 5 * np.eye(10)[fusion.labels[:40]]  # the branch losses mend all errors among the first 40
    val = results.load_predictions(with_losses, "fusion", "val")
    splits = {"val": (val.index, val.labels, val.logits), "test": (fusion.index, fusion.labels, better)}
    results.write_predictions(with_losses.path / "fusion" / "predictions.parquet", splits)
    mended = ((better.argmax(axis=1) == fusion.labels) & (fusion.logits.argmax(axis=1) != fusion.labels)).sum()
    assert mended > 0
    runs = [*plain, other, with_losses]
    found = controls.compare_losses(Evidence.load(with_losses, runs), None)
    assert found.numbers["seed_0"] == found.effect == pytest.approx(mended / 400) and found.numbers["seed_1"] == 0
    assert found.p == pytest.approx(mcnemar([[0, int(mended)], [0, 0]], exact=True).pvalue)
    assert "Trained with them in" not in found.details
    elsewhere = Run(with_losses.path, with_losses.record | {"precision": "float32"})
    differs = controls.compare_losses(Evidence.load(elsewhere, [*plain, other, elsewhere]), None).details
    assert differs == f"{found.details} Trained with them in float32, without in bfloat16."
    headline = findings.write_headline(with_losses, findings.find_findings(with_losses, runs, findings.HEADLINE))
    assert "with branch losses" in headline.sentence
    (control,) = findings.find_findings(plain[0], runs, ("branch-losses",))
    assert control.details == "This run has no branch losses: it is the control of branch0, of which the claim is tested."
    without = findings.write_headline(plain[0], findings.find_findings(plain[0], runs, findings.HEADLINE))
    assert "branch losses" not in without.sentence + without.numbers
    with pytest.raises(UserError, match="has no branch losses"):
        controls.compare_losses(Evidence.load(plain[0], runs), None)
    with pytest.raises(UserError, match=r"and the same without: run \S+ \S+ --recipe cpu-96 --seed 0$"):
        controls.compare_losses(Evidence.load(with_losses, [with_losses]), None)


def test_branch_losses_without_a_control_are_tested_on_the_run_that_has_one(tmp_path):
    plain = results.load_run(make_run(tmp_path, "plain", n_test=400, labels=LABELS[:400]))
    paired = copy_run(tmp_path, "plain", "paired", name="cpu-96-branch", branch_loss=1.0)
    large = copy_run(tmp_path, "plain", "large", name="cpu-224", branch_loss=1.0, image_size=224)
    shortcut = copy_run(tmp_path, "large", "shortcut", shortcut=True)
    runs = [large, plain, paired]
    found = controls.compare_losses(Evidence.load(large, runs), None)
    own = controls.compare_losses(Evidence.load(paired, runs), None)
    assert [one.name for one in results.find_related(large, runs)] == ["large", "plain", "paired"]  # what a page hands over
    assert [one.name for one in results.find_related(paired, runs)] == ["plain", "paired"]
    assert not results.find_retrainings(large, runs) and results.find_control(large, runs) is None
    assert found.of == "paired" and found.details.startswith("Tested on paired, at 96×96 px. ") and found.details.endswith(own.details)
    assert (found.effect, found.p, found.n) == (own.effect, own.p, own.n) and own.of == ""
    other = controls.compare_losses(Evidence.load(shortcut, runs), None)
    assert other.details == found.details.replace("96×96 px. ", "96×96 px, whose fusion has no shortcut. ")
    with pytest.raises(UserError, match=r"--recipe cpu-96-branch --seed 0 and .* --recipe cpu-96 --seed 0$"):
        controls.compare_losses(Evidence.load(large, [large]), None)


def test_a_second_network_of_the_same_kind_is_a_control(folder):
    runs = open_seeds(folder, 2)
    evidence = Evidence.load(runs[0], runs)
    correct = {}
    for one in BASELINES:
        predictions = [results.load_predictions(run, one) for run in runs]
        averaged = np.mean([scipy_softmax(found.logits.astype(float), axis=1) for found in predictions], axis=0)
        correct[one] = averaged.argmax(axis=1) == predictions[0].labels
    for model in BASELINES:
        found = controls.compare_architectures(evidence, model)
        assert found.effect == pytest.approx(evidence.correct("ensemble").mean() - correct[model].mean())
        assert f"{label(model)} twice (seeds 0 and 1)" in found.statement
        assert controls.compare_with_twice(evidence, model).effect == pytest.approx(
            evidence.correct("fusion").mean() - correct[model].mean()
        )
    (claim,) = findings.find_findings(runs[0], runs, ("architectures",))
    assert claim.against == max(BASELINES, key=lambda model: correct[model].mean())  # the harder one decides
    with pytest.raises(UserError, match="needs a second seed"):
        controls.compare_with_twice(Evidence.load(runs[0], runs[:1]), "resnet18")


def test_the_baselines_of_a_run_without_branch_losses_are_trainings_like_any_other(tmp_path):
    """Branch losses are a fusion's: its baselines' second seed may lie in a run without."""
    first, second = (make_run(tmp_path, f"plain{seed}", n_test=400, seed=seed, labels=LABELS[:400]) for seed in (0, 1))
    with_losses = copy_run(tmp_path, "plain0", "branch0", name="cpu-96-branch", branch_loss=1.0)
    runs = [results.load_run(first), results.load_run(second), with_losses]
    found = controls.compare_architectures(Evidence.load(with_losses, runs), "resnet18")
    assert found.effect == controls.compare_architectures(Evidence.load(runs[0], runs), "resnet18").effect
    with pytest.raises(UserError, match="needs a second seed"):  # a copy of the same seed is none
        controls.compare_with_twice(Evidence.load(with_losses, [runs[0], with_losses]), "resnet18")


def test_two_architectures_disagree_more_than_two_trainings(folder):
    runs = open_seeds(folder, 2)
    evidence = Evidence.load(runs[0], runs)
    predicted = {one: [results.load_predictions(run, one) for run in runs] for one in BASELINES}
    correct = {one: [p.logits.argmax(axis=1) == p.labels for p in pair] for one, pair in predicted.items()}
    apart = correct["resnet18"][0] != correct["mobilenet_v2"][0], correct["resnet18"][0] != correct["resnet18"][1]
    found = controls.compare_disagreement(evidence, "resnet18")
    table = [[0, int((apart[0] & ~apart[1]).sum())], [int((~apart[0] & apart[1]).sum()), 0]]
    assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue) and found.effect == pytest.approx(apart[0].mean() - apart[1].mean())
    kappa = sklearn.metrics.cohen_kappa_score(correct["resnet18"][0], correct["mobilenet_v2"][0])
    assert found.numbers["kappa_architectures"] == pytest.approx(kappa)
    everywhere = np.ones(400, bool)
    evidence.logits["mobilenet_v2"] = 5 * np.eye(10)[evidence.labels]  # correct on all: whether they err together has no answer
    assert correct["resnet18"][0].sum() < 400 and np.isnan(combine.measure_pair(correct["resnet18"][0], everywhere)["q"])
    assert "Q undefined, kappa 0.000)" in controls.compare_disagreement(evidence, "resnet18").details
    with pytest.raises(UserError, match="needs a second seed"):
        controls.compare_disagreement(Evidence.load(runs[0], runs[:1]), "resnet18")


def test_a_single_network_of_the_fusions_cost(tmp_path):
    folder = tmp_path
    run = results.load_run(make_run(folder, "seed0", n_test=400, labels=LABELS[:400]))
    with pytest.raises(UserError, match=r"holds no ResNet34.*--seed 0 --model resnet34 --out \S+ --resume$"):
        controls.compare_matched(Evidence.load(run), "resnet34")
    with_control = copy_run(
        folder, "seed0", "with-resnet34", lambda record: record["models"].update(resnet34={"macs": 2 * record["models"]["fusion"]["macs"]})
    )
    shutil.copytree(with_control.path / "resnet18", with_control.path / "resnet34")
    found = controls.compare_matched(Evidence.load(results.load_run(with_control.path)), "resnet34")
    by_resnet18 = by_id(findings.find_findings(run))["accuracy-other"]
    assert "Multiply-accumulates: 389 M against 778 M" in found.details
    assert found.effect == pytest.approx(found.numbers["first"] - found.numbers["second"]) and by_resnet18.n == found.n


def test_the_best_of_the_late_ways_is_chosen_on_validation():
    def way(text: str, group: str, on_validation: range, on_test: range) -> combine.Way:
        return combine.Way(text, group, wrong_on(on_validation), wrong_on(on_test), 2, 1.0, 1.0, "")

    ways = {
        "test": way("Best on test", combine.LATE, range(200), range(10)),
        "val": way("Best on validation", combine.LATE, range(100), range(90)),
        "both": way("Not trained apart", combine.TOGETHER, range(0), range(0)),
    }
    evidence = build(BETTER_ONE, WORSE, WORSE)
    evidence._kept[controls.find_ways] = ways
    found = controls.compare_with_late(evidence, None)
    assert found.effect == pytest.approx(30 / N) and found.verdict == SUPPORTED and found.numbers["ways"] == 2
    assert "(best on validation)" in found.statement and "Of 2 ways" in found.details


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_every_claim_can_be_traced_and_says_no_more_than_its_test(folder):
    (run,) = open_seeds(folder, 1)
    found = findings.find_findings(run)
    assert [one.id for one in found] == [claim.id for claim in findings.CLAIMS] and len({one.id for one in found}) == len(found)
    assert found[0].id == "accuracy-better"
    for one in found:
        assert one.claim and one.statement and not one.statement.endswith(".") and one.details.endswith(".") and "{" not in one.text
        assert all(type(value) in (int, float) for value in one.numbers.values())
        assert bool(re.search("not distinguishable|not shown", one.statement)) == (one.verdict == OPEN), one.statement
        assert one.statement.startswith("Not tested: ") == (one.verdict == UNTESTED)
        assert bool(one.test) == (one.verdict != UNTESTED) == (one.n > 0)
        if one.interval:
            assert one.interval[0] <= one.effect <= one.interval[1]
    assert {one.id for one in found if one.verdict == UNTESTED} == {
        *(
            "seeds-better",
            "seeds-other",
            "seeds-ensemble",
            "branches",
            "near-duplicates",
            "branch-losses",
            "matched",
            "twice",
            "architectures",
            "disagreement",
        ),
    }


def test_accuracies_are_those_of_the_predictions(folder):
    (run,) = open_seeds(folder, 1)
    predictions = summaries.per_image(run)
    pair = by_id(findings.find_findings(run))["accuracy-ensemble"]
    assert pair.numbers["fusion"] == predictions["fusion_correct"].mean()
    assert pair.numbers["ensemble"] == predictions["ensemble_correct"].mean()


def test_a_missing_or_damaged_file_leaves_its_claims_untested_with_the_reason(tmp_path):
    run = results.load_run(make_run(tmp_path / "results", "run", n_test=60, labels=LABELS[:60]))
    whole = by_id(findings.find_findings(run))
    assert f"It needs {tmp_path}/results/human_votes.parquet: run python scripts/human_votes.py" in whole["people"].details
    assert "results/run/fusion/attributions.npz is made with the models' weights, which run does not ship" in whole["branches"].details
    (run.path / "fusion" / "probe.parquet").write_bytes(b"no parquet")
    (run.path / "fusion" / "robustness.csv").unlink()
    damaged = by_id(findings.find_findings(run))
    assert damaged["probe"].verdict == damaged["robustness"].verdict == UNTESTED
    assert "results/run/fusion/probe.parquet cannot be read" in damaged["probe"].details
    assert f"{run.path}/fusion/robustness.csv is made with the models' weights" in damaged["robustness"].details
    others = set(whole) - {"probe", "robustness", "robustness-ensemble", "robustness-drop"}
    assert {one: whole[one] for one in others} == {one: damaged[one] for one in others}


def test_a_claim_is_one_entry(folder):
    """What a new claim takes: a function and a row."""
    (run,) = open_seeds(folder, 1)

    def evaluate(evidence: Evidence, other: str | None) -> Result:
        return Result(verdict=OPEN, statement="Who knows", details=f"{other}.")

    claim = Claim("modest", "accuracy", "Fusion is modest beside {other}", evaluate, BETTER)
    finding = claim.test(Evidence.load(run))
    assert finding.claim.startswith("Fusion is modest beside ") and finding.against in BASELINES
    assert finding.details == f"{finding.against}."
    lacking = Claim("x", "accuracy", "Fusion", evaluate, None, (Need(("fusion/nothing",), "python scripts/x.py {run}"),))
    assert lacking.test(Evidence.load(run)).verdict == UNTESTED


@pytest.mark.parametrize(
    ("resnet18", "mobilenet_v2", "against", "beside"),
    [
        ((SUPPORTED, 0.02), (SUPPORTED, 0.01), "mobilenet_v2", "ResNet18: supported (+2.00 points [+0.00, +4.00])"),
        ((OPEN, 0.02), (SUPPORTED, 0.01), "resnet18", "MobileNetV2: supported (+1.00 points [+0.00, +2.00])"),
        ((OPEN, 0.02), (CONTRADICTED, -0.01), "mobilenet_v2", "ResNet18: not distinguishable (+2.00 points [+0.00, +4.00])"),
    ],
)
def test_against_either_baseline_the_less_favourable_result_counts(resnet18, mobilenet_v2, against, beside):
    given = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}

    def evaluate(_: Evidence, other: str) -> Result:
        verdict, effect = given[other]
        return Result(verdict=verdict, statement="It is", details="So.", effect=effect, interval=(0, 2 * effect))

    finding = Claim("x", "classes", "Fusion is above {other}", evaluate, EITHER).test(build(BETTER_ONE, EQUAL, EQUAL))
    assert (finding.verdict, finding.effect) == given[against] and finding.against == against
    assert finding.claim == "Fusion is above either baseline" and finding.details == f"So. Against {beside}."


@pytest.mark.parametrize(
    ("better", "other", "ensemble", "words"),
    [
        (
            SUPPORTED,
            SUPPORTED,
            CONTRADICTED,
            "In one training, fusing beat either network alone, but simply averaging their predictions did better.",
        ),
        (
            SUPPORTED,
            SUPPORTED,
            SUPPORTED,
            "In one training, fusing beat either network alone, and simply averaging their predictions did worse.",
        ),
        (OPEN, SUPPORTED, CONTRADICTED, "No gain shown: the two networks fused are not distinguishable from {better} alone, and simply"),
        (SUPPORTED, OPEN, CONTRADICTED, "No gain shown: the two networks fused are not distinguishable from {other} alone, and simply"),
        (
            OPEN,
            CONTRADICTED,
            OPEN,
            "In one training, the two networks fused did worse than {other} alone, and no difference from",
        ),
    ],
)
def test_the_headline_is_a_sentence_anyone_understands(folder, better, other, ensemble, words):
    (run,) = open_seeds(folder, 1)
    found = findings.find_findings(run)
    verdicts = {"accuracy-better": better, "accuracy-other": other, "accuracy-ensemble": ensemble}
    against = {one.id.removeprefix("accuracy-"): findings.name(one.against) for one in found if one.id.startswith("accuracy-")}
    for one in found:
        object.__setattr__(one, "verdict", verdicts.get(one.id, one.verdict))
    headline = findings.write_headline(run, found)
    assert headline.sentence.startswith(words.format(**against))
    unnamed = headline.sentence.replace(against["better"], "").replace(against["other"], "")  # ResNet18 has a digit of its own
    assert not re.search(r"\d", unnamed)
    assert headline.note.endswith("test on 400 test images, Holm over the three comparisons. Intervals are of one comparison alone.")
    assert [row[0] for row in headline.table[1:]] == [against[one] for one in ("better", "other", "ensemble")]
    assert headline.table[0][1:] == ("seed 0 [95 %]",) and all(
        re.fullmatch(r"[+−]\S+ \[.+\], p [=<] .+", row[1]) for row in headline.table[1:]
    )
    assert headline.decisive.verdict == max(better, other, key=(SUPPORTED, OPEN, CONTRADICTED).index)


def test_of_two_alike_verdicts_the_smaller_lead_decides_the_headline(folder):
    (run,) = open_seeds(folder, 1)
    by_id = {one.id: replace(one, verdict=SUPPORTED) for one in findings.find_findings(run, ids=findings.HEADLINE)}
    seeds = {one: replace(by_id[one], verdict=UNTESTED) for one in by_id if one.startswith("seeds")}
    for less in ("accuracy-better", "accuracy-other"):
        lead = {one: replace(by_id[one], effect=0.01 if one == less else 0.02) for one in ("accuracy-better", "accuracy-other")}
        assert findings.write_headline(run, list((by_id | seeds | lead).values())).decisive.id == less


def test_the_headline_and_the_scope_speak_of_seeds_where_these_were_tested(folder):
    runs = open_seeds(folder, 3)
    found = findings.find_findings(runs[0], runs)
    headline = findings.write_headline(runs[0], found)
    assert headline.table[0] == ("Fusion's lead over", "seed 0", "seed 1", "seed 2", "mean of 3 seeds [95 %]")
    assert "p of a seed from an exact McNemar test on 400 test images, of the mean from a t test over seeds, Holm" in headline.note
    (over,) = [one for one in found if one.id == "seeds-ensemble"]
    assert headline.table[3] == (
        "the ensemble of the two",
        *(f"{findings.points(over.seeds[f'{seed}'])[:-7]}, {findings.show_p(over.numbers[f'p_seed_{seed}'])}" for seed in range(3)),
        f"{findings.show_effect(over).replace(' points', '')}, {findings.show_p(over.p)}",
    )
    assert (headline.decisive.kind, headline.decisive.n) == ("seeds", 3)
    assert findings.describe_scope(runs[0], found).endswith(
        "Only the tests over 3 seeds speak of training by this recipe, on these test images."
    )
    alone = findings.find_findings(runs[0])
    assert findings.describe_scope(runs[0], alone).endswith(
        "Only a test over 3 or more seeds speaks of training by this recipe; one was trained with all models."
    )


def test_of_an_imported_run_nothing_is_asked_that_takes_weights(tmp_path):
    run = results.load_run(make_run(tmp_path, "run", n_test=400, labels=LABELS[:400]))
    for name in ("probe", "train_sample", "branch_resnet18", "branch_mobilenet_v2"):
        for path in run.path.rglob(f"{name}.parquet"):
            path.unlink()
    run.record["recipe"]["name"] = results.run.IMPORTED
    results.write_run(run.path / "run.json", run.record)
    for found in findings.find_findings(results.load_run(run.path), ids=("probe", "gap", "branches", "branch-heads", "branch-losses")):
        assert found.verdict == UNTESTED and "scripts/" not in found.details, found.details


def test_an_incomplete_run_is_not_compared(tmp_path):
    run = results.load_run(make_run(tmp_path, "run", n_test=60, models=("resnet18", "fusion"), labels=LABELS[:60]))
    assert findings.find_findings(run) == []
    assert findings.write_headline(run, []).sentence.startswith("This run lacks MobileNetV2")


@pytest.mark.parametrize(
    ("p", "cell", "text"),
    [(0, "< 0.001", "p < 0.001"), (0.00099, "< 0.001", "p < 0.001"), (0.001, "0.001", "p = 0.001"), (1, "1.000", "p = 1.000")],
)
def test_no_p_is_shown_as_zero(p, cell, text):
    assert (findings.tell_p(p), findings.show_p(p)) == (cell, text)
