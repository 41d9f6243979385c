"""Rescued and broken: what fusion made of the images a baseline got right or wrong; a click shows exactly those images."""

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import address, components, data, figures, selection, theme

run, _ = st.session_state["current"]
references = selection.available_references(data.load_answers(run))
surface = components.surface()

st.title("Rescued and broken")
if not references:
    st.info("This page compares fusion with a baseline, and this run lacks one of them: train the rest with `scripts/train.py --resume`.")
    st.stop()


def say(text: str) -> str:
    """A reference or a flow with the models' names as they are spoken."""
    for name in theme.SHOWN_MODELS:
        text = text.replace(name, theme.label(name))
    return text


with st.container(horizontal=True, vertical_alignment="bottom"):
    reference = components.pick_one("Fusion compared with", list(references), "reference", say)
    model = components.pick_model(run, label="Answers of")
before = references[reference]
answers, by_class = data.load_transitions(run, before), data.count_transitions(run, before)
flows = selection.name_flows(before)
with st.container(horizontal=True, vertical_alignment="bottom"):
    flow = address.pick(st.selectbox, "Images shown", ["rescued", "broken", *flows], key="flow", default="rescued", names=say, width=330)
    true = components.pick_classes("True class", "true")


def copy_click(key: str) -> None:
    """Make a clicked tile or bar the chosen images; the selection itself is lost when the figure changes."""
    points = st.session_state[key].selection.points
    if points:
        *true, flow = points[0]["customdata"]
        st.session_state["flow"], st.session_state["true"], st.session_state["page"] = flow, true, 1


sums = by_class[["rescued", "broken", "net"]].sum()
whom = theme.label(reference) if len(before) == 1 else "a baseline"
st.markdown(
    f"Fusion **rescued {sums['rescued']:,.0f}** images that {whom} got wrong and **broke {sums['broken']:,.0f}** that {whom} got right: "
    f"**{sums['net']:+,g}** " + ("on balance." if len(before) == 1 else "against the baselines' mean, an error of only one counting half.")
)
fits = answers["flow"] == flow if flow in flows else answers["gain"] * {"rescued": 1, "broken": -1}[flow] > 0
counts = answers["flow"].value_counts().reindex(flows, fill_value=0).to_numpy().reshape(-1, 2)
of_state = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).ravel()
table = pd.DataFrame({"flow": flows, "images": counts.ravel(), "share": counts.ravel() / len(answers), "share_of_row": of_state})
tiles, classes = st.columns(2)
with tiles:
    states = [say(name.removesuffix(", fusion right")) for name in flows[::2]]
    names = ("baselines" if len(before) > 1 else whom, theme.label("fusion"))
    components.show_figure(
        figures.transition_figure(counts, states, flows, set(answers["flow"][fits]), names, "What did fusion change?", surface),
        "transitions",
        "Rescued: right where an answer before was wrong. Broken: the reverse. Shares are of a row. Click a tile for its images.",
        table, on_select=lambda: copy_click("transitions"), selection_mode="points",
    )  # fmt: skip
with classes:
    chosen = {(name, flow) for name in true}
    components.show_figure(
        figures.class_transitions_figure(by_class, chosen, "Which classes gain from fusion?", surface), "class_transitions",
        "Largest net gain on top; intervals: bootstrap of the images. Click a bar for its images.",
        by_class, on_select=lambda: copy_click("class_transitions"), selection_mode="points",
    )  # fmt: skip

shown = selection.select_images(answers[fits], model, true, sort="most confident first")
of_class = f", true class {', '.join(true)}" if true else ""
with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(
        f"**{say(flow)}**{of_class}: **{len(shown):,}** of {len(answers):,} test images ({len(shown) / len(answers):.2%})",
        width="stretch",
    )
    st.download_button("CSV of these images", lambda: answers.loc[shown].to_csv(index=False), "rescued.csv", "text/csv", on_click="ignore")
    share = f"{len(shown):,} of {len(answers):,} test images; the surest are shown."
    components.share_images("rescued", f"{say(flow).capitalize()}{of_class}", share, answers.loc[shown], model)
components.image_detail(run, answers)
components.paged_gallery(answers, shown, model)
