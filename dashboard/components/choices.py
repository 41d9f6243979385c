"""What a visitor chooses: the run, models, classes; all bound to the URL."""

from collections.abc import Callable

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
    if (asked := st.query_params.get("run")) and asked not in (*names, *damaged):
        st.sidebar.warning("The run that the address names is not here: this is another.")
    return data.open_run(address.pick(st.sidebar.selectbox, "Run", names, key="run", default=names[0], help="One recipe and one seed"))


def pick_models(run: Run) -> list[str]:
    """The sidebar's choice of the models shown; none means all."""
    models, state = available_models(run), st.session_state
    if "models" in state and set(state["models"]) == set(state.get("all_models", models)):
        address.choose("models", models)  # all of the run before means all of this one
    state["all_models"] = models
    options = {"key": "models", "default": models, "names": theme.label, "selection_mode": "multi"}
    chosen = address.pick_several(st.sidebar.pills, "Models shown", models, **options)
    return [m for m in models if m in chosen] or models


def available_models(run: Run) -> list[str]:
    """The run's models and, where both baselines are there, their ensemble."""
    predictions = data.load_predictions(run)
    return [m for m in theme.SHOWN_MODELS if f"{m}_correct" in predictions]


def pick_model(run: Run, key: str = "model", label: str = "Model", models: list[str] | None = None) -> str:
    """A choice of one of `models`, by default those shown, bound to the URL."""
    models = models or [model for model in available_models(run) if model in st.session_state["current"][1]]
    start = selection.pick_subject(models)
    return address.pick(st.segmented_control, label, models, key=key, default=start, names=theme.label, wrap=True)


def other_models(run: Run, model: str) -> list[str]:
    """What a model can be compared with: the others shown of its run, then those of other runs, as RUN/MODEL."""
    own = [one for one in available_models(run) if one != model]
    hidden = {*available_models(run)} - {*st.session_state["current"][1]}  # a model that this run lacks cannot be
    elsewhere = data.models_elsewhere(run)
    return [one for one in own + elsewhere if one.rpartition("/")[2] not in hidden] or own + elsewhere


def pick_one(label: str, options: list[str], key: str, names: Callable[[str], str] = str) -> str:
    """A choice bound to the URL, shown by `names`; the first option is the default."""
    return address.pick(st.segmented_control, label, options, key=key, default=options[0], names=names, wrap=True)


def pick_classes(label: str, key: str) -> list[str]:
    """Any number of classes, bound to the URL; none means all."""
    return address.pick_several(st.multiselect, label, CLASSES, key=key, placeholder="all classes")
