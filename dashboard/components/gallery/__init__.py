"""A gallery of thumbnails: a small custom component, and the pages it is read in. A click opens the lightbox."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import address, selection, thumbnails

ASSETS = {kind: (Path(__file__).parent / f"gallery.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
SIZES = (50, 100, 200)  # images a page
COLUMNS = 20  # of the sheet of pictures, not of the page


def image_gallery(
    rows: pd.DataFrame,
    model: str,
    key: str,
    place: tuple[int, int, int, int] | None = None,
    headings: dict[int, str] | None = None,
    turn: Callable[[], None] = lambda: None,
) -> None:
    """Thumbnails of predictions; a click, or Enter, opens the lightbox (components.image_detail), which steps through them.

    `place`: page, pages, images a page, and images in all; by default these rows are all. `headings`: index -> text above that image.
    `turn` is called when the lightbox leaves the page, with the page it goes to as `turned`.
    """
    if rows.empty:
        st.info("No image fits these choices. Widen them: clear a class, or allow another outcome.")
        return
    page, pages, size, total = place or (1, 1, len(rows), len(rows))
    columns = ("index", "label", f"{model}_predicted", f"{model}_confidence", "relabelled", "duplicated")
    items = []
    for index, label, predicted, confidence, doubted, twin in zip(*(rows[name].tolist() for name in columns), strict=True):
        items.append(
            {
                "index": index,
                "alt": selection.say_prediction(label, predicted, confidence),
                "caption": [CLASSES[label], f"→ {CLASSES[predicted]}", f"{confidence:.2f}" + " ⚑" * doubted + " ≈" * twin],
                "heading": (headings or {}).get(index),
            }
        )
    gallery = st.components.v2.component("image_gallery", html="<div class='grid'></div>", **ASSETS)
    gallery(
        key=key,
        data={
            **{"key": key, "items": items, "page": page, "pages": pages, "first": (page - 1) * size, "total": total, "columns": COLUMNS},
            "sheet": thumbnails.make_sprite(tuple(item["index"] for item in items), COLUMNS),
        },
        on_turned_change=turn,
    )


def images_a_page() -> int:
    """How many images a page of a gallery holds: to call once, before the first one is drawn."""
    return address.keep("per_page", SIZES[1], lambda texts: int(texts[-1]), lambda size: [str(size)], SIZES.__contains__)


def paged_gallery(
    predictions: pd.DataFrame,
    chosen: pd.Index,
    model: str,
    size: int,
    key: str = "gallery",
    headings: dict[int, str] | None = None,
    page_key: str = "page",
) -> None:
    """A gallery of the `chosen` predictions, a page of `size` of them, with the choice of page (`page_key` in the URL) and of its size.

    Other images than before begin with the first page, unless a link says otherwise.
    """
    shown = hash((model, *chosen))
    pages = max(1, -(-len(chosen) // size))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if page_key == "page":  # a second gallery follows the first
            st.selectbox("Images a page", SIZES, key="per_page", width=130)
        if st.session_state.setdefault(f"{page_key}_of", shown) != shown:
            address.choose(page_key, 1)
        st.session_state[f"{page_key}_of"] = shown
        if st.session_state.get(page_key, 1) > pages:
            address.choose(page_key, pages)
        page = address.pick_number(f"Page of {pages}", 1, pages, key=page_key, default=1, width=130)

    def turn() -> None:
        address.choose(page_key, min(max(int(st.session_state[key].turned), 1), pages))

    image_gallery(predictions.loc[chosen[(page - 1) * size : page * size]], model, key, (page, pages, size, len(chosen)), headings, turn)
