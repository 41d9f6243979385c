"""A gallery of clickable thumbnails: a small custom component, and the pages it is read in."""

from pathlib import Path

import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import selection, thumbnails

ASSETS = {kind: (Path(__file__).parent / f"gallery.{kind}").read_text() for kind in ("css", "js")}


def image_gallery(rows: pd.DataFrame, model: str, key: str) -> None:
    """Clickable thumbnails of answers; a click, or Enter, writes the image's index to the `image` parameter."""
    if rows.empty:
        st.info("No image fits these choices. Widen them: clear a class, or allow another outcome.")
        return
    columns = 20
    items = [
        {
            "index": int(row["index"]),
            "alt": selection.describe_answer(row, model),
            "caption": f"{CLASSES[row['label']]} → {CLASSES[row[f'{model}_predicted']]} {row[f'{model}_confidence']:.2f}"
            + " ⚑" * bool(row["relabelled"]),
        }
        for _, row in rows.iterrows()
    ]
    gallery = st.components.v2.component("image_gallery", html="<div class='grid'></div>", **ASSETS)
    gallery(
        key=key,
        data={
            "sprite": thumbnails.make_sprite(tuple(item["index"] for item in items), columns),
            "columns": columns,
            "items": items,
            "chosen": st.session_state.get("image"),
        },
        on_chosen_change=lambda: st.session_state.update(image=int(st.session_state[key].chosen)),
    )


def page_through(answers: pd.DataFrame, chosen: pd.Index, key: str = "page") -> pd.DataFrame:
    """Of the `chosen` answers, the page in the URL, at the chosen size."""
    size = st.session_state.get("per_page", 100)
    pages = max(1, -(-len(chosen) // size))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox("Images a page", [50, 100, 200], index=1, key="per_page", bind="query-params", width=130)
        if st.session_state.get(key, 1) > pages:
            st.session_state[key] = pages
        page = st.number_input(f"Page of {pages}", 1, pages, key=key, bind="query-params", width=130)
    return answers.loc[chosen[(page - 1) * size : page * size]]
