"""Attributions: which pixels, and which branch of the fusion, speak for a prediction; and how far each map can be trusted."""

import numpy as np
import pandas as pd
import streamlit as st

from core.config import CLASSES, FUSION
from core.explain import METHODS
from dashboard import address, components, data, diagram, figures, inference, selection, theme

run, models = st.session_state["current"]
models = [m for m in models if m in run.models] or run.models
predictions = data.load_predictions(run)

st.title("Attributions")
if not components.can_compute(run):
    with components.section():
        components.show_stored_maps(run, predictions)
components.require_weights(run)

with st.expander("Choose the images to step through, or your own"):
    order = components.choose_images(run, predictions)[1]
    mine = components.pick_picture()


def step(by: int) -> None:
    """Go to the next or previous image of the filter; from one outside it, to the first or the last."""
    images, image = order.tolist(), address.latest("image")
    here = images.index(image) if image in images else -max(by, 0)
    address.choose("image", images[(here + by) % len(images)])


with st.container(horizontal=True, vertical_alignment="bottom"):
    first = int(order[0]) if len(order) else None
    index = address.pick_number("Image", 0, len(predictions) - 1, key="image", default=first, disabled=mine is not None, width=140)
    st.button("Previous", on_click=step, args=[-1], disabled=mine is not None or order.empty)
    st.button(f"Next of {len(order):,}", on_click=step, args=[1], disabled=mine is not None or order.empty)
    scores = ["predicted", "true", "predicted − true", *CLASSES]
    asked = address.pick(st.selectbox, "Explain", scores, key="explain", default="predicted", width=150)
    opacity = address.slide("Opacity", 0.0, 1.0, 0.9, 0.05, key="opacity", width=110)
    absolute = address.switch("Strength only", key="absolute", help="Absolute values, whichever way a pixel speaks")
    shared = address.switch("One scale", key="shared", help="Compare how strong maps are; weak ones turn grey")
methods = address.pick_several(
    st.pills,
    "Methods",
    list(METHODS),
    key="methods",
    default=["grad_cam", "saliency"],  # the others take seconds
    names=lambda method: METHODS[method].label,
    selection_mode="multi",
)
if mine is None and index is None:
    st.info("Choose an image by its number, or widen the filter above.")
    st.stop()

image = mine.seen if mine else data.load_images().decode(index)
true = None if mine else int(predictions["label"].iloc[index])
logits = inference.predict_image(run, image) if mine else {m: data.load_logits(run, m)[index] for m in run.models}
predicted = {m: int(logits[m].argmax()) for m in models}
if true is None and asked.endswith("true"):
    st.info("Nobody has labelled your image: choose the predicted class, or one of the ten.")
    st.stop()


def ask(model: str) -> inference.Question | None:
    """The question about one model; None where its prediction is correct, so that predicted − true says nothing."""
    if asked == "predicted − true":
        return inference.Question(run, model, image, predicted[model], true) if predicted[model] != true else None
    target = {"predicted": predicted[model], "true": true}.get(asked)
    return inference.Question(run, model, image, CLASSES.index(asked) if target is None else target)


def name_score(question: inference.Question) -> str:
    return CLASSES[question.target] + (f" − {CLASSES[question.contrast]}" if question.contrast is not None else "")


def find_maps(model: str, method: str) -> dict[str, np.ndarray]:
    """One method's maps (32, 32) of the image, by part."""
    parts = questions[model].ask("attribute", f"{METHODS[method].label} of {theme.label(model)} …", method=method)
    return {part: maps[0] for part, maps in parts.items()}


questions = {m: question for m in models if (question := ask(m))}
original = "your image at 32×32" if mine else f"test image {index}: {CLASSES[true]}"
st.html(diagram.maps_html([(image, original)]))
marks = {m: "" if true is None else " ✓" if p == true else " ✗" for m, p in predicted.items()}
st.markdown(" · ".join(f"{theme.label(m)}: **{CLASSES[p]}**{marks[m]}" for m, p in predicted.items()))
if not questions:
    st.info("Every model shown is correct, so there is no difference to explain: choose another score.")
    st.stop()


def show_method(method: str) -> None:
    """A method's maps of all models, what they mean and how they mislead; maps that show nothing say why."""
    about, pictures, blank = METHODS[method], [], []
    for model, question in questions.items():
        parts = find_maps(model, method)
        for part, one in parts.items():
            name = theme.label(model) + (f", {theme.label(part)} branch" if len(parts) > 1 else "")
            pictures.append((np.abs(one) if absolute else one, f"{name}: {name_score(question)}{' (blank)' * (not one.any())}"))
            if not one.any():
                blank.append((name, name_score(question)))
    st.subheader(about.label)
    peaks = [float(np.abs(one).max()) for one, _ in pictures]
    scales = [max(peaks, default=0.0)] * len(peaks) if shared else peaks
    overlaid = [diagram.overlay_map(image, one, scale, opacity) for (one, _), scale in zip(pictures, scales, strict=True)]
    st.html(diagram.maps_html([(cell, text) for cell, (_, text) in zip(overlaid, pictures, strict=True)]))
    colours = "Orange speaks for the score, blue against it" if about.signed and not absolute else "Orange: strength"
    full = f"one scale for all, full colour at {max(peaks, default=0):.3g}" if shared else "each on its own scale"
    st.caption(f"{about.meaning} {colours}; {full}. **It misleads**: {about.misleads}")
    for name, score in blank:
        st.caption(f"**{name}: blank.** It saw no place that speaks for {score}, and evidence against it is cut off.")
    if method.startswith("grad_cam"):
        components.say_places(run, questions)
    if method == "grad_cam":
        for model in questions:
            components.say_blank_maps(run, model)
        if blank and "grad_cam_signed" not in methods:
            st.button("Show the signed maps", on_click=lambda: address.choose("methods", [*methods, "grad_cam_signed"]))


def show_branch_sums(question: inference.Question) -> None:
    """What each branch adds to the score, by Integrated Gradients."""
    sums = {branch: float(one.sum()) for branch, one in find_maps(FUSION.name, "integrated_gradients").items()}
    change = float(question.ask("score_change")[0])
    components.show_figure(
        figures.branch_figure(sums, f"How much does each branch add for {name_score(question)}?"),
        "branches",
        f"Integrated Gradients from the mean colour on, a copy a branch: together {sum(sums.values()):+.2f}, of a change by {change:+.2f}.",
        pd.DataFrame({"branch": list(sums), "logits": list(sums.values())}),
    )


def show_checks(question: inference.Question, method: str) -> None:
    """The four measures of trust, each of which takes many maps."""
    own = sum(question.ask("attribute", method=method).values())
    if not own.any():
        st.info("This map is blank: there is nothing to check. Choose another method, or another score.")
        return
    stages = question.ask("randomize", "1 of 4: randomising the weights …", method=method)
    sensitivity = float(question.ask("measure_sensitivity", "2 of 4: nudging the pixels …", method=method, samples=5)[0])
    infidelity = float(question.ask("measure_infidelity", "3 of 4: hiding squares …", maps=own)[0])
    curves = question.ask("trace_curves", "4 of 4: taking pixels away …", maps=own)
    style, (left, right) = theme.STYLES[question.model], st.columns(2)
    with left:
        names = [stage.stage for stage in stages]
        values = [float(stage.absolute_correlation[0]) for stage in stages]
        components.show_figure(
            figures.randomization_figure(names, values, style),
            "randomization",
            "Weights are drawn anew from the top down (Adebayo et al. 2018). A map that hardly changes does not tell what was learned.",
            pd.DataFrame({"stage": names, "rank_correlation": values}),
        )
        shown = [(stage.maps[0], float(np.abs(stage.maps[0]).max()), stage.stage) for stage in stages]
        st.html(diagram.maps_html([(diagram.overlay_map(image, one, peak, opacity), name) for one, peak, name in shown]))
    with right:
        components.show_figure(
            figures.curves_figure(curves.fraction, curves.deletion[0], curves.insertion[0], style),
            "deletion_insertion",
            f"Areas: deletion {curves.deletion_area[0]:.3f} (low is good), insertion {curves.insertion_area[0]:.3f} (high is good).",
            pd.DataFrame({"fraction": curves.fraction, "deletion": curves.deletion[0], "insertion": curves.insertion[0]}),
        )
        st.metric("Infidelity", f"{infidelity:.2f}", help="Share of the score's changes under hidden squares the map misses; 0 is best")
        st.metric("Max-sensitivity", f"{sensitivity:.2f}", help="Largest relative change of the map under faint noise; 0 is best")


for method in methods:
    show_method(method)

if FUSION.name in questions:
    st.subheader("Which branch of the fusion carries the prediction?")
    if "integrated_gradients" in methods:
        here, everywhere = st.columns(2)
        with here:
            show_branch_sums(questions[FUSION.name])
    else:  # which takes a while, and was not asked for
        st.caption("Choose Integrated Gradients above to see what each branch adds for this image.")
        everywhere = st.container()
    with everywhere, components.section():
        components.show_branches(run, predictions, None if mine else index)

st.subheader("How far can a map be trusted?")
with st.container(horizontal=True, vertical_alignment="bottom"):
    method = address.pick(
        st.selectbox, "Method", methods or list(METHODS), key="checked", default=(methods or list(METHODS))[0],
        names=lambda name: METHODS[name].label, width=220,
    )  # fmt: skip
    model = address.pick(
        st.selectbox, "Model", list(questions), key="of", default=selection.pick_subject(list(questions)), names=theme.label, width=180
    )
    check = address.switch("Run the checks", key="check", help="Takes many times as long as a map; remembered afterwards")
if check:
    show_checks(questions[model], method)
