"""Attributions: which pixels, and which half of the fusion, speak for an answer; and how far each map can be trusted."""

import numpy as np
import pandas as pd
import streamlit as st

from core.config import CLASSES
from core.explain import METHODS
from core.images import MAX_BYTES, decode_picture
from dashboard import address, components, data, diagram, figures, inference, theme

run, models = st.session_state["current"]
models = [m for m in models if m in run.models] or run.models
answers = data.load_answers(run)

st.title("Attributions")
if not components.can_compute(run):
    components.show_stored_maps(run, answers)
components.require_weights(run)

known = METHODS
with st.expander("Choose the images to step through"):
    order = components.choose_images(run, answers)[1]
    upload = st.file_uploader("Or your own image", ["png", "jpg", "jpeg", "webp"], max_upload_size=MAX_BYTES // 2**20)


def step(by: int) -> None:
    """Go to the next or previous image of the filter; from one outside it, to the first or the last."""
    images = order.tolist()
    here = images.index(st.session_state["image"]) if st.session_state["image"] in images else -max(by, 0)
    st.session_state["image"] = images[(here + by) % len(images)]


with st.container(horizontal=True, vertical_alignment="bottom"):
    uploaded = upload is not None
    first = int(order[0]) if len(order) else None
    index = address.pick_number("Image", 0, len(answers) - 1, key="image", default=first, disabled=uploaded, width=180)
    st.button("Previous", on_click=step, args=[-1], disabled=uploaded or order.empty)
    st.button(f"Next of {len(order):,}", on_click=step, args=[1], disabled=uploaded or order.empty)
    asked = address.pick(
        st.selectbox, "Explain", ["predicted", "true", "predicted − true", *CLASSES], key="explain", default="predicted", width=180
    )
    opacity = address.slide("Opacity", 0.0, 1.0, 0.9, 0.05, key="opacity", width=180)
    absolute = address.switch("Strength only", key="absolute", help="Absolute values, whichever way a pixel speaks")
methods = address.pick_several(
    st.pills,
    "Methods",
    list(known),
    key="methods",
    default=["grad_cam", "saliency", "integrated_gradients"],
    names=lambda method: known[method].label,
    selection_mode="multi",
)
if upload is None and index is None:
    st.info("Choose an image by its number, or widen the filter above.")
    st.stop()

image = decode_picture(upload.getvalue()).seen if upload else data.load_images().decode(index)
true = None if upload else int(answers["label"].iloc[index])
logits = inference.predict_image(run, image)[0] if upload else {m: data.load_logits(run, m)[index] for m in run.models}
predicted = {m: int(logits[m].argmax()) for m in models}
if true is None and asked.endswith("true"):
    st.info("Nobody has labelled your image: choose the predicted class, or one of the ten.")
    st.stop()


def ask(model: str) -> inference.Question | None:
    """The question about one model; None where it is right, so that predicted − true says nothing."""
    if asked == "predicted − true":
        return inference.Question(run, model, image, predicted[model], true) if predicted[model] != true else None
    target = {"predicted": predicted[model], "true": true}.get(asked)
    return inference.Question(run, model, image, CLASSES.index(asked) if target is None else target)


def name_score(question: inference.Question) -> str:
    return CLASSES[question.target] + (f" − {CLASSES[question.contrast]}" if question.contrast is not None else "")


questions = {m: question for m in models if (question := ask(m))}
original = "your image at 32×32" if upload else f"test image {index}: {CLASSES[true]}"
st.html(diagram.maps_html([(image, original)]))
marks = {m: "" if true is None else " ✓" if p == true else " ✗" for m, p in predicted.items()}
st.markdown(" · ".join(f"{theme.label(m)}: **{CLASSES[p]}**{marks[m]}" for m, p in predicted.items()))
if not questions:
    st.info("Every model shown is right, so there is no difference to explain: choose another score.")
    st.stop()

maps = {}
for method in methods:
    for model, question in questions.items():
        parts = question.ask("attribute", f"{known[method].label} of {theme.label(model)} …", method=method)
        maps[method, model] = {part: one[0] for part, one in parts.items()}

for method in methods:
    about = known[method]
    st.subheader(about.label)
    pictures = [
        (
            np.abs(one) if absolute else one,
            theme.label(model) + (f", {theme.label(part)} branch" if len(parts) > 1 else "") + f": {name_score(question)}",
        )
        for model, question in questions.items()
        for parts in [maps[method, model]]
        for part, one in parts.items()
    ]
    scale = max(float(np.abs(one).max()) for one, _ in pictures)
    st.html(diagram.maps_html([(diagram.overlay_map(image, one, scale, opacity), text) for one, text in pictures]))
    colours = "Orange speaks for the score, blue against it" if about.signed and not absolute else "Orange: strength"
    st.caption(f"{about.meaning} {colours}; one scale for all, full colour at {scale:.3g}. **It misleads**: {about.misleads}")

if "fusion" in questions:
    st.subheader("Which half of the fusion carries the answer?")
    question = questions["fusion"]
    parts = question.ask("attribute", method="integrated_gradients")
    sums = {branch: float(one.sum()) for branch, one in parts.items()}
    left, right = st.columns(2)
    with left:
        components.show_figure(
            figures.branch_figure(sums, f"How much does each branch add for {name_score(question)}?"),
            "branches",
            f"Integrated Gradients, each branch with its own copy of the image; together {sum(sums.values()):+.2f} over a grey one.",
            pd.DataFrame({"branch": list(sums), "logits": list(sums.values())}),
        )
    with right:
        components.show_branches(run, answers, None if upload else index)

st.subheader("How far can a map be trusted?")
with st.container(horizontal=True, vertical_alignment="bottom"):
    method = address.pick(
        st.selectbox, "Method", methods or list(known), key="checked", default=(methods or list(known))[0],
        names=lambda name: known[name].label, width=220,
    )  # fmt: skip
    model = address.pick(st.selectbox, "Model", list(questions), key="of", default=list(questions)[-1], names=theme.label, width=180)
    check = address.switch("Run the checks", key="check", help="Takes many times as long as a map; remembered afterwards")
if check:
    question = questions[model]
    stages = question.ask("randomize", "1 of 4: randomising the weights …", method=method)
    sensitivity = float(question.ask("measure_sensitivity", "2 of 4: nudging the pixels …", method=method, samples=5)[0])
    own = sum(question.ask("attribute", method=method).values())
    infidelity = float(question.ask("measure_infidelity", "3 of 4: hiding squares …", maps=own)[0])
    curves = question.ask("trace_curves", "4 of 4: taking pixels away …", maps=own)
    left, right = st.columns(2)
    with left:
        names = [stage.stage for stage in stages]
        values = [float(stage.absolute_correlation[0]) for stage in stages]
        components.show_figure(
            figures.randomization_figure(names, values, theme.STYLES[model]),
            "randomization",
            "Weights are drawn anew from the top down (Adebayo et al. 2018). A map that stays alike does not explain the weights.",
            pd.DataFrame({"stage": names, "rank_correlation": values}),
        )
        peak = max(float(np.abs(stage.maps[0]).max()) for stage in stages[:1])
        shown = [(stage.maps[0] * peak / max(float(np.abs(stage.maps[0]).max()), 1e-12), stage.stage) for stage in stages]
        st.html(diagram.maps_html([(diagram.overlay_map(image, one, peak, opacity), name) for one, name in shown]))
    with right:
        components.show_figure(
            figures.curves_figure(curves.fraction, curves.deletion[0], curves.insertion[0], theme.STYLES[model]),
            "deletion_insertion",
            f"Areas: deletion {curves.deletion_area[0]:.3f} (low is good), insertion {curves.insertion_area[0]:.3f} (high is good).",
            pd.DataFrame({"fraction": curves.fraction, "deletion": curves.deletion[0], "insertion": curves.insertion[0]}),
        )
        st.metric("Infidelity", f"{infidelity:.2f}", help="Share of the score's changes under hidden squares the map misses; 0 is best")
        st.metric("Max-sensitivity", f"{sensitivity:.2f}", help="Largest relative change of the map under faint noise; 0 is best")
