"""Rescued and broken: what fusion made of each image the models it comes from got right or wrong; a click shows the images."""

import numpy as np
import pandas as pd
import streamlit as st

from core import metrics
from core.config import BACKBONES, CLASSES
from dashboard import components, data, figures, theme

run, _ = st.session_state["current"]
references = data.available_references(data.load_answers(run))

st.title("Rescued and broken")
print("RUN", dict(st.query_params), flush=True)
if not references:
    st.info("This page compares fusion with a baseline, and this run lacks one of them: train the rest with `scripts/train.py --resume`.")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    reference = components.pick_one("Fusion compared with", list(references), "reference")
before = references[reference]
answers = data.load_transitions(run, before)
flows = data.name_flows(before)
whom = "one of the baselines" if len(before) > 1 else theme.label(reference)


def copy_click(key: str) -> None:
    """Make a clicked tile or bar the chosen flow; the selection itself is lost when the figure changes."""
    points = st.session_state[key].selection.points
    print("CB", key, st.session_state[key], flush=True)
    if points:
        flow, *true = points[0]["customdata"][::-1]
        st.session_state["flow"], st.session_state["true"], st.session_state["page"] = flow, true, 1


by_class = pd.DataFrame({"class": CLASSES, **metrics.class_transitions(answers["label"].to_numpy(), answers["gain"].to_numpy())})
sums = by_class[["rescued", "broken", "net"]].sum()
st.markdown(
    f"Fusion **rescued {sums['rescued']:,.0f}** images that {whom} got wrong and **broke {sums['broken']:,.0f}** that {whom} got right: "
    f"**{sums['net']:+,g}** images on balance" + (" over their mean, an image that only one got wrong counting half." if len(before) > 1 else ".")
)
counts = answers["flow"].value_counts().reindex(flows, fill_value=0).to_numpy().reshape(-1, 2)
states = [flow.removesuffix(", fusion right") for flow in flows[::2]]
for model in (*BACKBONES, theme.CONTROL):
    states = [state.replace(model, theme.label(model)) for state in states]
left, right = st.columns(2)
with left:
    figure = figures.transition_figure(
        counts, states, flows, ("baselines" if len(before) > 1 else whom, theme.label("fusion")), "What becomes of right and wrong answers?", components.surface()
    )
    table = pd.DataFrame({"flow": flows, "images": counts.ravel(), "share": counts.ravel() / len(answers)})
    table["share_of_row"] = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).ravel()
    components.show_figure(
        figure, "transitions", "Rescued: right where an answer before was wrong. Broken: wrong where one was right. Click a tile to see its images.",
        table, on_select=lambda: copy_click("transitions"), selection_mode="points",
    )  # fmt: skip
with right:
    components.show_figure(
        figures.class_transitions_figure(by_class, "In which classes does fusion help on balance?", components.surface()),
        "class_transitions", "Largest net gain on top; intervals: bootstrap of the images. Click a bar to see its images.",
        by_class, on_select=lambda: copy_click("class_transitions"), selection_mode="points",
    )  # fmt: skip

with st.container(horizontal=True, vertical_alignment="bottom"):
    flow = st.selectbox("Images shown", ["rescued", "broken", *flows], key="flow", bind="query-params", width=330)
    true = components.pick_classes("True class", "true")
    model = components.pick_model(run, label="Answers of")
same = answers["flow"] == flow if flow in flows else answers["gain"] * {"rescued": 1, "broken": -1}[flow] > 0
rows = data.select_images(answers[same], model, true, sort="most confident first")
with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(
        f"**{len(rows):,}** of {len(answers):,} test images ({len(rows) / len(answers):.2%}): **{flow}**"
        + (f", true class {', '.join(true)}" if true else ""),
        width="stretch",
    )
    st.download_button("CSV of these images", lambda: rows.to_csv(index=False), "rescued.csv", "text/csv", on_click="ignore")
gallery, detail = st.columns([3, 1.25])
with gallery:
    components.image_gallery(components.page_through(rows), model, "gallery")
with detail:
    components.image_detail(run, answers)
