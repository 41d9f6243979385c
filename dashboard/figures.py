"""Charts: data in, plotly Figure out. Every title asks the question its chart answers."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.config import CLASSES
from core.metrics import softmax
from dashboard.theme import BAD, GOOD, LIGHT, NEUTRAL, STYLES, Surface, label, mix

MARGIN = {"l": 8, "r": 8, "t": 64, "b": 8}


def layout(figure: go.Figure, title: str, height: int = 380, **options) -> go.Figure:
    """The look all charts share."""
    figure.update_layout(
        title={"text": title, "font": {"size": 16}, "x": 0, "xanchor": "left", "y": 0.97, "yanchor": "top"},
        height=height,
        margin=MARGIN,
        legend={"orientation": "h", "y": -0.18, "x": 0, "title": None},
        **options,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def accuracy_figure(table: pd.DataFrame) -> go.Figure:
    """Accuracy with its interval, a row a model; table columns: model, accuracy, low, high (shares)."""
    figure = go.Figure()
    for row in table.itertuples():
        style = STYLES[row.model]
        figure.add_scatter(
            x=[100 * row.accuracy],
            y=[style.label],
            error_x={
                "array": [100 * (row.high - row.accuracy)],
                "arrayminus": [100 * (row.accuracy - row.low)],
                "thickness": 2,
                "width": 6,
            },
            marker={"color": style.color, "symbol": style.marker, "size": 12},
            name=style.label,
            showlegend=False,
            hovertemplate=f"{style.label}: %{{x:.2f}} % [{100 * row.low:.2f}, {100 * row.high:.2f}]<extra></extra>",
        )
    layout(figure, "How many test images does each model get right?", 110 + 44 * len(table))
    figure.update_xaxes(title="test accuracy (%), 95 % interval")
    figure.update_yaxes(autorange="reversed")
    return figure


def smooth(values: pd.Series, weight: float) -> pd.Series:
    """Exponential moving average with `weight` on the past (0: none), corrected for its start."""
    return values if weight == 0 else values.ewm(alpha=1 - weight, adjust=True).mean()


CURVES = {  # quantity -> title, axis, columns and factor
    "loss": ("Does the loss keep falling on images not trained on?", "cross-entropy (nats)", ("train_loss", "val_loss"), 1),
    "accuracy": ("How does accuracy grow?", "accuracy (%)", ("train_accuracy", "val_accuracy"), 100),
    "learning rate": ("Which learning rates were used?", "learning rate", ("lr_head", "lr_backbone"), 1),
    "speed": ("How fast did training run?", "images a second", ("images_per_second",), 1),
}

SERIES = {
    **{"train_loss": "training", "val_loss": "validation", "train_accuracy": "training", "val_accuracy": "validation"},
    **{"lr_head": "head", "lr_backbone": "backbone"},
}


def training_figure(
    histories: dict[str, list[pd.DataFrame]], quantity: str, frozen_epochs: int, smoothing: float = 0.0, log: bool = False
) -> go.Figure:
    """Curves of one of CURVES over epochs: first column dotted, second solid; several seeds as mean and min–max band."""
    title, axis, columns, factor = CURVES[quantity]
    figure = go.Figure()
    for model, seeds in histories.items():
        style = STYLES[model]
        for column in columns:
            values = pd.concat([smooth(factor * history.set_index("epoch")[column], smoothing) for history in seeds], axis=1)
            solid = column == columns[-1]
            name = style.label if len(columns) == 1 else f"{style.label}, {SERIES[column]}"
            if len(seeds) > 1:
                figure.add_scatter(
                    x=[*values.index, *values.index[::-1]],
                    y=[*values.max(axis=1), *values.min(axis=1)[::-1]],
                    fill="toself", fillcolor=style.color, opacity=0.15, line={"width": 0}, hoverinfo="skip", showlegend=False,
                )  # fmt: skip
            figure.add_scatter(
                x=values.index,
                y=values.mean(axis=1),
                name=name,
                mode="lines+markers",
                line={"color": style.color, "dash": "solid" if solid else "dot", "width": 2.5 if solid else 1.5},
                marker={"symbol": style.marker, "size": 8 if solid else 5},
                hovertemplate="%{y:.4~g}",
            )
    layout(figure, title, 420, hovermode="x unified")
    figure.update_xaxes(title="epoch", dtick=1 if values.index.max() <= 20 else None)
    figure.update_yaxes(title=axis, type="log" if log else "linear")
    if frozen_epochs:
        figure.add_vline(frozen_epochs + 0.5, line={"color": NEUTRAL, "dash": "dash", "width": 1})
        figure.add_annotation(
            x=frozen_epochs + 0.5, y=1, yref="paper", text="head only ◂ ▸ everything", showarrow=False, yanchor="bottom", font={"size": 12}
        )
    return figure


def confusion_figure(
    counts: np.ndarray, shown: np.ndarray, title: str, color: str, order: list[int], percent: bool, surface: Surface = LIGHT
) -> go.Figure:
    """Confusion matrix (C, C), clickable. Colour grades the errors alone: the diagonal would drown them.

    `counts` are images, `shown` the values written in the cells; a click selects customdata [true, predicted, images].
    """
    errors = shown * (1 - np.eye(len(shown)))
    return _matrix_figure(
        counts, shown, errors, title, order, "%{text}", ".1f" if percent else ".0f",
        colorscale=[[0, surface.background], [1, mix(color, surface.background, 0.85)]], zmin=0, zmax=max(errors.max(), 1e-9),
        diagonal=mix(NEUTRAL, surface.background, 0.25), surface=surface,
    )  # fmt: skip


def confusion_difference_figure(
    counts: np.ndarray, difference: np.ndarray, title: str, order: list[int], percent: bool, surface: Surface = LIGHT
) -> go.Figure:
    """Difference of two confusion matrices (C, C), first minus second: green where the first does better, red where worse."""
    better = difference * (2 * np.eye(len(difference)) - 1)  # more on the diagonal is good, more off it is bad
    limit = max(np.abs(better).max(), 1e-9)
    scale = [[0, mix(BAD, surface.background, 0.9)], [0.5, surface.background], [1, mix(GOOD, surface.background, 0.9)]]
    return _matrix_figure(
        counts, difference, better, title, order, "%{text}", "+.1f" if percent else "+.0f",
        colorscale=scale, zmin=-limit, zmax=limit, diagonal=None, surface=surface,
    )  # fmt: skip


def _matrix_figure(counts, shown, graded, title, order, template, number, colorscale, zmin, zmax, diagonal, surface) -> go.Figure:
    names = [CLASSES[i] for i in order]
    shown, graded, counts = (m[np.ix_(order, order)] for m in (shown, graded, counts))
    text = [[format(v, number) if abs(v) >= 0.05 else "" for v in row] for row in shown]
    figure = go.Figure(
        go.Heatmap(
            z=graded, x=names, y=names, text=text, texttemplate=template, colorscale=colorscale, zmin=zmin, zmax=zmax,
            showscale=False, hoverinfo="skip", xgap=1, ygap=1, textfont={"size": 12, "color": surface.text},
        )
    )  # fmt: skip
    if diagonal:
        for i in range(len(names)):
            figure.add_shape(
                type="rect", x0=i - 0.5, x1=i + 0.5, y0=i - 0.5, y1=i + 0.5, fillcolor=diagonal, line={"width": 0}, layer="below"
            )
        figure.data[0].z = np.where(np.eye(len(names), dtype=bool), np.nan, graded)
        figure.add_scatter(
            x=names, y=names, mode="text", text=[text[i][i] for i in range(len(names))], hoverinfo="skip", showlegend=False,
            textfont={"size": 12, "color": surface.text},
        )  # fmt: skip
    cells = [(t, p) for t in range(len(names)) for p in range(len(names))]
    figure.add_scatter(  # heatmaps do not report clicks; these invisible squares do
        x=[names[p] for _, p in cells],
        y=[names[t] for t, _ in cells],
        mode="markers",
        marker={"symbol": "square", "size": 34, "opacity": 0},
        customdata=[[names[t], names[p], int(counts[t, p])] for t, p in cells],
        text=[format(shown[t, p], number) for t, p in cells],
        hovertemplate="true %{customdata[0]}, predicted %{customdata[1]}: %{customdata[2]} images (%{text})<extra></extra>",
        showlegend=False,
    )
    layout(figure, title, 560, dragmode=False, hoverdistance=-1, clickmode="event+select")
    figure.update_xaxes(title="predicted class", side="bottom", tickangle=-45, fixedrange=True, constrain="domain", showgrid=False)
    figure.update_yaxes(title="true class", autorange="reversed", fixedrange=True, showgrid=False)
    return figure


def top_classes_figure(logits: dict[str, np.ndarray], true: int, surface: Surface = LIGHT, n: int = 3) -> go.Figure:
    """Each model's `n` likeliest classes of one image, as bars; logits (10,) a model."""
    figure = make_subplots(rows=len(logits), cols=1, subplot_titles=[label(m) for m in logits], vertical_spacing=0.12)
    for row, (model, values) in enumerate(logits.items(), start=1):
        probabilities = softmax(values[None])[0]
        top = np.argsort(-probabilities)[:n]
        names = [CLASSES[i] + (" ✓" if i == true else "") for i in top]
        colors = [STYLES[model].color if i == true else mix(STYLES[model].color, surface.background, 0.45) for i in top]
        figure.add_bar(
            x=100 * probabilities[top], y=names, orientation="h", marker={"color": colors}, row=row, col=1, showlegend=False,
            text=[f"{100 * p:.1f} %" for p in probabilities[top]], textposition="auto",
            hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", row=row, col=1)
        figure.update_xaxes(range=[0, 100], showticklabels=row == len(logits), row=row, col=1)
    figure.update_xaxes(title="probability (%)", row=len(logits), col=1)
    layout(figure, "What does each model see?", 130 + 100 * len(logits))
    return figure
