"""What a model changed: images fixed and broken, in all and a class."""

from textwrap import wrap

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.figures.look import layout
from dashboard.theme import BAD, GOOD, LIGHT, NEUTRAL, Surface, mix


def transition_figure(
    counts: np.ndarray, states: list[str], flows: list[str], chosen: set[str], names: tuple[str, str], title: str, surface: Surface = LIGHT
) -> go.Figure:
    """Images by what was correct before (S states, from all correct to all wrong) and whether a model is; counts (S, 2).

    `flows` (2 S) are what a click on a tile selects, as customdata; those in `chosen` are outlined; `names` are the axes:
    before, after. Tiles are of one size, since the rare flows are the ones to click; words say what colour grades.
    """
    last, total = len(counts) - 1, counts.sum()
    changed = [(row, column) for row, column in np.ndindex(*counts.shape) if (row, column) not in ((0, 0), (last, 1))]
    most = max(max(counts[cell] for cell in changed), 1)
    figure = go.Figure()
    for column, end in enumerate(("correct", "wrong")):
        colors, texts = [], []
        for row in range(len(counts)):
            n, of_row = counts[row, column], counts[row].sum()
            if (row, column) in changed:
                word, color, share = ("fixed", GOOD, n / most) if column == 0 else ("broken", BAD, n / most)
                colors.append(mix(color, surface.background, 0.12 + 0.43 * share))
            else:
                word = "stay correct" if row == 0 else "stay wrong"
                colors.append(mix(NEUTRAL, surface.background, 0.18))
            texts.append(f"<b>{n:,}</b><br>{word}<br>{100 * n / max(of_row, 1):.1f} %")
        figure.add_bar(
            orientation="h", x=np.full(len(counts), 0.98), base=column, y=list(range(len(counts))), width=0.94,
            marker={"color": colors, "line": {"color": surface.text, "width": [3 * (flow in chosen) for flow in flows[column::2]]}},
            text=texts, textposition="inside", insidetextanchor="middle", textangle=0, textfont={"size": 13, "color": surface.text},
            constraintext="none", customdata=np.array(flows).reshape(-1, 2)[:, [column]], name=f"{names[1]} {end}", showlegend=False,
            hovertext=[f"{states[i]}, {names[1]} {end}: {n:,} images, {n / total:.2%} of all" for i, n in enumerate(counts[:, column])],
            hovertemplate="%{hovertext}<extra></extra>",
            unselected={"marker": {"opacity": 1}},
        )  # fmt: skip
    layout(figure, title, 130 + max(62 * len(counts), 200), barmode="overlay", dragmode=False, clickmode="event+select")
    ends = [f"correct: {counts[:, 0].sum():,}", f"wrong: {counts[:, 1].sum():,}"]
    starts = ["<br>".join(wrap(f"{state}: {n:,}", 18, break_on_hyphens=False)) for state, n in zip(states, counts.sum(axis=1), strict=True)]
    bare = {"fixedrange": True, "showgrid": False, "zeroline": False}
    start, end = (
        "<br>".join(wrap(f"{when}: {name} (images)", 28, break_on_hyphens=False))
        for when, name in zip(("before", "after"), names, strict=True)
    )
    figure.update_xaxes(title=end, tickvals=[0.5, 1.5], ticktext=ends, range=[0, 2], **bare)
    figure.update_yaxes(title=start, tickvals=list(range(len(counts))), ticktext=starts, range=[last + 0.5, -0.5], **bare)
    return figure


def class_transitions_figure(table: pd.DataFrame, chosen: set[tuple[str, str]], title: str, surface: Surface = LIGHT) -> go.Figure:
    """Images fixed (right of zero) and broken (left) a class, with the net and its interval, largest net on top.

    Table columns: class, rescued, broken, net, low, high. A click on a bar selects customdata [class, rescued or broken];
    those in `chosen` are outlined.
    """
    table = table.sort_values(["net", "class"])
    figure = go.Figure()
    for kind, word, sign, color in (("rescued", "fixed", 1, GOOD), ("broken", "broken", -1, BAD)):
        outlined = np.array([(name, kind) in chosen for name in table["class"]])
        numbers = table[[kind, "net", "low", "high"]].to_numpy()
        figure.add_bar(
            orientation="h", x=sign * table[kind], y=table["class"], name=word, customdata=[[name, kind] for name in table["class"]],
            marker={"color": mix(color, surface.background, 0.5),
                    "line": {"width": 1 + 2 * outlined, "color": np.where(outlined, surface.text, color)}},
            hovertext=[f"{n:.0f} {word}, net {net:+g} [{low:+g}, {high:+g}]" for n, net, low, high in numbers],
            hovertemplate="%{y}: %{hovertext}<extra></extra>", unselected={"marker": {"opacity": 1}},
        )  # fmt: skip
    figure.add_scatter(
        x=table["net"], y=table["class"], name="net, 95 % interval", mode="markers", hoverinfo="skip",
        marker={"symbol": "diamond", "size": 9, "color": surface.text}, unselected={"marker": {"opacity": 1}},
        error_x={"array": table["high"] - table["net"], "arrayminus": table["net"] - table["low"], "thickness": 1.5, "width": 4},
    )  # fmt: skip
    layout(figure, title, 380, barmode="relative", dragmode=False, clickmode="event+select", bargap=0.3)
    figure.update_layout(legend={"traceorder": "normal"})
    figure.update_xaxes(title="test images (broken −, fixed +)", fixedrange=True, zeroline=True, zerolinecolor=NEUTRAL)
    figure.update_yaxes(title="true class", fixedrange=True, dtick=1)
    return figure
