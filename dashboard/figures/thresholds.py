"""Charts of thresholds: precision-recall and ROC of a class, and accuracy over coverage. Data in, plotly Figure out."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard import theme
from dashboard.figures.look import layout

AXES = {
    "precision–recall": ("recall (%)", "precision (%)", "Of the images called {}, which share is correct?"),
    "ROC": ("false positives (% of the rest)", "recall (%)", "How many false alarms does finding each {} cost?"),
}
POINTS = 300  # of a curve, at most


def thin(x: np.ndarray, y: np.ndarray, most: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Points of a curve, evenly along it, its ends included."""
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], most)).clip(0, len(x) - 1))
    return x[kept], y[kept]


def class_figure(kind: str, name: str, points: dict[str, tuple[np.ndarray, np.ndarray]], areas: dict[str, float]) -> go.Figure:
    """One of AXES for class `name`: model -> x and y (shares), and the area under each."""
    x_title, y_title, title = AXES[kind]
    figure = go.Figure()
    for model, (x, y) in points.items():
        style = theme.STYLES[model]
        figure.add_scatter(
            x=100 * x, y=100 * y, mode="lines", name=f"{style.label} {areas[model]:.4f}", line={"color": style.color, "dash": style.dash},
            hovertemplate=f"{style.label}: %{{x:.2f}} %, %{{y:.2f}} %<extra></extra>",
        )  # fmt: skip
    layout(figure, title.format(name), 420)
    low = min(float(y[(x > 0.02) & (x < 0.98)].min(initial=1)) for x, y in points.values())
    figure.update_xaxes(title=x_title, range=[-1, 101] if kind == "precision–recall" else [-0.5, 20])
    figure.update_yaxes(title=y_title, range=[max(100 * low - 5, 0), 100.5])
    return figure


def trace_threshold(confidence: np.ndarray, correct: np.ndarray, steps: int = 100) -> pd.DataFrame:
    """From confidences and bools (N,): threshold, coverage and accuracy of the images at least so confident."""
    order = np.argsort(confidence)
    thresholds = np.linspace(0, 1, steps + 1)
    below = np.searchsorted(confidence[order], thresholds)  # images left out
    kept = len(order) - below
    kept_correct = correct.sum() - np.concatenate([[0], np.cumsum(correct[order])])[below]
    table = pd.DataFrame({"threshold": thresholds, "coverage": kept / len(order)})
    table["accuracy"] = np.divide(kept_correct, kept, out=np.full(steps + 1, np.nan), where=kept > 0)
    return table[kept > 0]


def threshold_figure(tables: dict[str, pd.DataFrame], threshold: float) -> go.Figure:
    """Accuracy over coverage, model -> trace_threshold; a mark where `threshold` is."""
    figure = go.Figure()
    for model, table in tables.items():
        style = theme.STYLES[model]
        figure.add_scatter(
            x=100 * table["coverage"], y=100 * table["accuracy"], customdata=table["threshold"], mode="lines", name=style.label,
            line={"color": style.color, "dash": style.dash},
            hovertemplate=f"{style.label} from %{{customdata:.2f}} on: coverage %{{x:.1f}} %, %{{y:.2f}} % correct<extra></extra>",
        )  # fmt: skip
        at = table[table["threshold"] >= threshold - 1e-9].head(1)
        figure.add_scatter(
            x=100 * at["coverage"], y=100 * at["accuracy"], mode="markers", showlegend=False, hoverinfo="skip",
            marker={"color": style.color, "symbol": style.marker, "size": 13},
        )  # fmt: skip
    layout(figure, "How accurate is a model where it is sure?", 420)
    figure.update_xaxes(title="coverage (% of the test images)")
    figure.update_yaxes(title="correct (% of those covered)")
    return figure
