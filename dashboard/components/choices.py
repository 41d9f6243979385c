"""What a visitor chooses: the run, models, classes, and the filter of the Errors page; all bound to the URL."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import address, data, selection, theme
from dashboard.data import Run


def pick_run() -> Run | None:
    """The sidebar's run picker; says what is wrong with damaged runs and tables. None where there is nothing to show."""
    names, damaged = data.check_runs(st.session_state.get("run") or st.query_params.get("run"))
    for error in (*damaged.values(), *data.check_shared()):
        st.sidebar.warning(error)
    if not names:
        return None
    return data.open_run(address.pick(st.sidebar.selectbox, "Run", names, key="run", default=names[0], help="One recipe and one seed"))


def pick_models(run: Run) -> list[str]:
    """The sidebar's choice of the models shown; none means all."""
    models = available_models(run)
    options = {"key": "models", "default": models, "names": theme.label, "selection_mode": "multi"}
    chosen = address.pick_several(st.sidebar.pills, "Models shown", models, **options)
    return [m for m in models if m in chosen] or models


def available_models(run: Run) -> list[str]:
    """The run's models and, where both baselines are there, their ensemble."""
    answers = data.load_answers(run)
    return [m for m in theme.SHOWN_MODELS if f"{m}_correct" in answers]


def pick_model(run: Run, key: str = "model", label: str = "Model", default: str = "fusion") -> str:
    """A choice of one model, bound to the URL."""
    models = available_models(run)
    start = default if default in models else models[-1]
    return address.pick(st.segmented_control, label, models, key=key, default=start, names=theme.label, wrap=True)


def pick_one(label: str, options: list[str], key: str, names: Callable[[str], str] = str) -> str:
    """A choice bound to the URL, shown by `names`; the first option is the default."""
    return address.pick(st.segmented_control, label, options, key=key, default=options[0], names=names, wrap=True)


def pick_classes(label: str, key: str) -> list[str]:
    """Any number of classes, bound to the URL; none means all."""
    return address.pick_several(st.multiselect, label, CLASSES, key=key, placeholder="all classes")


def filter_images(run: Run, answers: pd.DataFrame) -> tuple[str, pd.Index]:
    """The filter of the Errors page, bound to the URL: the model whose answers count, and those answers' labels, in order."""
    model = pick_model(run)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        outcomes = selection.available_outcomes(answers)
        outcome = address.pick(st.selectbox, "Outcome", outcomes, key="outcome", default=outcomes[1], width=210)
        true = pick_classes("True class", "true")
        predicted = pick_classes("Predicted class", "predicted")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sort = address.pick(st.selectbox, "Order", selection.SORTS, key="sort", default=next(iter(selection.SORTS)), width=210)
        agreement = address.pick(st.selectbox, "Agreement", selection.AGREEMENTS, key="agreement", default="any", width=170)
        confidence = address.slide("Confidence", 0.0, 1.0, (0.0, 1.0), 0.01, key="confidence", width=210)
        people, doubted = (0.0, 1.0), False
        if answers["people"].notna().any():
            text = "Share of people who chose the label"
            people = address.slide("Human agreement", 0.0, 1.0, (0.0, 1.0), 0.01, key="people", width=210, help=text)
        if answers["relabelled"].any():
            text = "Fewer than three of five annotators confirm the label (Northcutt et al. 2021); marked ⚑"
            doubted = address.switch("Doubted labels only", key="doubted", help=text)
    return model, selection.select_images(answers, model, true, predicted, outcome, confidence, agreement, sort, people, doubted)
