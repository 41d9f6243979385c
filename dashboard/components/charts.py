"""A chart with its caption and its downloads, and the findings in words."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import address, claim_table, claims, diagram, theme
from dashboard.components.share import share_chart
from dashboard.data import Finding, Headline


def surface() -> theme.Surface:
    """Colours of the theme the visitor has switched on."""
    return theme.DARK if st.context.theme.type == "dark" else theme.LIGHT


def color_links() -> None:
    """Streamlit shows links to pages, and buttons without a frame, as plain text: give them the theme's colour of links."""
    color = st.get_option(f"theme.{st.context.theme.type or 'light'}.linkColor")
    st.html(
        f"<style>[data-testid=stMain] :is([data-testid=stPageLink-NavLink], [data-testid=stBaseButton-tertiary]) p {{ color: {color} }} "
        "[data-testid=stMain] [data-testid=stPageLink-NavLink] p { text-decoration: underline; text-underline-offset: 3px }</style>"
    )


def show_figure(figure: go.Figure, key: str, caption: str, table: pd.DataFrame | None = None, hint: str = "", **options: Any) -> Any:
    """A chart with its caption; below it PNG, SVG, CSV of `table`, and the way into the deck. Returns the chart's selection.

    The `hint`, what a click does here, stands on the page alone and not under the pictures.
    """
    unused = ["toImage", "select2d", "lasso2d", "autoScale2d", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d"]
    config = {"displaylogo": False, "modeBarButtonsToRemove": unused}
    title = figure.layout.title.text.replace("<br>", " ")
    event = st.plotly_chart(figure, key=key, config=config | options.pop("config", {}), alt=f"{title} {caption}", **options)
    st.caption(f"{caption} {hint}")
    with st.container(horizontal=True, wrap=False, vertical_alignment="center"):
        share_chart(key, title, caption)
        if table is not None:
            offer_csv(table, key)
    return event


def show_table(table: pd.DataFrame, **options: Any) -> Any:
    """A table whole: every row in sight, a dash where there is no number. Returns its selection."""
    return st.dataframe(table, **{"hide_index": True, "height": "content", "placeholder": "–"} | options)


def offer_csv(table: pd.DataFrame, key: str) -> None:
    """A button that downloads `table` as {key}.csv."""
    st.download_button(
        "CSV", lambda: table.to_csv(index=False), f"{key}.csv", "text/csv", key=f"{key}_csv", type="tertiary", on_click="ignore"
    )


def show_headline(headline: Headline) -> None:
    """The answer, and the leads it rests on."""
    st.markdown(f"#### {headline.sentence}")
    if headline.table:
        st.html(diagram.leads_html(headline.table))
        st.caption(headline.note)


def show_findings(findings: list[Finding]) -> None:
    """Claims as a compact table, a line each, its numbers and test on a click."""
    st.html(claim_table.claims_html(findings))


def show_findings_by_theme(findings: list[Finding], page: str) -> None:
    """The same, a table a theme, each with the way to the page that shows it, unless that is this `page`."""
    for title, kinds in claims.THEMES.items():
        if mine := [finding for finding in findings if finding.kind in kinds]:
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
                st.markdown(f"**{title}**", width="content")
                for view in dict.fromkeys(claims.KINDS[finding.kind].page for finding in mine):
                    if view != page:
                        address.link(view, claims.PAGES[view])
            show_findings(mine)
