"""Training curves: what happened in every epoch, for every model and, where there are several, every seed."""

import pandas as pd
import streamlit as st

from core import results
from dashboard import address, components, data, figures

run, models = st.session_state["current"]
models = [m for m in models if m in run.models] or run.models

st.title("Training curves")
with st.container(horizontal=True, vertical_alignment="bottom"):
    seeds = address.switch("All seeds of this recipe", key="seeds")
    log = address.switch("Logarithmic", key="log")
    smoothing = address.slide("Smoothing", 0.0, 0.9, 0.0, 0.1, key="smoothing", width=220)

runs = data.sibling_runs(run) if seeds else [run]
histories = {m: [data.load_histories(r)[m] for r in runs if m in r.models] for m in models}
table = pd.concat([h.assign(model=m, seed=r.record["seed"]) for r in runs for m, h in data.load_histories(r).items() if m in models])
captions = {
    "loss": f"Label smoothing ({run.recipe.label_smoothing}) keeps even perfect predictions above zero; training images are augmented.",
    "accuracy": "Training: on augmented images while the weights still move. Validation: on "
    f"{results.split_size(run, 'val'):,} untouched images, at the epoch's end.",
    "learning rate": "Mean rate of each epoch, the same for all models. In phase 2 the backbones join at a lower rate.",
    "speed": f"Training alone, without validation. A frozen backbone needs no backward pass. {run.record.get('note', '')}",
}
for pair in (("loss", "accuracy"), ("learning rate", "speed")):
    for column, quantity in zip(st.columns(2), pair, strict=True):
        with column:
            shown = {models[-1]: histories[models[-1]]} if quantity == "learning rate" else histories
            figure = figures.training_figure(shown, quantity, run.recipe.frozen_epochs, smoothing, log)
            components.show_figure(figure, quantity.replace(" ", "_"), captions[quantity], table)
