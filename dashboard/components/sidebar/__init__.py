"""The sidebar on a telephone: it closes when another page opens, as Streamlit's own navigation does and its links do not."""

from pathlib import Path

import streamlit as st

JS = (Path(__file__).parent / "sidebar.js").read_text(encoding="utf-8")


def close_sidebar(page: str) -> None:
    """Close it in the browser where `page` is another than before and the window is narrow."""
    with st.sidebar:
        st.components.v2.component("sidebar", js=JS)(key="sidebar", data={"page": page})
