"""Charts: data in, plotly Figure out. Every title asks the question its chart answers."""

from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.config import CLASSES, Recipe
from core.metrics import softmax
from dashboard.figures.confusion import confusion_difference_figure as confusion_difference_figure
from dashboard.figures.confusion import confusion_figure as confusion_figure
from dashboard.figures.epochs import class_curves_figure as class_curves_figure
from dashboard.figures.epochs import epoch_confusion_figure as epoch_confusion_figure
from dashboard.figures.look import layout
from dashboard.figures.transitions import class_transitions_figure as class_transitions_figure
from dashboard.figures.transitions import transition_figure as transition_figure
from dashboard.theme import BAD, CLASS_COLORS, LIGHT, NEUTRAL, STYLES, Style, Surface, label, mix


def accuracy_figure(table: pd.DataFrame, seed: int) -> go.Figure:
    """Accuracy with its interval, a row a model, of the training with `seed`; table columns: model, accuracy, low, high (shares)."""
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
    layout(figure, "How often is each model correct?", 110 + 44 * len(table))
    figure.update_xaxes(title=f"test accuracy (%), 95 % interval; seed {seed}")
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
    """Curves of one of CURVES over epochs: first column dotted, second solid; several seeds as mean and min–max band.

    Models that learn at the same rates share their curves. Marked are the end of the frozen epochs and where images change their size.
    """
    title, axis, columns, factor = CURVES[quantity]
    sharing: dict[str | bytes, list[str]] = {}
    for model, seeds in histories.items():
        alike = seeds[0][[*columns]].to_numpy().tobytes() if quantity == "learning rate" else model
        sharing.setdefault(alike, []).append(model)
    figure = go.Figure()
    for models in sharing.values():
        style, seeds = STYLES[models[-1]], histories[models[-1]]
        who = "all models" if len(models) == len(histories) > 1 else ", ".join(label(one) for one in models)
        who += f" ({len(seeds)} seeds)" * (len(seeds) > 1)
        for column in columns:
            values = pd.concat([smooth(factor * history.set_index("epoch")[column], smoothing) for history in seeds], axis=1)
            solid = column == columns[-1]
            name = who if len(columns) == 1 else f"{who}: {SERIES[column]}"
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
    marks = [(frozen_epochs, "head ◂ ▸ backbones too")] if frozen_epochs else []  # after which epoch what changes
    for epoch, (before, after) in enumerate(pairwise(next(iter(histories.values()))[0].get("image_size", [])), 1):
        if before != after:
            marks.append((epoch, f"{before} ◂ ▸ {after} px"))
    layout(figure, title, 460, above=16 * len(marks), hovermode="x unified")
    last = values.index.max()
    figure.update_xaxes(title="epoch", dtick=1 if last <= 20 else None, range=[0.5, last + 0.5])  # of its own it would make room for marks
    figure.update_yaxes(title=axis + f" (smoothed, {smoothing:g})" * bool(smoothing), type="log" if log else "linear")
    for row, (epoch, text) in enumerate(reversed(marks)):  # a line each: on a telephone they have no room side by side
        figure.add_vline(epoch + 0.5, line={"color": NEUTRAL, "dash": "dash", "width": 1})
        place = {"x": epoch + 0.5, "y": 1, "yref": "paper", "yshift": 16 * row, "yanchor": "bottom"}
        figure.add_annotation(text=text, showarrow=False, font={"size": 12}, **place)
    return figure


def training_captions(recipe: Recipe, val_images: int) -> dict[str, str]:
    """A caption a chart of CURVES. `val_images`: how many the run predicted."""
    captions = {
        "loss": f"Label smoothing ({recipe.label_smoothing}) keeps even a perfect loss above zero; training images are augmented.",
        "accuracy": "Training: on augmented images while the weights still move. Validation: on "
        f"{val_images:,} untouched images, at the epoch's end.",
        "learning rate": f"Mean rate of each epoch; at most {recipe.rates_in_words}. In phase 2 the backbones join.",
        "speed": "Training alone, without validation. A frozen backbone needs no backward pass.",
    }
    if recipe.image_sizes:
        captions["accuracy"] += f" Images of {recipe.size_in_words}; each epoch is validated at its own size."
    return captions


def top_classes_figure(logits: dict[str, np.ndarray], true: int | None, surface: Surface = LIGHT, n: int = 3) -> go.Figure:
    """Each model's `n` likeliest classes of one image, as bars; logits (10,) a model. The `true` class, if known, stands out."""
    figure = make_subplots(rows=len(logits), cols=1, subplot_titles=[label(m) for m in logits], vertical_spacing=0.12)
    for row, (model, values) in enumerate(logits.items(), start=1):
        probabilities = softmax(values[None])[0]
        top = np.argsort(-probabilities)[:n]
        names = [CLASSES[i] + (" ✓" if i == true else "") for i in top]
        colors = [STYLES[model].color if true in (i, None) else mix(STYLES[model].color, surface.background, 0.45) for i in top]
        figure.add_bar(
            x=100 * probabilities[top], y=names, orientation="h", marker={"color": colors}, row=row, col=1, showlegend=False,
            text=[f"{100 * p:.1f} %" for p in probabilities[top]], textposition="outside", cliponaxis=False,
            hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", row=row, col=1)
        figure.update_xaxes(range=[0, 130], tickvals=[0, 50, 100], showticklabels=row == len(logits), row=row, col=1)  # with its label
    figure.update_xaxes(title="probability (%)", row=len(logits), col=1)
    layout(figure, "What do they see?", 150 + 100 * len(logits), above=20)
    return figure


def embedding_figure(
    points: pd.DataFrame, title: str, colour_by: str, chosen: np.ndarray, image: int | None, surface: Surface = LIGHT
) -> go.Figure:
    """The map of a model's test features, a mark an image: circles are predicted correctly, crosses wrongly.

    `points` columns: index, x, y, label, predicted (class positions), confidence, correct. Coloured by `true class`,
    `predicted class` or `correct or wrong`. Images in `chosen` stay bright, `image` is ringed; customdata is the index.
    """
    figure = go.Figure()
    names = np.array(CLASSES)
    text = names[points["label"]] + " → " + names[points["predicted"]] + " " + points["confidence"].map("{:.2f}".format).to_numpy(str)
    bright = points["index"].isin(chosen).to_numpy()
    correct = points["correct"].to_numpy()
    if colour_by == "correct or wrong":
        groups = [("correct", NEUTRAL, correct), ("wrong", BAD, ~correct)]
    else:
        classes = points["label" if colour_by == "true class" else "predicted"].to_numpy()
        groups = [(name, CLASS_COLORS[i], classes == i) for i, name in enumerate(CLASSES)]
    named = set()  # a legend entry a group, for both its traces
    for state in (True, False):  # the few wrong ones on top
        for name, color, mine in groups:
            mine = mine & (correct == state)
            if mine.any():
                own = points[mine]
                figure.add_scattergl(
                    x=own["x"].to_numpy(np.float32), y=own["y"].to_numpy(np.float32), customdata=own["index"].to_numpy(np.int32),
                    text=text[mine], mode="markers", name=name, legendgroup=name, showlegend=name not in named,
                    marker={"color": color, "symbol": "circle" if state else "x", "size": 5 if state else 8,
                            "opacity": 0.7 if state else 1, "line": {"width": 0 if state else 1, "color": surface.background}},
                    selectedpoints=np.flatnonzero(bright[mine]) if bright.any() else None,
                    selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 0.12}},
                    hovertemplate="image %{customdata}: %{text}<extra></extra>",
                )  # fmt: skip
                named.add(name)
    tag = {"showarrow": False, "bgcolor": surface.background, "opacity": 0.85, "borderpad": 2}
    tag["font"] = {"size": 13, "color": surface.text}
    middles = points.groupby("label")[["x", "y"]].median()
    tags = [tag | {"x": place["x"], "y": place["y"], "text": f"<b>{CLASSES[i]}</b>"} for i, place in middles.iterrows()]
    if image is not None:
        figure.add_scattergl(
            **points.loc[points["index"] == image, ["x", "y"]].to_dict("list"), mode="markers", hoverinfo="skip", showlegend=False,
            marker={"symbol": "circle-open", "size": 20, "color": surface.text, "line": {"width": 3}},
        )  # fmt: skip
    layout(figure, title, 580, annotations=tags, hovermode="closest")
    figure.update_layout(legend={"itemsizing": "constant"})
    bare = {"showticklabels": False, "zeroline": False, "showgrid": False}
    figure.update_xaxes(title="first map axis (t-SNE, no unit)", **bare)
    figure.update_yaxes(title="second map axis (t-SNE, no unit)", scaleanchor="x", **bare)
    return figure


def difference_figure(table: pd.DataFrame, title: str, axis: str, margin: float | None = None) -> go.Figure:
    """Differences around a line at none, a row each; table columns: name, difference, low, high (NaN: no interval), in the axis's unit.

    `margin`: what still counts as comparable, shaded on both sides of the line.
    """
    figure = go.Figure(
        go.Scatter(
            x=table["difference"], y=table["name"], mode="markers", showlegend=False, customdata=table[["low", "high"]],
            marker={"color": STYLES["fusion"].color, "symbol": "diamond", "size": 12},
            error_x={
                "array": table["high"] - table["difference"], "arrayminus": table["difference"] - table["low"], "thickness": 2, "width": 6,
            },
            hovertemplate="%{y}: %{x:+.2f} [%{customdata[0]:+.2f}, %{customdata[1]:+.2f}]<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, title, 150 + 34 * len(table))
    figure.add_vline(0, line={"color": NEUTRAL, "width": 2})
    if margin:
        figure.add_vrect(-margin, margin, fillcolor=NEUTRAL, opacity=0.2, line_width=0, layer="below")
    figure.update_xaxes(title=axis, zeroline=False)
    figure.update_yaxes(range=[len(table) - 0.4, -0.6], dtick=1)  # the first on top
    return figure


def reliability_figure(diagrams: dict[str, dict[str, np.ndarray]], title: str) -> go.Figure:
    """Accuracy over confidence, a curve a model, from core.metrics.reliability; on the diagonal confidence is what it says."""
    figure = go.Figure()
    dotted = {"color": NEUTRAL, "dash": "dot"}
    figure.add_scatter(x=[0, 100], y=[0, 100], mode="lines", line=dotted, name="as confident as correct", hoverinfo="skip")
    for model, diagram in diagrams.items():
        style = STYLES[model]
        figure.add_scatter(
            x=100 * diagram["confidence"], y=100 * diagram["accuracy"], mode="lines+markers", name=style.label, customdata=diagram["n"],
            line={"color": style.color, "dash": style.dash}, marker={"symbol": style.marker, "size": 9},
            hovertemplate="confidence %{x:.1f} %, correct %{y:.1f} % of %{customdata:,} images",
        )  # fmt: skip
    layout(figure, title, 460)
    low = min([100.0, *(100 * min(d["confidence"].min(), d["accuracy"].min()) for d in diagrams.values())])
    figure.update_xaxes(title="mean confidence of the images in a bin (%)", range=[low - 3, 101])
    figure.update_yaxes(title="predicted correctly (%)", range=[low - 3, 101])
    return figure


def branch_figure(sums: dict[str, float], title: str) -> go.Figure:
    """What each branch adds to a score, in logits, as bars."""
    figure = go.Figure(
        go.Bar(
            x=list(sums.values()), y=[label(branch) for branch in sums], orientation="h",
            marker={"color": [STYLES[branch].color for branch in sums]},
            text=[f"{value:+.2f}" for value in sums.values()], hovertemplate="%{y}: %{x:+.3f} logits<extra></extra>",
            textposition="outside", cliponaxis=False,
        )
    )  # fmt: skip
    layout(figure, title, 240)
    low, high = min([0, *sums.values()]), max([0, *sums.values()])
    beside = 0.2 * (high - low or 1)  # room for a bar's label
    figure.update_xaxes(title="contribution (logits)", zeroline=True, range=[low - beside * (low < 0), high + beside])
    return figure


def branch_shares_figure(table: pd.DataFrame, title: str) -> go.Figure:
    """Mean contribution of each branch by group; table columns: group, then one a branch, in logits."""
    figure = go.Figure()
    for branch in table.columns.drop("group"):
        figure.add_bar(
            x=table[branch], y=table["group"], name=label(branch), orientation="h",
            marker={"color": STYLES[branch].color, "pattern": {"shape": "" if branch == "resnet18" else "/"}},
            hovertemplate="%{x:+.2f} logits",
        )  # fmt: skip
    layout(figure, title, 160 + 34 * len(table), barmode="group", hovermode="y unified")
    figure.update_xaxes(title="mean contribution (logits)")
    figure.update_yaxes(autorange="reversed")  # the first group on top, and in it the first branch
    return figure


def randomization_figure(stages: list[str], correlation: list[float], style: Style) -> go.Figure:
    """Likeness of a map to the trained model's as weights are drawn anew from the top down."""
    figure = go.Figure(
        go.Scatter(
            x=stages, y=correlation, mode="lines+markers", line={"color": style.color, "dash": style.dash},
            marker={"symbol": style.marker, "size": 9}, hovertemplate="%{x}: %{y:.2f}<extra></extra>",
        )
    )  # fmt: skip
    layout(figure, "Does the map notice random weights?", 400)
    figure.update_xaxes(title="weights random down to (layer's side / input's)", type="category")
    figure.update_yaxes(title="rank correlation with trained map", range=[min(-0.3, min(correlation) - 0.1), 1.05])
    return figure


def curves_figure(fraction: np.ndarray, deletion: np.ndarray, insertion: np.ndarray, style: Style) -> go.Figure:
    """Probability of the target while the map's most important pixels are taken away, or put in first."""
    figure = go.Figure()
    for values, name, dash in ((deletion, "deletion", "dot"), (insertion, "insertion", "solid")):
        figure.add_scatter(
            x=100 * fraction, y=100 * values, name=name, mode="lines", line={"color": style.color, "dash": dash, "width": 2.5},
            hovertemplate="%{y:.1f} %",
        )  # fmt: skip
    layout(figure, "Do the pixels it names matter?", 400, hovermode="x unified")
    figure.update_xaxes(title="pixels taken away or put in, most important first (%)")
    figure.update_yaxes(title="probability of the target (%)", range=[0, 102])
    return figure


def risk_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]], title: str) -> go.Figure:
    """Share of wrong predictions over coverage, a curve a model, from core.metrics.risk_coverage."""
    figure = go.Figure()
    for model, (coverage, risk) in curves.items():
        style, every = STYLES[model], slice(None, None, -max(1, len(coverage) // 200))  # from full coverage down: a screen shows no more
        figure.add_scatter(
            x=100 * coverage[every], y=100 * risk[every], mode="lines", name=style.label,
            line={"color": style.color, "dash": style.dash, "width": 2.5}, hovertemplate="%{y:.2f} % wrong",
        )  # fmt: skip
    layout(figure, title, 460, hovermode="x unified")
    figure.update_xaxes(title="coverage: images, most confident first (%)", range=[0, 101])
    figure.update_yaxes(title="wrong among them (%)", rangemode="tozero")
    return figure


def robustness_figure(table: pd.DataFrame, title: str) -> go.Figure:
    """Accuracy over severity, a curve a model; table columns: model, severity, accuracy (share)."""
    figure = go.Figure()
    for model, rows in table.groupby("model", sort=False):
        style = STYLES[model]
        figure.add_scatter(
            x=rows["severity"], y=100 * rows["accuracy"], name=style.label, mode="lines+markers",
            line={"color": style.color, "dash": style.dash}, marker={"symbol": style.marker, "size": 9}, hovertemplate="%{y:.2f} %",
        )  # fmt: skip
    layout(figure, title, 460, hovermode="x unified")
    figure.update_xaxes(title="severity", dtick=1)
    figure.update_yaxes(title="accuracy (%)")
    return figure


def corruptions_figure(table: pd.DataFrame) -> go.Figure:
    """Accuracy under each corruption, a row a corruption, a marker a model; table columns: model, label, accuracy (share)."""
    figure = go.Figure()
    order = table.groupby("label")["accuracy"].mean().sort_values(ascending=False).index
    for model, rows in table.groupby("model", sort=False):
        style = STYLES[model]
        rows = rows.set_index("label").loc[order]
        figure.add_scatter(
            x=100 * rows["accuracy"], y=order, name=style.label, mode="markers",
            marker={"color": style.color, "symbol": style.marker, "size": 11},
            hovertemplate=f"{style.label}, %{{y}}: %{{x:.2f}} %<extra></extra>",
        )  # fmt: skip
    layout(figure, "Which corruption hurts most?", 460)
    figure.update_xaxes(title="accuracy (%)")
    figure.update_yaxes(autorange="reversed")
    return figure
