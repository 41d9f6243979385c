"""What a visitor chooses: the run, models, classes, and the filter of the Errors page; all bound to the URL."""

import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import data, selection, theme
from dashboard.data import Run


def pick_run() -> Run | None:
    """The sidebar's run picker; says what is wrong with damaged runs and tables. None where there is nothing to show."""
    names, damaged = data.check_runs(st.session_state.get("run") or st.query_params.get("run"))
    for error in (*damaged.values(), *data.check_shared()):
        st.sidebar.warning(error)
    if not names:
        return None
    name = st.sidebar.selectbox("Run", names, key="run", bind="query-params", help="One recipe and one seed")
    return data.open_run(name)


def pick_models(run: Run) -> list[str]:
    """The sidebar's choice of the models shown; none means all."""
    models = available_models(run)
    options = {"default": models, "selection_mode": "multi", "key": "models", "bind": "query-params"}
    chosen = st.sidebar.pills("Models shown", models, format_func=theme.label, **options)
    return [m for m in models if m in chosen] or models


def available_models(run: Run) -> list[str]:
    """The run's models and, where both baselines are there, their ensemble."""
    answers = data.load_answers(run)
    return [m for m in theme.SHOWN_MODELS if f"{m}_correct" in answers]


def pick_model(run: Run, key: str = "model", label: str = "Model", default: str = "fusion") -> str:
    """A choice of one model, bound to the URL."""
    models = available_models(run)
    start = default if default in models else models[-1]
    options = {"default": start, "required": True, "key": key, "bind": "query-params"}
    return st.segmented_control(label, models, wrap=True, format_func=theme.label, **options) or start  # "?model=" is None


def pick_one(label: str, options: list[str], key: str) -> str:
    """A choice bound to the URL; the first option is the default."""
    return st.segmented_control(label, options, wrap=True, default=options[0], required=True, key=key, bind="query-params") or options[0]


def pick_classes(label: str, key: str) -> list[str]:
    """Any number of classes, bound to the URL; none means all."""
    return st.multiselect(label, CLASSES, key=key, bind="query-params", placeholder="all classes")


def filter_images(run: Run, answers: pd.DataFrame) -> tuple[str, pd.Index]:
    """The filter of the Errors page, bound to the URL: the model whose answers count, and those answers' labels, in order."""
    model = pick_model(run)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        outcome = st.selectbox("Outcome", selection.available_outcomes(answers), index=1, key="outcome", bind="query-params", width=210)
        true = pick_classes("True class", "true")
        predicted = pick_classes("Predicted class", "predicted")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sort = st.selectbox("Order", selection.SORTS, key="sort", bind="query-params", width=210)
        agreement = st.selectbox("Agreement", selection.AGREEMENTS, key="agreement", bind="query-params", width=170)
        confidence = st.slider("Confidence", 0.0, 1.0, (0.0, 1.0), 0.01, key="confidence", bind="query-params", width=210)
        people, doubted = (0.0, 1.0), False
        if answers["people"].notna().any():
            text = "Share of people who chose the label"
            people = st.slider("Human agreement", 0.0, 1.0, (0.0, 1.0), 0.01, key="people", bind="query-params", width=210, help=text)
        if answers["relabelled"].any():
            text = "Fewer than three of five annotators confirm the label (Northcutt et al. 2021); marked ⚑"
            doubted = st.toggle("Doubted labels only", key="doubted", bind="query-params", help=text)
    return model, selection.select_images(answers, model, true, predicted, outcome, confidence, agreement, sort, people, doubted)
