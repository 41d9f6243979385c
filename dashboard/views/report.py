"""Report: the whole run as one HTML file that opens anywhere, also without this dashboard."""

import streamlit as st

from core.results import Run
from dashboard import data, report

run, _ = st.session_state["current"]


@st.cache_data(show_spinner="Writing the report …", max_entries=2, hash_funcs=data.BY_STAMP)
def build_report(run: Run, related: list[Run]) -> bytes:  # noqa: ARG001 (part of the cache's key)
    return report.build_report(run, data.load_images(), data.load_headline(run), data.load_findings(run)).encode()


page = build_report(run, data.related_runs(run))

st.title("Report")
st.markdown(
    "This run as one HTML file: the charts still answer the pointer, the images are inside, and nothing is fetched from anywhere. "
    "It opens without this dashboard and without a network."
)
st.download_button(f"Download the report ({len(page) / 1e6:.1f} MB)", page, f"{run.name}-report.html", "text/html", on_click="ignore")
st.subheader("What is in it" + " where a run holds all three models" * (not run.whole))
st.markdown("".join(f"1. **{title}**: {text}\n" for title, text in report.SECTIONS.items()))
st.caption("The same from the command line, for the run the dashboard opens first: `python scripts/report.py --html report.html`.")
