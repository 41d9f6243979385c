"""What every page does in the browser: on a telephone the sidebar closes when another page opens; a switched theme is told the server."""

from pathlib import Path

import streamlit as st

JS = (Path(__file__).parent / "sidebar.js").read_text(encoding="utf-8")


def follow_browser(page: str) -> None:
    """Close the sidebar where `page` is another than before and the window is narrow; draw the page anew where the theme is another."""
    with st.sidebar:
        told = {"page": page, "scheme": st.context.theme.type}
        st.components.v2.component("sidebar", js=JS)(key="sidebar", data=told, on_scheme_change=lambda: None)
