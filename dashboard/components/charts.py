"""A chart with its caption and its downloads, and the findings in words."""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import address, claims, theme
from dashboard.data import Finding


def surface() -> theme.Surface:
    """Colours of the theme the visitor has switched on."""
    return theme.DARK if st.context.theme.type == "dark" else theme.LIGHT


def show_figure(figure: go.Figure, key: str, caption: str, table: pd.DataFrame | None = None, **options):
    """A chart with its caption; PNG from its toolbar, CSV of `table` from the button. Returns the chart's selection."""
    config = {
        "displaylogo": False,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d"],
        "toImageButtonOptions": {"format": "png", "scale": 2, "filename": key},
    }
    event = st.plotly_chart(figure, key=key, config=config | options.pop("config", {}), alt=caption, **options)
    with st.container(horizontal=True, wrap=False, vertical_alignment="center"):
        st.caption(caption, width="stretch")
        if table is not None:
            offer_csv(table, key)
    return event


def offer_csv(table: pd.DataFrame, key: str) -> None:
    """A button that downloads `table` as {key}.csv."""
    st.download_button(
        "CSV", lambda: table.to_csv(index=False), f"{key}.csv", "text/csv", key=f"{key}_csv", type="tertiary", on_click="ignore"
    )


def show_findings(findings: list[Finding]) -> None:
    """Statements, each with its verdict, its test and the way to the page that shows it."""
    for finding in findings:
        mark, _, color = theme.VERDICTS[finding.verdict]
        with st.container(border=True):
            st.badge(f"{mark} {finding.verdict}", color=color)
            st.markdown(finding.text)
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f"{finding.test}; n = {finding.n:,}" if finding.test else "", width="stretch")
                address.link(claims.KINDS[finding.kind].page, "See it")
