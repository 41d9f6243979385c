"""The visitor's own tags and notes on images: a small custom component keeps them in the browser, nothing is written here."""

from pathlib import Path

import streamlit as st

ASSETS = {kind: (Path(__file__).parent / f"tags.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
KEY = "tag_store"


def tag_store() -> None:
    """Export and import of the tags, and the script that tells this page of them."""
    store = st.components.v2.component("tag_store", **ASSETS)
    known = {str(index): one for index, one in tagged_images().items()}
    store(key=KEY, data={"known": known}, default={"tagged": {}}, on_tagged_change=lambda: None, width="content")


def tagged_images() -> dict[int, dict]:
    """Index -> {"tags": [...], "note": "..."} of the images this visitor tagged; what a browser says wrongly is left out."""
    told = st.session_state.get(KEY, {})
    tagged = told.get("tagged") if hasattr(told, "get") else None
    found = {}
    for index, one in (tagged or {}).items():
        tags, note = (one.get("tags"), one.get("note")) if isinstance(one, dict) else (None, None)
        if str(index).isdecimal() and isinstance(tags, list) and isinstance(note, str):
            found[int(index)] = {"tags": [str(tag)[:40] for tag in tags[:20]], "note": note[:500]}
    return found
