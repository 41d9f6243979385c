"""Figures say what the data say: labels, values, and what a click reports."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from core import metrics, results
from core.config import CLASSES, RECIPES
from dashboard import diagram, figures, theme
from dashboard.figures.look import layout
from tests.fake_run import make_run


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2.2 contrast ratio."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("surface", [theme.LIGHT, theme.DARK])
@pytest.mark.parametrize("model", theme.STYLES)
def test_model_colours_stand_out_on_both_themes(surface, model):
    assert contrast(theme.STYLES[model].color, surface.background) >= 3


def test_no_two_models_share_colour_or_marker():
    styles = theme.STYLES.values()
    assert len({s.color for s in styles}) == len({s.marker for s in styles}) == len({s.label for s in styles}) == len(theme.STYLES)


def test_confusion_cells_report_true_predicted_and_count_in_the_chosen_order():
    counts = np.arange(100).reshape(10, 10)
    order = list(range(10))[::-1]
    figure = figures.confusion_figure(counts, counts, "?", "#2f7fc1", order, percent=False)
    cells = {(true, predicted): n for true, predicted, n in figure.data[-1].customdata}
    assert cells == {(CLASSES[t], CLASSES[p]): counts[t, p] for t in range(10) for p in range(10)}
    assert list(figure.data[0].x) == [CLASSES[i] for i in order]


def test_confusion_colour_grades_errors_only():
    counts = np.full((10, 10), 3) + 900 * np.eye(10, dtype=int)
    heatmap = figures.confusion_figure(counts, counts, "?", "#2f7fc1", list(range(10)), percent=False).data[0]
    assert heatmap.zmax == 3
    assert np.isnan(np.diag(heatmap.z)).all()


def test_difference_is_green_where_fewer_errors_or_more_right():
    difference = np.zeros((10, 10))
    difference[0, 0], difference[0, 1], difference[2, 3] = 4, -4, 2
    heatmap = figures.confusion_difference_figure(np.zeros((10, 10), int), difference, "?", list(range(10)), percent=False).data[0]
    assert heatmap.z[0][0] == 4 and heatmap.z[0][1] == 4 and heatmap.z[2][3] == -2
    assert (heatmap.zmin, heatmap.zmax) == (-4, 4)


@pytest.mark.parametrize("surface", [theme.LIGHT, theme.DARK])
@pytest.mark.parametrize("model", theme.STYLES)
def test_numbers_can_be_read_on_the_strongest_cells(surface, model):
    counts, order = np.arange(100).reshape(10, 10), list(range(10))
    matrix = figures.confusion_figure(counts, counts, "?", theme.STYLES[model].color, order, False, surface)
    difference = figures.confusion_difference_figure(counts, counts - 50, "?", order, False, surface)
    for figure in (matrix, difference):
        heatmap = figure.data[0]
        assert min(contrast(color, heatmap.textfont.color) for _, color in heatmap.colorscale) >= 4.5


def test_a_chart_of_smoothed_values_says_so():
    history = pd.DataFrame({"epoch": [1, 2], "lr_head": [1.0, 0.0], "lr_backbone": [1.0, 0.0]})
    titles = [figures.training_figure({"fusion": [history]}, "learning rate", 1, weight).layout.yaxis.title.text for weight in (0.0, 0.9)]
    assert titles == ["learning rate", "learning rate (smoothed, 0.9)"]


def test_training_figure_averages_seeds_and_draws_their_range():
    seeds = [pd.DataFrame({"epoch": [1, 2], "val_accuracy": [0.5 + d, 0.6 + d], "train_accuracy": [0.4, 0.5]}) for d in (0, 0.2)]
    figure = figures.training_figure({"fusion": seeds}, "accuracy", frozen_epochs=1)
    curve = next(t for t in figure.data if t.name == "Fusion (2 seeds): validation")
    np.testing.assert_allclose(curve.y, [60, 70])
    band = [t for t in figure.data if t.fill == "toself"][1]
    np.testing.assert_allclose(band.y, [70, 80, 60, 50])


@pytest.mark.parametrize(
    ("frozen", "sizes", "marks"),
    [
        (1, [96, 96, 96], {(1.5, "head ◂ ▸ backbones too")}),
        (1, [128, 128, 224], {(1.5, "head ◂ ▸ backbones too"), (2.5, "128 ◂ ▸ 224 px")}),
        (1, [128, 224, 224], {(1.5, "head ◂ ▸ backbones too"), (1.5, "128 ◂ ▸ 224 px")}),
        (0, [64, 64, 64], set()),
    ],
)
def test_training_figure_marks_what_changes_between_epochs(frozen, sizes, marks):
    history = pd.DataFrame({"epoch": [1, 2, 3], "train_accuracy": 0.4, "val_accuracy": 0.5, "image_size": sizes})
    figure = figures.training_figure({"fusion": [history]}, "accuracy", frozen_epochs=frozen)
    assert {(note.x, note.text) for note in figure.layout.annotations} == marks
    assert {line.x0 for line in figure.layout.shapes} == {x for x, _ in marks}
    assert len({note.yshift for note in figure.layout.annotations}) == len(marks)  # no mark lies over another
    assert figure.layout.xaxis.range == (0.5, 3.5)  # nor does a long one make room on the axis for epochs that are none


def test_training_captions_say_that_small_images_are_validated_small():
    says = {name: figures.training_captions(RECIPES[name], 5000)["accuracy"] for name in ("cpu-96", "cpu-224")}
    assert "5,000 untouched images" in says["cpu-96"] and "own size" not in says["cpu-96"]
    assert "in training 128, 224, 224, 224, 224" in says["cpu-224"] and "each epoch is validated at its own size" in says["cpu-224"]


def test_smoothing_keeps_a_constant_and_follows_pandas():
    np.testing.assert_allclose(figures.smooth(pd.Series([2.0, 2.0, 2.0]), 0.9), 2)
    np.testing.assert_allclose(figures.smooth(pd.Series([1.0, 0.0]), 0.5), [1, 1 / 3])


def test_accuracy_figure_spans_the_interval():
    table = pd.DataFrame({"model": ["fusion"], "accuracy": [0.95], "low": [0.94], "high": [0.96]})
    trace = figures.accuracy_figure(table, 0).data[0]
    np.testing.assert_allclose([trace.x[0], trace.error_x.array[0], trace.error_x.arrayminus[0]], [95, 1, 1])


def test_top_classes_marks_the_true_class():
    logits = np.zeros(10)
    logits[[3, 5, 7]] = 3, 2, 1
    bars = figures.top_classes_figure({"fusion": logits}, true=5).data[0]
    assert list(bars.y) == ["cat", "dog ✓", "horse"]
    assert bars.x[0] == pytest.approx(100 * np.exp(3) / np.exp(logits).sum())


@pytest.mark.parametrize("quantity", figures.CURVES)
def test_every_chart_asks_a_question_and_names_its_axes(quantity):
    history = pd.DataFrame({"epoch": [1], **{c: [0.5] for c in figures.CURVES[quantity][2]}})
    figure = figures.training_figure({"resnet18": [history]}, quantity, frozen_epochs=1)
    assert figure.layout.title.text.endswith("?")
    assert figure.layout.xaxis.title.text == "epoch" and figure.layout.yaxis.title.text
    assert figure.layout.yaxis.exponentformat == "none"  # else a learning rate reads 800µ


def test_models_that_learn_at_the_same_rates_share_their_curves():
    rates = {"resnet18": 0.01, "mobilenet_v2": 0.01, "fusion": 0.001}
    histories = {m: [pd.DataFrame({"epoch": [1], "lr_head": [rate], "lr_backbone": [0.0]})] for m, rate in rates.items()}
    shown = [trace.name for trace in figures.training_figure(histories, "learning rate", frozen_epochs=1).data]
    assert shown == ["ResNet18, MobileNetV2: head", "ResNet18, MobileNetV2: backbone", "Fusion: head", "Fusion: backbone"]
    del histories["fusion"]
    shown = [trace.name for trace in figures.training_figure(histories, "learning rate", frozen_epochs=1).data]
    assert shown == ["all models: head", "all models: backbone"]


def test_the_network_shows_branch_losses_only_where_it_was_trained_with_them(tmp_path):
    run = results.load_run(make_run(tmp_path, "plain", n_test=20))
    assert "own head" not in diagram.architecture_html(run)
    run.record["recipe"]["branch_loss"] = 0.5
    drawn = diagram.architecture_html(run)
    assert "own head 512 → 10, loss weight 0.5" in drawn and "own head 1,280 → 10, loss weight 0.5" in drawn
    assert "beside them" not in drawn
    run.record["recipe"]["shortcut"] = True
    drawn, hidden = diagram.architecture_html(run), run.recipe.hidden
    assert f"beside them the features: {hidden} + 1,792" in drawn and f"linear {hidden + 1792:,} → 10" in drawn
    assert drawn.count("in training: own loss, weight 0.5") == 2


@pytest.mark.parametrize("n", [1, 7, 150, 10_000])
def test_a_curve_of_risk_ends_with_the_error_rate(n):
    correct = np.arange(n) % 3 > 0
    coverage, risk = metrics.risk_coverage(np.linspace(1, 0.1, n), correct)
    (curve,) = figures.risk_figure({"fusion": (coverage, risk)}, "?").data
    assert curve.x[0] == 100 and curve.y[0] == pytest.approx(100 * (~correct).mean()) and len(curve.x) <= 200 + n // 200


def test_a_runs_name_is_not_broken_at_its_hyphens():
    title = "What did Fusion of imagenet-96-branch-seed0 change?"
    assert layout(go.Figure(), title).layout.title.text.replace("<br>", " ") == title
