"""Charts of how the classes were learned, epoch by epoch. Data in, plotly Figure out."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.config import CLASSES
from dashboard.figures.confusion import confusion_figure
from dashboard.figures.look import layout
from dashboard.theme import CLASS_COLORS, LIGHT, Surface

MARKERS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")


def class_curves_figure(table: pd.DataFrame, title: str) -> go.Figure:
    """Accuracy on each class's images over epochs, a curve a class; table columns: epoch, and a share a class."""
    figure = go.Figure()
    for name, color, marker in zip(CLASSES, CLASS_COLORS, MARKERS, strict=True):
        figure.add_scatter(
            x=table["epoch"], y=100 * table[name], name=name, mode="lines+markers", line={"color": color},
            marker={"symbol": marker, "size": 8}, hovertemplate="%{y:.1f} %",
        )  # fmt: skip
    layout(figure, title, 560, hovermode="x unified")
    figure.update_xaxes(title="epoch", dtick=1 if len(table) <= 20 else None)
    figure.update_yaxes(title="correct, of a class's validation images (%)")
    return figure


def epoch_confusion_figure(matrices: np.ndarray, epoch: int, name: str, color: str, surface: Surface = LIGHT) -> go.Figure:
    """The confusion matrix after an epoch (from 1) of counts (epochs, C, C), with a button that plays those before it.

    All are of one colour scale. `name` and `color` are the model's.
    """
    most = (matrices * (1 - np.eye(len(CLASSES)))).max()

    def draw(number: int) -> go.Figure:
        title = f"What does {name} take for what after epoch {number}? (validation images)"
        counts = matrices[number - 1]
        return confusion_figure(counts, counts, title, color, list(range(len(CLASSES))), False, surface, most)

    drawn = {number: draw(number) for number in range(1, epoch + 1)}
    figure = drawn[epoch]
    figure.frames = [go.Frame(data=one.data, layout={"title": {"text": one.layout.title.text}}, name=str(n)) for n, one in drawn.items()]
    play = {"frame": {"duration": 1000, "redraw": True}, "transition": {"duration": 0}, "mode": "immediate"}
    button = {"label": "▶ Play from epoch 1", "method": "animate", "args": [None, play]}
    place = {"x": 1, "xanchor": "right", "y": -0.38, "yanchor": "top", "showactive": False, "pad": {"r": 0}}
    colors = {"bgcolor": surface.background, "bordercolor": surface.faint, "font": {"color": surface.text}}
    figure.update_layout(updatemenus=[{"type": "buttons", "buttons": [button], **place, **colors}] if epoch > 1 else [])
    return figure
