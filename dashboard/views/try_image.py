"""Try an image: a visitor's own picture or a test image, as the models see it, and what each makes of it."""

import random

import pandas as pd
import streamlit as st

from core.config import CLASSES
from core.metrics import softmax
from dashboard import address, components, data, diagram, figures, inference, theme

run, models = st.session_state["current"]

st.title("Try an image")
components.require_weights(run)

images = data.load_images()
left, right = st.columns([1, 1.3])
with left:
    mine = components.pick_picture()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        index = address.pick_number(
            "Or a test image", 0, len(images.png) - 1, key="image",
            placeholder=f"0–{len(images.png) - 1}", disabled=mine is not None, width=200,
        )  # fmt: skip
        st.button(
            "Any test image",
            on_click=lambda: address.choose("image", random.randrange(len(images.png))),
            disabled=mine is not None,
        )
    if mine is None and index is None:
        st.info("Upload an image, take one, or choose a test image, to see what each model makes of it.")
        st.stop()
    seen = images.decode(index) if mine is None else mine.seen
    true = None if mine else int(images.labels[index])
    if mine is None:
        size = run.recipe.image_size
        st.html(diagram.maps_html([(seen, f"32×32 pixels; the models see {size}×{size}")]))
        st.markdown(f"True class: **{CLASSES[true]}**")
    if mine or index < len(data.load_predictions(run)):  # else it was not predicted
        address.link("attributions", "Why? See its attributions", **({"own": "true"} if mine else {"image": index}))

logits = {model: values for model, values in inference.predict_image(run, seen).items() if model in models}
with right:
    probabilities = {model: softmax(values[None])[0] for model, values in logits.items()}
    predicted = {model: CLASSES[values.argmax()] for model, values in probabilities.items()}
    if len(predicted) > 1 and len(set(predicted.values())) == 1:
        st.markdown(f"### All predict **{next(iter(predicted.values()))}**")
    else:
        st.markdown("### " + ", ".join(f"{theme.label(model)}: **{name}**" for model, name in predicted.items()))
    components.show_figure(
        figures.top_classes_figure(logits, true, components.surface()),
        "predictions",
        "The three likeliest classes of each.",
        pd.DataFrame(probabilities, index=CLASSES).rename_axis("class").reset_index(),
    )
    st.caption(
        "The models know ten classes and must choose one: a picture of anything else gets a wrong prediction, often a confident one."
    )
