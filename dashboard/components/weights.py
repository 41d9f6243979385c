"""What needs a run's weights, or what was computed with them."""

import pandas as pd
import streamlit as st

from core.config import CLASSES, UserError
from core.results import rebuild_command
from dashboard import data, figures, selection, theme
from dashboard.components.charts import show_figure
from dashboard.components.choices import pick_one
from dashboard.data import Run


def require_weights(run: Run) -> None:
    """Stop the page with a word on what to do where the run does not ship its models' weights."""
    if not run.has_weights:
        shipping = [f"`{name}`" for name in data.check_runs()[0] if data.open_run(name).has_weights]
        st.info(
            "This page needs the models' weights, and this run does not ship them. "
            + (f"Choose one that does in the sidebar ({', '.join(shipping)}), or write" if shipping else "Write")
            + f" them from the run's checkpoints: `{rebuild_command(run.path)}`."
        )
        st.stop()


def show_branches(run: Run, answers: pd.DataFrame, index: int | None) -> None:
    """What each branch of the fusion carries over the whole test set, and without it for one image; the command where not computed."""
    try:
        branches = data.load_branches(run)
    except UserError as error:
        st.info(str(error))
        return
    by = pick_one("Over the whole test set, by", ["class", "outcome"], "carried")
    table = selection.share_branches(answers, branches["contribution"], by)
    show_figure(
        figures.branch_shares_figure(table, "Which branch carries the fusion's answers?"),
        "branch_shares",
        "Mean logits a branch adds for the predicted class, from the mean features on. Rescued, broken: against both baselines.",
        table,
    )
    kept = {branch: float((logits.argmax(axis=1) == answers["label"]).mean()) for branch, logits in branches["ablated"].items()}
    text = ", ".join(f"without {theme.label(branch)} {share:.2%}" for branch, share in kept.items())
    here = (
        ""
        if index is None
        else "; this image: " + ", ".join(f"without {theme.label(b)} {CLASSES[v[index].argmax()]}" for b, v in branches["ablated"].items())
    )
    st.caption(f"Accuracy with a branch's features replaced by their mean: {text}{here}.")
