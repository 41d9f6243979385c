"""Confusion: which classes are taken for which, for one model, two side by side, or their difference; a click shows the images.

Two models may be of one run or of two.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from core import metrics
from core.config import BASELINES, CLASSES
from dashboard import address, components, data, figures, selection, theme

run, _ = st.session_state["current"]
surface = components.surface()

st.title("Confusion")
with st.container(horizontal=True, vertical_alignment="bottom"):
    model = components.pick_model(run)
    others = components.other_models(run, model)
    compare = components.pick_one("Show", ["one model", *(["side by side", "difference"] if others else [])], "show")
    other = model
    if compare != "one model":
        start = BASELINES[0] if BASELINES[0] in others else others[0]
        other = address.pick(st.selectbox, "Compared with", others, key="other", default=start, names=theme.label, width=300)
with st.container(horizontal=True, vertical_alignment="bottom"):
    by = components.pick_one("Normalised by", ["counts", "true", "predicted", "all"], "normalised")
    order_by = components.pick_one("Classes", ["by name", "by similarity"], "order")

predictions = data.load_predictions_beside(run, [other])
labels = predictions["label"].to_numpy()


def matrices(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A model's counts, and the values to show: counts or percent."""
    counts = metrics.confusion(labels, predictions[f"{name}_predicted"].to_numpy())
    return counts, counts if by == "counts" else 100 * metrics.normalize_confusion(counts, by)


def copy_click(key: str, name: str) -> None:
    """Make a clicked cell of a model the chosen one; the selection itself is lost when the figure changes."""
    points = st.session_state[key].selection.points
    if points:
        true, predicted = points[0]["customdata"][:2]
        for part, value in (("true", true), ("predicted", predicted), ("of", name)):
            address.choose(part, value)


def show_matrix(figure: go.Figure, key: str, name: str, shown: np.ndarray, colour: str) -> None:
    """A matrix whose cells choose images; the chosen one has a frame."""
    if true and predicted:
        x, y = (order.index(CLASSES.index(one)) for one in (predicted, true))
        figure.add_shape(type="rect", x0=x - 0.5, x1=x + 0.5, y0=y - 0.5, y1=y + 0.5, line={"width": 3, "color": surface.text})
    table = pd.DataFrame(shown, columns=CLASSES).assign(true=CLASSES)[["true", *CLASSES]]
    components.show_figure(
        figure, key, colour, table, hint="Click a cell to see its images.",
        on_select=lambda: copy_click(key, name), selection_mode="points",
    )  # fmt: skip


counts, shown = matrices(model)
order = metrics.cluster_classes(counts) if order_by == "by similarity" else list(range(len(CLASSES)))
percent = by != "counts"
unit = {"counts": "images", "true": "% of a true class", "predicted": "% of a predicted class", "all": "% of all images"}[by]


def show_confusion(name: str, title: str) -> None:
    own_counts, own_shown = matrices(name)
    color = theme.STYLES[name.rpartition("/")[2]].color
    figure = figures.confusion_figure(own_counts, own_shown, title, color, order, percent, surface)
    show_matrix(figure, f"confusion_{name}".replace("/", "_"), name, own_shown, "Colour grades the errors.")


if compare == "side by side":
    places, images = st.columns(2), st.container()
else:
    *places, images = st.columns([1.25, 1])
with images, st.container(horizontal=True, vertical_alignment="bottom"):  # before the matrices, which frame the cell
    true = address.pick(st.selectbox, "True class", CLASSES, key="true", placeholder="click a cell", width=160)
    predicted = address.pick(st.selectbox, "Predicted class", CLASSES, key="predicted", placeholder="click a cell", width=160)

if compare == "side by side":
    for column, name in zip(places, (model, other), strict=True):
        with column:
            show_confusion(name, f"{theme.label(name)} ({unit})")
else:
    with places[0]:
        if compare == "one model":
            show_confusion(model, f"What does {theme.label(model)} take for what? ({unit})")
        else:
            _, other_shown = matrices(other)
            title = f"Where does {theme.label(model)} differ from {theme.label(other)}? ({unit})"
            figure = figures.confusion_difference_figure(counts, shown - other_shown, title, order, percent, surface)
            colour = f"Green: {theme.label(model)} does better than {theme.label(other)}. Red: worse."
            show_matrix(figure, "confusion_difference", model, shown - other_shown, colour)

with images, st.container():  # what comes and goes within it does not move the lightbox, which would be mounted anew
    way: dict[str, str] = {}
    whose = components.pick_one("Images of", [model, other], "of", theme.label) if compare != "one model" else model
    if true and predicted:
        cell = selection.select_images(predictions, whose, [true], [predicted], sort="most confident first")
        st.markdown(
            f"**{len(cell):,}** image{'s' * (len(cell) != 1)} of true class **{true}** that {theme.label(whose)} calls **{predicted}**"
        )
        with st.container(height=430, border=False):
            components.image_gallery(predictions.loc[cell[:200]], whose, "gallery")
        if len(cell) > 200:
            st.caption("The 200 most confident are shown.")
        of_run, _, own = whose.rpartition("/")
        way = {"true": true, "predicted": predicted, "outcome": "everything", "model": own, "sort": "most confident first"}
        way |= {"run": of_run} if of_run else {}
        address.link("errors", "All of them, with every filter", **way)
    else:
        st.info("Click a cell of the matrix, or choose a true and a predicted class, to see the images.")
with images:
    components.image_detail(run, predictions, [*components.available_models(run), *([other] if "/" in other else [])], **way)

st.subheader("Class by class")
scores = metrics.per_class(labels, predictions[f"{model}_predicted"].to_numpy())
has_images = counts.sum(axis=1) > 0  # a small run may lack a class
held = [one for one in BASELINES if f"{one}_predicted" in predictions and one != model]
baselines = [metrics.per_class(labels, predictions[f"{one}_predicted"].to_numpy()) for one in held]
beside = "the higher of the two baselines" if len(held) > 1 else theme.label(held[0]) if held else ""
table = pd.DataFrame(
    {"class": CLASSES, **{name: np.where(has_images, 100 * scores[name], np.nan) for name in ("precision", "recall", "f1")}}
)
for name in ("precision", "recall", "f1"):
    if baselines:
        table[f"{name} Δ"] = table[name] - 100 * np.max([b[name] for b in baselines], axis=0)
table["TP"], table["FN"] = counts.diagonal(), counts.sum(axis=1) - counts.diagonal()
table["FP"] = counts.sum(axis=0) - counts.diagonal()
table["TN"] = counts.sum() - table[["TP", "FN", "FP"]].sum(axis=1)
components.show_table(
    table,
    column_config={
        "TP": st.column_config.NumberColumn("TP", help="True positives: images of the class, predicted so"),
        "FN": st.column_config.NumberColumn("FN", help="False negatives: images of the class, predicted otherwise"),
        "FP": st.column_config.NumberColumn("FP", help="False positives: images of other classes, predicted so"),
        "TN": st.column_config.NumberColumn("TN", help="True negatives: images of other classes, predicted otherwise"),
        **{name: st.column_config.NumberColumn(f"{name} (%)", format="%.1f") for name in ("precision", "recall", "f1")},
        **{
            f"{name} Δ": st.column_config.NumberColumn(f"Δ {name}", format="%+.1f", help=f"points above {beside} in that class")
            for name in ("precision", "recall", "f1")
        },
    },
)
st.caption(
    f"{theme.label(model)}, one class against the rest."
    + f" Δ: percentage points above (+) or below (−) {beside} in that class." * bool(baselines)
)
