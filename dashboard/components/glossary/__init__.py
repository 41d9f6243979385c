"""Explains the words of dashboard/glossary.py under the pointer, wherever a page has them."""

from dataclasses import asdict
from pathlib import Path

import streamlit as st

from dashboard.glossary import WORDS

ASSETS = {kind: (Path(__file__).parent / f"glossary.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
PLACE = '<div class="glossary-tip" role="tooltip"></div>'


def explain_words() -> None:
    """To call once a page."""
    glossary = st.components.v2.component("glossary", html=PLACE, isolate_styles=False, **ASSETS)
    with st.sidebar:
        glossary(key="glossary", data={"words": [asdict(word) for word in WORDS]})
