"""Present: the slides of a run, to choose from and to show in class; all keys are handled in the browser."""

import streamlit as st

from core.results import Run
from dashboard import components, data, deck, report, theme
from dashboard.figures.look import load_template

run, _ = st.session_state["current"]
surface = components.surface()


@st.cache_data(show_spinner="Making the slides …", max_entries=4, hash_funcs=data.BY_STAMP)
def make_slides(run: Run, related: list[Run], dark: bool) -> list[dict]:  # noqa: ARG001 (part of the cache's key)
    return [slide.to_json(surface) for slide in deck.make_slides(run, surface)]


st.title("Present")
st.markdown(
    "Tick what belongs to your deck, order it with ↑ ↓, and start with the button or a click on a slide. Charts and images that you add "
    "to the deck on other pages stay in this browser; the address keeps the rest."
)
slides = make_slides(run, data.related_runs(run), surface is theme.DARK)
components.show_deck(run.name, report.QUESTION, slides, load_template(surface), surface)
