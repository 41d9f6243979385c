"""Confusion matrices, whose cells can be clicked. Data in, plotly Figure out."""

import numpy as np
import plotly.graph_objects as go

from core.config import CLASSES
from dashboard.figures.look import layout
from dashboard.theme import BAD, DARK, GOOD, LIGHT, NEUTRAL, Surface, mix

DEEPEST = {LIGHT: 0.85, DARK: 0.7}  # share of a colour in the strongest cell, on which numbers can still be read


def confusion_figure(
    counts: np.ndarray,
    shown: np.ndarray,
    title: str,
    color: str,
    order: list[int],
    percent: bool,
    surface: Surface = LIGHT,
    most: float | None = None,
) -> go.Figure:
    """Confusion matrix (C, C), clickable. Colour grades the errors alone: the diagonal would drown them.

    `counts` are images, `shown` the values written in the cells; a click selects customdata [true, predicted, images]. `most` is
    the error of the darkest colour, by default the largest here.
    """
    errors = shown * (1 - np.eye(len(shown)))
    return _matrix_figure(
        counts, shown, errors, title, order, ".1f" if percent else ".0f",
        colorscale=[[0, surface.background], [1, mix(color, surface.background, DEEPEST[surface])]], zmin=0,
        zmax=max(most or errors.max(), 1e-9),
        diagonal=mix(NEUTRAL, surface.background, 0.25), surface=surface,
    )  # fmt: skip


def confusion_difference_figure(
    counts: np.ndarray, difference: np.ndarray, title: str, order: list[int], percent: bool, surface: Surface = LIGHT
) -> go.Figure:
    """Difference of two confusion matrices (C, C), first minus second: green where the first does better, red where worse."""
    better = difference * (2 * np.eye(len(difference)) - 1)  # more on the diagonal is good, more off it is bad
    limit = max(np.abs(better).max(), 1e-9)
    deepest = DEEPEST[surface]
    scale = [[0, mix(BAD, surface.background, deepest)], [0.5, surface.background], [1, mix(GOOD, surface.background, deepest)]]
    return _matrix_figure(
        counts, difference, better, title, order, "+.1f" if percent else "+.0f",
        colorscale=scale, zmin=-limit, zmax=limit, diagonal=None, surface=surface,
    )  # fmt: skip


def _matrix_figure(
    counts: np.ndarray, shown: np.ndarray, graded: np.ndarray, title: str, order: list[int], number: str, *,
    colorscale: list, zmin: float, zmax: float, diagonal: str | None, surface: Surface,
) -> go.Figure:  # fmt: skip
    """`counts` answer the pointer, `shown` stand in the cells in the format `number`, `graded` give the colours; all (C, C)."""
    names = [CLASSES[i] for i in order]
    shown, graded, counts = (m[np.ix_(order, order)] for m in (shown, graded, counts))
    text = [[format(v, number) if abs(v) >= 0.05 else "" for v in row] for row in shown]
    figure = go.Figure(
        go.Heatmap(
            z=graded, x=names, y=names, text=text, texttemplate="%{text}", colorscale=colorscale, zmin=zmin, zmax=zmax,
            showscale=False, hoverinfo="skip", xgap=1, ygap=1, textfont={"size": 12, "color": surface.text},
        )
    )  # fmt: skip
    squares = []
    if diagonal:
        square = {"type": "rect", "fillcolor": diagonal, "line": {"width": 0}, "layer": "below"}
        squares = [square | {"x0": i - 0.5, "x1": i + 0.5, "y0": i - 0.5, "y1": i + 0.5} for i in range(len(names))]
        figure.data[0].z = np.where(np.eye(len(names), dtype=bool), np.nan, graded)
        figure.data[0].text = [["" if i == j else cell for j, cell in enumerate(row)] for i, row in enumerate(text)]
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
    layout(figure, title, 560, shapes=squares, dragmode=False, hoverdistance=-1, clickmode="event+select")
    # Upright names, and no margin for the squares' size, leave the cells room for three digits on a telephone.
    ends = {"fixedrange": True, "showgrid": False, "zeroline": False}
    figure.update_xaxes(title="predicted class", side="bottom", tickangle=-90, range=[-0.5, len(names) - 0.5], **ends)
    figure.update_yaxes(title={"text": "true class", "standoff": 4}, range=[len(names) - 0.5, -0.5], **ends)
    return figure
