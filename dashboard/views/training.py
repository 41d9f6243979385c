"""Training curves: what happened in every epoch, for every model and, where there are several, every seed."""

import numpy as np
import pandas as pd
import streamlit as st

from core import results
from core.config import CLASSES
from core.results import MissingFile
from dashboard import address, components, data, figures, theme

run, models = st.session_state["current"]
models = [m for m in models if m in run.models] or run.models

st.title("Training curves")
if run.imported:
    st.info("This run was trained elsewhere: no epochs are known.")
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    seeds = address.switch("All seeds of this recipe", key="seeds")
    log = address.switch("Logarithmic", key="log")
    smoothing = address.slide("Smoothing", 0.0, 0.9, 0.0, 0.1, key="smoothing", width=220)

runs = data.sibling_runs(run) if seeds else [run]
histories = {m: [data.load_histories(r)[m] for r in runs if m in r.models] for m in models}
table = pd.concat([h.assign(model=m, seed=r.record["seed"]) for r in runs for m, h in data.load_histories(r).items() if m in models])
captions = figures.training_captions(run.recipe, results.split_size(run, "val"))
notes = [f"Seed {r.record['seed']}: " * (len(runs) > 1) + r.record["note"] for r in runs if r.record.get("note")]
captions["speed"] = " ".join([captions["speed"], *notes])
over_seeds = " Lines: means over the seeds; bands: from the lowest to the highest." * (len(runs) > 1)
for pair in (("loss", "accuracy"), ("learning rate", "speed")):
    for column, quantity in zip(st.columns(2), pair, strict=True):
        with column:
            figure = figures.training_figure(histories, quantity, run.recipe.frozen_epochs, smoothing, log)
            components.show_figure(figure, quantity.replace(" ", "_"), captions[quantity] + over_seeds, table)

st.subheader("Class by class" + f", seed {run.record['seed']}" * (len(runs) > 1))
model = components.pick_model(run, models=models)


@st.fragment
def show_matrix(matrices: np.ndarray) -> None:
    last = len(matrices)
    address.follow("epoch", last)
    epoch = address.pick(st.select_slider, "After epoch", range(1, last + 1), key="epoch", default=last) if last > 1 else 1
    figure = figures.epoch_confusion_figure(matrices, epoch, theme.label(model), theme.STYLES[model].color, components.surface())
    cells = pd.MultiIndex.from_product([range(1, last + 1), CLASSES, CLASSES], names=["epoch", "true", "predicted"])
    table = pd.DataFrame({"images": matrices.ravel()}, cells).reset_index()
    components.show_figure(figure, "epoch_confusion", "Colour grades the errors, on one scale for all epochs.", table)
    address.write()


with components.section():
    try:
        table = data.load_class_curves(run, model)
    except MissingFile:
        st.info("How the classes were learned is not known: this run kept no predictions of its epochs.")
        st.stop()
    curves, matrix = st.columns(2)
    with curves:
        figure = figures.class_curves_figure(table, f"Which classes does {theme.label(model)} learn late?")
        caption = f"Of each class's images among the {results.split_size(run, 'val'):,} validation images, after every epoch."
        components.show_figure(figure, "class_curves", caption, table)
    with matrix:
        try:
            show_matrix(data.load_epoch_confusions(run, model))
        except MissingFile:
            st.info("What was taken for what after each epoch is not known: this run kept no predicted classes of its epochs.")
