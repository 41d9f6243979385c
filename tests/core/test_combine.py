"""Ways to combine two networks, and how a pair errs: against hand values, PyTorch, scikit-learn, and figures found independently."""

import shutil

import numpy as np
import pytest
from scipy.stats import ortho_group
from sklearn.metrics import cohen_kappa_score

from core import combine, metrics, results
from core.combine import (
    LATE,
    ONE,
    WAYS,
    Way,
    choose_late,
    cross_fit,
    find_ways,
    fit_stack,
    fit_weight,
    linear_cka,
    list_pairs,
    list_ways,
    measure_pair,
)
from core.config import BASELINES, ENSEMBLE, ROOT
from tests.fake_run import make_run, make_test_images

SHIPPED = ROOT / "results" / "imagenet-96-seed0"


def draw_pair(n: int, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels (n,) and two classifiers' logits (n, 10), the first the better one."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, n)
    return labels, [generator.standard_normal((n, 10)) + strength * np.eye(10)[labels] for strength in (3.0, 2.0)]


# --- how a pair errs --------------------------------------------------------------------------------------------------


def test_pair_measures_by_hand():
    """Both correct 5, only the first 2, only the second 1, none 2: Kuncheva & Whitaker's table 1 with these counts."""
    first = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0], bool)
    second = np.array([1, 1, 1, 1, 1, 0, 0, 1, 0, 0], bool)
    pair = measure_pair(first, second)
    assert pair["q"] == pytest.approx((5 * 2 - 1 * 2) / (5 * 2 + 1 * 2))
    assert pair["disagreement"] == pytest.approx(0.3) and pair["double_fault"] == pytest.approx(0.2)
    assert pair["kappa"] == pytest.approx(2 * (5 * 2 - 1 * 2) / (7 * 4 + 6 * 3))


def test_kappa_is_scikit_learns_and_independent_errors_have_none():
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 200_000)) < 0.9
    pair = measure_pair(first, second)
    assert pair["kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert pair["q"] == pytest.approx(0, abs=0.05) and pair["double_fault"] == pytest.approx(0.01, abs=0.001)
    same = measure_pair(first, first)
    assert same["q"] == same["kappa"] == 1 and same["disagreement"] == 0
    assert np.isnan(measure_pair(np.ones(5, bool), np.ones(5, bool))["q"])


def test_cka_equals_its_definition_by_kernels_and_ignores_rotation_scale_and_shift():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((60, 8))
    y = np.hstack([x[:, :3], generator.standard_normal((60, 4))])
    centre = np.eye(60) - 1 / 60
    kernels = [centre @ one @ one.T @ centre for one in (x, y)]
    hsic = [np.trace(a @ b) for a, b in ((kernels[0], kernels[1]), (kernels[0], kernels[0]), (kernels[1], kernels[1]))]
    assert linear_cka(x, y) == pytest.approx(hsic[0] / np.sqrt(hsic[1] * hsic[2]))
    turned = 3 * x @ ortho_group.rvs(8, random_state=0) + 5
    assert linear_cka(x, turned) == pytest.approx(1) and linear_cka(turned, y) == pytest.approx(linear_cka(x, y))
    assert np.isnan(linear_cka(np.ones((60, 2)), y))


# --- ways to combine --------------------------------------------------------------------------------------------------


def test_the_weight_is_the_best_on_the_images_it_is_fitted_to():
    labels, logits = draw_pair(2_000)
    probabilities = [np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits]
    right = {w: ((w * probabilities[0] + (1 - w) * probabilities[1]).argmax(axis=1) == labels).mean() for w in np.linspace(0, 1, 21)}
    assert (fit_weight(labels, logits)(logits).argmax(axis=1) == labels).mean() == max(right.values()) > right[0.5]
    alone = [logits[0], np.zeros_like(logits[0])]  # all weights but 0 are as good: the nearest to one half
    np.testing.assert_allclose(np.exp(fit_weight(labels, alone)(alone)), 0.5 * probabilities[0] + 0.05, atol=1e-12)


def test_the_stack_is_where_pytorchs_gradient_vanishes():
    """The same convex loss, minimised by torch from another start."""
    import torch

    labels, logits = draw_pair(1_000)
    log_p = torch.log_softmax(torch.tensor(np.stack(logits)), dim=2)
    theta = torch.zeros(12, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy((theta[:2, None, None] * log_p).sum(0) + theta[2:], torch.tensor(labels))
        value.backward()
        return value

    optimizer.step(loss)
    mine = fit_stack(labels, logits)(logits)
    expected = ((theta[:2, None, None] * log_p).sum(0) + theta[2:]).detach().numpy()
    np.testing.assert_allclose(metrics.softmax(mine), metrics.softmax(expected), atol=1e-3)
    assert theta[0] > theta[1] > 0  # the better network weighs more


def test_a_validation_image_is_never_combined_by_a_fit_that_saw_it():
    labels, logits = draw_pair(500)
    marks = [one + 1e-6 * np.arange(500)[:, None] for one in logits]  # says which image a row is
    seen = []

    def fit(labels, logits):
        known = set(np.round((logits[0] - 0).sum(axis=1), 9))
        seen.append(len(labels))

        def combined(asked):
            assert len(asked[0]) == 7 or not known & set(np.round(asked[0].sum(axis=1), 9))
            return asked[0]

        return combined

    val, test = cross_fit(fit, labels, marks, [one[:7] for one in logits])
    assert seen == [400] * 5 + [500] and np.array_equal(val, marks[0]) and np.array_equal(test, logits[0][:7])


# --- the tables -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[results.Run]:
    folder = tmp_path_factory.mktemp("results")
    labels = make_test_images(folder)
    return [results.load_run(make_run(folder, f"run-seed{seed}", seed=seed, labels=labels)) for seed in (0, 1)]


def test_the_table_of_ways(runs):
    table = list_ways(find_ways(runs[0], runs[1:])).set_index("name")
    names = [*BASELINES, "two_resnet18", "two_mobilenet_v2", *WAYS, "branch_mean", "fusion"]
    assert list(table.index) == names
    _, labels, logits = results.load_logits(runs[0])
    for model in (*BASELINES, ENSEMBLE, "fusion"):
        assert table.loc[model, "accuracy"] == (logits[model].argmax(axis=1) == labels).mean()
    better = combine.choose_baseline(find_ways(runs[0]))
    assert table.loc[better, ["difference", "low", "high"]].tolist() == [0, 0, 0] and np.isnan(table.loc[better, "p"])
    costs = runs[0].record["models"]
    assert table.loc["stacked", "macs"] == sum(costs[model]["macs"] for model in BASELINES)
    assert table.loc["two_resnet18", "parameters"] == 2 * costs["resnet18"]["parameters"] and table.loc["two_resnet18", "networks"] == 2
    others = table.drop(index=better)
    assert (others["p_holm"] >= others["p"]).all() and (table["low"] <= table["difference"]).all()
    assert list_ways(find_ways(runs[0]))["name"].tolist() == [name for name in names if not name.startswith("two_")]


def test_runs_validated_on_other_images_have_no_accuracy_of_validation_together(runs, tmp_path):
    shutil.copytree(runs[1].path, tmp_path / "other")
    other = results.load_run(tmp_path / "other")
    for model in BASELINES:
        path = other.path / model / "predictions.parquet"
        splits = {split: results.load_predictions(other, model, split) for split in ("val", "test")}
        rows = {split: (one.index, one.labels, one.logits) for split, one in splits.items()}
        rows["val"] = (rows["val"][0] + 1, rows["val"][1][::-1], rows["val"][2][::-1])
        results.write_predictions(path, rows)
    ways, right = combine.find_twice(runs[0], [other]), combine.find_twice(runs[0], runs[1:])
    for name, way in ways.items():
        assert np.isnan(way.val_correct.mean()) and (way.correct == right[name].correct).all()


def test_the_late_way_is_chosen_on_validation_alone():
    def make(group: str, val: float, test: float) -> Way:
        return Way("", group, np.arange(100) < val, np.arange(100) < test, 2, 0, 0, "")

    ways = {"resnet18": make(ONE, 99, 90), "ensemble": make(LATE, 94, 97), "stacked": make(LATE, 95, 91), "weighted": make(LATE, 95, 96)}
    assert choose_late(ways) == "stacked"  # the first of equals, though another is better on test


def test_rows_and_pairs_appear_with_their_files(runs, tmp_path):
    folder = tmp_path / "results"
    run = results.load_run(make_run(folder, "run", n_test=200))
    splits = {split: results.load_predictions(run, "resnet18", split) for split in ("val", "test")}
    tables = {split: (one.index, one.labels, one.logits) for split, one in splits.items()}
    for model in BASELINES:
        results.write_predictions(run.path / "fusion" / f"branch_{model}.parquet", tables)
    results.write_predictions(run.path / ENSEMBLE / "linear_head.parquet", tables)
    models = run.record["models"]
    plain = results.Run(run.path, run.record | {"models": models | {"fusion": models["fusion"] | {"parameters": 7}}})
    table = list_ways(find_ways(run, control=plain)).set_index("name")
    assert {"linear_head", "branch_mean", "fusion_plain"} < set(table.index)
    assert table.loc["fusion_plain", "parameters"] == 7 and table.loc["fusion", "parameters"] == models["fusion"]["parameters"]
    generator = np.random.default_rng(0)
    features = {model: generator.standard_normal((200, 20)) for model in BASELINES}
    for model, values in features.items():
        results.write_features(run.path / model / "features.parquet", np.arange(200), values)
    pairs = list_pairs(run).set_index("pair")
    assert pairs.loc["branches", "disagreement"] == 0 and pairs.loc["branches", "kappa"] == 1 and np.isnan(pairs.loc["branches", "cka"])
    assert pairs.loc["baselines", "cka"] == pytest.approx(linear_cka(*features.values()), abs=1e-3)  # kept as float16


def test_figures_that_were_found_independently():
    """Recomputed by others from the same files, before this code was written."""
    run = results.load_run(SHIPPED)
    ways, pairs = list_ways(find_ways(run)).set_index("name"), list_pairs(run).set_index("pair")
    accuracy = {ENSEMBLE: 94.58, "mean_logits": 94.63}
    assert {name: round(100 * ways.loc[name, "accuracy"], 2) for name in accuracy} == accuracy
    assert pairs.loc["baselines", ["q", "disagreement", "kappa", "double_fault"]].tolist() == pytest.approx(
        [0.957, 0.0544, 0.545, 0.0367], abs=5e-4
    )
