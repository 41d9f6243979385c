"""Weak slices: images alike in one or two things on which a model is wrong more often than elsewhere; a click shows them."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from core import slices
from core.config import CLASSES, UserError
from core.results import Run
from dashboard import address, data, selection, theme, traits
from dashboard.components.charts import show_table
from dashboard.filters import Filter

SHOWN = 6  # slices a model


@st.cache_data(show_spinner="Searching the slices …", max_entries=24, hash_funcs=data.BY_STAMP)
def search_slices(run: Run, model: str, attributes: tuple[str, ...]) -> pd.DataFrame:
    """core.slices.find_slices of a model over the test images."""
    bins = {name: traits.load_trait(run, model, name) for name in attributes}
    return slices.find_slices(bins, ~data.load_predictions(run)[f"{model}_correct"].to_numpy())


def filter_slice(model: str, parts: tuple[str, ...]) -> Filter:
    """The errors of a model on a slice, as a filter; a class is the filter's own."""
    true = tuple(CLASSES[int(part.split(":")[1])] for part in parts if part.startswith("class:"))
    return Filter(model=model, true=true, slice=tuple(part for part in parts if not part.startswith("class:")))


def show_weak_slices(run: Run, models: list[str], show: Callable[[Filter], None]) -> None:
    """The slices with the surest high error, a table a model; `show` gets the filter of the one clicked."""
    predictions = data.load_predictions(run)
    known, missing = ["class", *slices.PIXELS], []
    if predictions["people"].notna().any():
        known.append("people")
    try:
        traits.cluster_images(run)
        known.append("cluster")
    except UserError as error:
        missing.append(str(error))
    address.follow("search_by", known)
    chosen = address.pick_several(st.pills, "Search by one or two of", known, key="search_by", default=known, selection_mode="multi")
    chosen = [name for name in known if name in chosen] or known
    for model in models:
        found = search_slices(run, model, tuple(chosen))
        rate = 1 - predictions[f"{model}_correct"].mean()
        top = found[found["low"] > rate].head(SHOWN)
        st.markdown(f"**{theme.label(model)}**, wrong on {rate:.2%} of all images")
        if top.empty:
            st.caption(f"None of {len(found):,} slices is shown to be worse than that.")
            continue
        table = pd.DataFrame(
            {
                "images alike in": [", ".join(traits.name_slice(run, part) for part in parts) for parts in top["slice"]],
                "images": top["images"],
                "wrong": top["error_rate"],
                "at least": top["low"],
                "at most": top["high"],
            }
        )
        key = f"slices_{model}"

        def follow(key: str = key, model: str = model, top: pd.DataFrame = top) -> None:
            if cells := st.session_state[key].selection.cells:
                show(filter_slice(model, top["slice"].iloc[cells[0][0]]))

        percent = {name: st.column_config.NumberColumn(format="percent") for name in ("wrong", "at least", "at most")}
        show_table(table, column_config=percent, key=key, on_select=follow, selection_mode="single-cell")
        st.caption(f"The {len(top)} surest of {len(found):,} slices looked at, of 50 images or more each. Click one to see its errors.")
    st.caption(
        "The bounds hold for all slices of a model together with 95 % (Clopper and Pearson's exact interval, level divided by the "
        "number of slices looked at), so one found by chance seldom stands here. The size of the object is not measured: the images carry "
        "no outline of it."
        + f" Clusters: {theme.label(selection.pick_subject(run.models))}'s features in {slices.CLUSTERS} groups, by k-means."
        * ("cluster" in chosen)
        + "".join(f" {text}" for text in missing)
    )
