"""Errors by class: the images behind the numbers, filtered, grouped, beside another model's, one click from every detail.

Everything below the title is one fragment: a choice reruns it alone, not the sidebar and not the page.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from core.config import UserError
from dashboard import address, components, data, filters, theme, traits
from dashboard.filters import Filter

SHOWN = ("images", "weak slices", "curves of a class", "confidence threshold")

run, models = st.session_state["current"]
predictions = data.load_predictions(run)


def follow_click(chosen: Filter, kind: str, true: str, predicted: str) -> None:
    """A cell, or a class's misses or false positives, becomes the filter."""
    if kind == "cell":
        components.change_filter(replace(chosen, true=(true,), predicted=(predicted,)), chosen)
    else:
        field = {"misses": "true", "false positives": "predicted"}[kind]
        components.change_filter(replace(chosen, outcome="model wrong", **{"true": (), "predicted": (), field: (true,)}), chosen)


def show_matrix(main: Filter, chosen: Filter, conditions: dict[str, np.ndarray]) -> None:
    """The matrix of what is filtered by anything but the classes; precision and recall whatever the outcome."""
    marked = [(true, predicted) for true in chosen.true for predicted in chosen.predicted]
    labels, predicted = predictions["label"].to_numpy(), predictions[f"{chosen.model}_predicted"].to_numpy()
    shown = filters.all_but(conditions, len(predictions), "true", "predicted")
    measured = filters.all_but(conditions, len(predictions), "true", "predicted", "outcome")
    components.small_matrix(chosen.model, labels, predicted, shown, measured, marked, lambda *what: follow_click(main, *what))


def show_gallery(chosen: Filter, rows: pd.Index, grouped: bool, size: int, page_key: str = "page") -> None:
    headings = None
    if grouped:
        rows, headings = filters.group_by_predicted(predictions, rows, chosen.model, size)
    components.paged_gallery(predictions, rows, chosen.model, size, f"gallery_{page_key}", headings, page_key)


def go_to_images(wanted: Filter) -> None:
    components.change_filter(wanted)
    address.choose("show", SHOWN[0])


def show_images(chosen: Filter, conditions: dict[str, np.ndarray]) -> None:
    others = [model for model in models if model != chosen.model]
    sides = [(chosen, conditions)]
    with st.container(horizontal=True, vertical_alignment="center"):
        total = st.empty()
        grouped = address.switch("Group by prediction", key="grouped")
        st.selectbox(
            "Beside", ["", *others], format_func=lambda name: theme.label(name) if name else "none beside it", key="beside",
            label_visibility="collapsed", width=165,
        )  # fmt: skip
        beside = chosen.beside if chosen.beside in others else ""
        if beside:
            other = replace(chosen, model=beside)
            tagged = {index: one["tags"] for index, one in components.tagged_images().items()}
            try:
                kept = other.conditions(predictions, traits.find_traits(run, beside), tagged)
                other.arrange(predictions, filters.all_but(kept, len(predictions)), traits.find_traits(run, beside))
                sides.append((other, kept))
            except UserError as error:  # what is filtered by is not known of this model
                st.info(str(error))
                beside = ""
        rows = [
            one.arrange(predictions, filters.all_but(kept, len(predictions)), traits.find_traits(run, one.model)) for one, kept in sides
        ]

        tagged = components.tagged_images()  # not within the download, which no visit's session is part of

        def tables() -> list[pd.DataFrame]:
            return [filters.tidy_table(run.name, predictions, one, own, tagged) for (one, _), own in zip(sides, rows, strict=True)]

        st.download_button(
            "CSV of this selection",
            lambda: pd.concat(tables()).to_csv(index=False),
            f"{run.name}_{chosen.file_name}.csv", "text/csv", on_click="ignore",
        )  # fmt: skip
        components.share_images(
            "selection",
            components.name_selection(run, chosen),
            f"{len(rows[0]):,} test image{'s' * (len(rows[0]) != 1)}.",
            predictions.loc[rows[0]],
            chosen.model,
        )
    total.markdown(f"**{len(rows[0]):,}** of {len(predictions):,} test images ({len(rows[0]) / len(predictions):.2%})", width="stretch")
    size = components.images_a_page()
    if beside:
        for column, (one, kept), own in zip(st.columns(2), sides, rows, strict=True):
            with column:
                show_matrix(chosen, one, kept)
                show_gallery(one, own, grouped, size, "page" if one is chosen else "page_beside")
    else:
        gallery, matrix = st.columns([1.3, 1])
        with gallery:
            show_gallery(chosen, rows[0], grouped, size)
        with matrix:
            show_matrix(chosen, chosen, conditions)
            st.caption("A cell shows its images, a recall the misses of its class, a precision what is wrongly called so.")


@st.fragment
def show_errors() -> None:
    chosen, conditions = components.filter_images(run, predictions)
    show = address.pick(st.segmented_control, "Show", SHOWN, key="show", default=SHOWN[0], label_visibility="collapsed", wrap=True)
    if show == "weak slices":
        components.show_weak_slices(run, models, go_to_images)
    elif show == "curves of a class":
        components.show_class_curves(run, models, chosen)
    elif show == "confidence threshold":
        components.show_threshold(run, models, go_to_images)
    else:
        show_images(chosen, conditions)
    address.write()


title, number = st.columns([5, 1], vertical_alignment="bottom")
title.title("Errors")
with number:
    components.image_detail(run, predictions, models)
show_errors()
