"""The slides as a custom component: an overview to choose from, the show, and the file that opens without this dashboard."""

from pathlib import Path

import streamlit as st

from dashboard import address, theme
from dashboard.components.share import KEEP_JS

ASSETS = {kind: (Path(__file__).parent / f"deck.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")}
ASSETS["js"] = KEEP_JS + ASSETS["js"]
FILE_COLORS = (  # the page's own come from Streamlit; the file keeps those of the page that it was saved from
    ":root {{ --st-background-color: {0.background}; --st-text-color: {0.text}; --st-secondary-background-color: {0.faint}; "
    "--st-primary-color: {1}; --st-font: system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; }} "
    "body {{ margin: 0; background: {0.background}; }}"
)


def show_deck(run_name: str, title: str, slides: list[dict], template: dict, surface: theme.Surface) -> None:
    """`slides`: Slide.to_json of each, in the colours of `surface`; `template`: of their charts. Home.py serves plotly.min.js."""
    for key in ("step", "slides"):
        address.leave_to_browser(key)
    deck = st.components.v2.component("deck", html='<div class="deck"></div>', isolate_styles=False, **ASSETS)
    deck(
        key="deck",
        data={
            "slides": slides,
            "template": template,
            "foot": run_name,
            "title": f"{title} {run_name}",
            "file": f"{run_name}-deck.html",
            "plotly": "plotly.min.js",
            "colors": FILE_COLORS.format(surface, theme.STYLES["fusion"].color),
            "source": ASSETS,
        },
    )
