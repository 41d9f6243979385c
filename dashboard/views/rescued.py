"""Fixed and broken: what a model made of the images another predicted correctly or wrongly; a click shows exactly those images.

By default fusion against its baselines; any two models of one run or of two can be compared.
"""

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import address, components, data, figures, filters, selection, theme
from dashboard.filters import Filter

run, _ = st.session_state["current"]
surface = components.surface()

st.title("Fixed and broken")
if not (components.available_models(run)[1:] or data.models_elsewhere(run)):
    more = "import the rest with `scripts/import.py`" if run.imported else "train the rest with `scripts/train.py --resume`"
    st.info(f"This page compares two models, and this run has only one: {more}.")
    st.stop()


def say(reference: str) -> str:
    return reference if reference == "both baselines" else theme.label(reference)


with st.container(horizontal=True, vertical_alignment="bottom"):
    after = components.pick_model(run, "after")
    references = selection.available_references(components.other_models(run, after))
    start = next(iter(references))
    reference = address.pick(st.selectbox, "Compared with", references, key="reference", default=start, names=say, width=400)
before = references[reference]
predictions = data.load_transitions(run, before, after)
by_class = data.count_transitions(predictions["label"].to_numpy(), predictions["gain"].to_numpy())
changed = f"{theme.label(after)} of {run.name}" if "/" in reference else theme.label(after)
flows, named = selection.name_flows(before, after), selection.name_flows([theme.label(one) for one in before], changed)
words = {"rescued": "fixed"} | dict(zip(flows, named, strict=True))  # the address's word, and the page's
with st.container(horizontal=True, vertical_alignment="bottom"):
    shown_flows = ["rescued", "broken", *flows]
    flow = address.pick(
        st.selectbox, "Images shown", shown_flows, key="flow", default="rescued", names=lambda one: words.get(one, one), width=460
    )
    true = components.pick_classes("True class", "true")
    model = components.pick_one("Predictions of", [after, *before], "model", theme.label)


def copy_click(key: str) -> None:
    """Make a clicked tile or bar the chosen images; the selection itself is lost when the figure changes."""
    points = st.session_state[key].selection.points
    if points:
        *true, flow = points[0]["customdata"]
        address.choose("flow", flow)
        address.choose("true", true)


sums = by_class[["rescued", "broken", "net"]].sum()
whom = theme.label(reference) if len(before) == 1 else "a baseline"
balance = f": **{sums['net']:+,g}** on balance." if len(before) == 1 else "."  # against two, a gain over one of them is half an image
some = "image" if sums["rescued"] == 1 else "images"
st.markdown(
    f"{changed} **fixed {sums['rescued']:,.0f}** {some} that {whom} got wrong and **broke {sums['broken']:,.0f}** "
    f"that {whom} predicted correctly{balance}"
)
fits = predictions["flow"] == flow if flow in flows else predictions["gain"] * {"rescued": 1, "broken": -1}[flow] > 0
counts = predictions["flow"].value_counts().reindex(flows, fill_value=0).to_numpy().reshape(-1, 2)
of_state = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).ravel()
table = pd.DataFrame({"flow": flows, "images": counts.ravel(), "share": counts.ravel() / len(predictions), "share_of_row": of_state})
tiles, classes = st.columns(2)
with tiles:
    states = selection.name_states([theme.label(one) for one in before])
    names = ("baselines" if len(before) > 1 else whom, changed)
    components.show_figure(
        figures.transition_figure(counts, states, flows, set(predictions["flow"][fits]), names, f"What did {names[1]} change?", surface),
        "transitions",
        f"Fixed: correct where {whom} was wrong. Broken: the reverse. Shares are of a row.",
        table, hint="Click a tile for its images.", on_select=lambda: copy_click("transitions"), selection_mode="points",
    )  # fmt: skip
with classes:
    chosen = {(name, flow) for name in true}
    components.show_figure(
        figures.class_transitions_figure(by_class, chosen, f"Which classes gain from {names[1]}?", surface), "class_transitions",
        f"Largest net gain over {'the mean of both baselines' if len(before) > 1 else whom} on top; intervals: bootstrap of the images.",
        by_class, hint="Click a bar for its images.", on_select=lambda: copy_click("class_transitions"), selection_mode="points",
    )  # fmt: skip

shown = selection.select_images(predictions[fits], model, true, sort="most confident first")
of_class = f", true class {', '.join(true)}" if true else ""
said = words.get(flow, flow)
titles = {"rescued": f"Fixed by {changed}: {whom} wrong", "broken": f"Broken by {changed}: {whom} correct"}
title = titles.get(flow, said[0].upper() + said[1:])


def list_images() -> str:
    """The images shown as CSV: a row an image and model compared."""
    tables = []
    for one in (*before, after):
        of_run, _, own = one.rpartition("/")
        table = filters.tidy_table(of_run or run.name, predictions, Filter(model=one), shown, tagged)
        tables.append(table.assign(model=theme.label(own), change=predictions.loc[shown, "flow"].map(words)))
    return pd.concat(tables).to_csv(index=False)


with st.container(horizontal=True, vertical_alignment="center"):
    count = f"**{len(shown):,}** of {len(predictions):,} test images ({len(shown) / len(predictions):.2%})"
    st.markdown(f"**{said}**{of_class}: {count}", width="stretch")
    tagged = components.tagged_images()  # not within the download, which no visit's session is part of
    components.tag_store()
    name = filters.spell_file(f"{run.name}_{said}_{'-'.join(true)}")
    st.download_button("CSV of these images", list_images, f"{name}.csv", "text/csv", on_click="ignore")
    share = f"{len(shown):,} of {len(predictions):,} test images; the surest are shown, each with {theme.label(model)}'s prediction."
    components.share_images("rescued", title + of_class, share, predictions.loc[shown], model)
certain = {"rescued": flows[2], "broken": flows[1]}.get(flow, flow) if len(before) == 1 else flow
way = {"model": model, "outcome": "everything", "true": true, "sort": "most confident first"}
told = certain in flows and "/" not in reference  # the filter of Errors can say it too
if told:
    bits = np.unravel_index(flows.index(certain), (2,) * (len(before) + 1))
    way |= {f"says_{one}": ("correct", "wrong")[bit] for one, bit in zip((*before, after), bits, strict=True)}
before_lightbox = st.container()  # what comes and goes within it does not move the lightbox, which would be mounted anew
components.image_detail(run, predictions, [*components.available_models(run), *(one for one in before if "/" in one)], **way)
components.paged_gallery(predictions, shown, model, components.images_a_page())
if told:  # the page is part of the way back
    with before_lightbox:
        address.link("errors", "The same images, with every filter", **way)
