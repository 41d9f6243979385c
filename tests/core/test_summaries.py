"""The tables derived from a run's logits, against scikit-learn and values by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss

from core import results, summaries
from core.config import BASELINES, TRIO
from tests.fake_run import make_run, make_test_images


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> results.Run:
    folder = tmp_path_factory.mktemp("summaries") / "results"
    make_test_images(folder, 500)
    return results.load_run(make_run(folder, "run", n_test=500))


@pytest.fixture(scope="module")
def probabilities(run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each model's labels and probabilities: validation, then test."""
    found = {}
    for model in TRIO:
        splits = [results.load_predictions(run, model, split) for split in ("val", "test")]
        found[model] = [(one.labels, softmax(one.logits.astype(float), axis=1)) for one in splits]
    found["ensemble"] = [(found[BASELINES[0]][i][0], np.mean([found[one][i][1] for one in BASELINES], axis=0)) for i in (0, 1)]
    return found


def test_every_column_of_the_table_of_models(run, probabilities):
    table = summaries.per_model(run).set_index("model")
    for model in TRIO:
        labels, shares = probabilities[model][1]
        assert table.loc[model, "macro_f1"] == pytest.approx(f1_score(labels, shares.argmax(axis=1), average="macro"))
        minutes = results.load_history(run, model)["time_seconds"].sum() / 60
        assert table.loc[model, "training_minutes"] == pytest.approx(minutes) and minutes > 0
        costs = {name: run.record["models"][model][name] for name in summaries.COSTS}
        assert table.loc[model, list(costs)].tolist() == list(costs.values())
    sums = table.loc[list(BASELINES), [*summaries.COSTS, "training_minutes"]].sum()
    assert table.loc["ensemble", list(sums.index)].tolist() == pytest.approx(sums.tolist())


def sharpen(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    return softmax(np.log(probabilities) / temperature, axis=1)


@pytest.mark.parametrize("model", [*TRIO, "ensemble"])
def test_calibration(run, probabilities, model):
    (val_labels, val), (labels, test) = probabilities[model]
    row = summaries.calibration(run).loc[model]
    best = minimize_scalar(lambda t: log_loss(val_labels, sharpen(val, t)), bounds=(0.05, 20), method="bounded").x
    assert row["temperature"] == pytest.approx(best, rel=0.01)
    for when, scaled in (("", test), (" with temperature", sharpen(test, row["temperature"]))):
        assert row[f"NLL{when}"] == pytest.approx(log_loss(labels, scaled), rel=1e-5)
    assert row["Brier"] == pytest.approx(((test - np.eye(10)[labels]) ** 2).sum(axis=1).mean(), rel=1e-5)
    wrong = (test.argmax(axis=1) != labels)[np.argsort(-test.max(axis=1))]
    assert row["AURC"] == pytest.approx((wrong.cumsum() / np.arange(1, 501)).mean(), rel=1e-3)
    assert 100 * abs(test.max(axis=1).mean() - 1 + wrong.mean()) <= row["calibration error"] + 1e-7 < 20  # over bins no gap cancels another


def test_corruption_errors(run):
    table = summaries.corruption_errors(run).set_index("model")
    wrong = {model: ~results.load_robustness(run, model) for model in table.index}  # the clean row, then 8 kinds of 5 severities
    for model, rows in wrong.items():
        kinds, reference = (one[1:].reshape(8, 5, -1).sum(axis=(1, 2)) for one in (rows, wrong[BASELINES[0]]))
        found = table.loc[model]
        assert found["clean"] == pytest.approx(1 - rows[0].mean()) and found["corrupted"] == pytest.approx(1 - rows[1:].mean())
        assert found["mce"] == pytest.approx((kinds / reference).mean()) and found["low"] <= found["mce"] <= found["high"]
    assert table.loc[BASELINES[0], ["mce", "low", "high"]].tolist() == [1, 1, 1]
    assert list(table.index) == [*TRIO, "ensemble"]


def test_what_a_record_says_besides_costs_is_not_taken_for_measured(run):
    entry = run.record["models"]["resnet18"] | {"accuracy": 94.2, "model": "mine", "low": 1.0}
    told = results.Run(run.path, run.record | {"models": run.record["models"] | {"resnet18": entry}})
    assert summaries.per_model(told).equals(summaries.per_model(run))
