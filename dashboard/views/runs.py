"""All runs: what each was, how accurate its models are, and how far that is from the run chosen in the sidebar."""

from urllib.parse import quote

import pandas as pd
import streamlit as st

from core import results
from core.config import BASELINES, ENSEMBLE, UserError
from core.results import Run
from dashboard import address, components, data, theme

run, models = st.session_state["current"]
KEY = f"runs_table_{run.name}"  # of another run no row is ticked
COMPARED = (*BASELINES, ENSEMBLE, "fusion")
MODELS = (*(model for model in theme.SHOWN_MODELS if model not in COMPARED), *COMPARED)  # controls, where any run has one, come first


@st.cache_data(show_spinner=False, max_entries=1000, hash_funcs=data.BY_STAMP)
def describe_run(run: Run) -> dict:
    """A row of the table but for its differences. Raises UserError."""
    accuracy = data.load_summary(run).set_index("model")["accuracy"]
    recipe = run.recipe
    return {
        "run": run.name, "recipe": recipe.name, "size": recipe.image_size, "epochs": recipe.epochs, "seed": run.record["seed"],
        "branch loss": recipe.branch_loss, **{model: 100 * accuracy.get(model, float("nan")) for model in MODELS},
        "images": results.split_size(run, "test"),
    }  # fmt: skip


def open_row() -> None:
    """The run of the row that was clicked becomes the one shown on all pages."""
    if rows := st.session_state[KEY].selection.rows:
        address.choose("run", table["run"].iloc[rows[0]])


st.title("All runs")
names, rows, progress = data.check_runs(run.name)[0], [], st.empty()
for position, name in enumerate(names):
    progress.progress((position + 1) / len(names), f"Reading {name}")
    try:
        rows.append(describe_run(data.open_run(name)))
    except UserError as error:
        st.warning(str(error))
progress.empty()
table = pd.DataFrame(rows)
own = table[table["run"] == run.name].iloc[0]
held = [model for model in MODELS[::-1] if pd.notna(own[model])]
compared = address.pick(st.segmented_control, "Differences of", held, key="of", default=held[0], names=theme.label, wrap=True)
table["difference"] = (table[compared] - own[compared]).where(table.pop("images") == own["images"])
table = table.drop(columns=[model for model in MODELS if model not in COMPARED and table[model].isna().all()])
percent = {model: st.column_config.NumberColumn(theme.label(model), format="%.2f %%", help="test accuracy") for model in MODELS}
components.show_table(
    table.assign(run=[f"./?run={quote(name)}" for name in table["run"]]),
    height="auto",
    key=KEY,
    column_order=["run", *(model for model in MODELS if model in table), "difference", "branch loss", "size", "seed", "recipe"],
    on_select=open_row,
    selection_mode="single-row",
    column_config=percent
    | {
        "run": st.column_config.LinkColumn("run", display_text="run=(.*)$", help="opens in a new tab; a click left of it chooses it here"),
        "size": st.column_config.NumberColumn("size", format="%d px", help="side of the enlarged images"),
        "branch loss": st.column_config.NumberColumn("branch loss", format="%g", help="weight of the branches' losses; 0: plain fusion"),
        "difference": st.column_config.NumberColumn(
            "difference", format="%+.2f", help=f"{theme.label(compared)}: points above {run.name}, on the same test images"
        ),
    },
)
seeds = table.loc[table["run"].isin([one.name for one in data.sibling_runs(run)]), compared].dropna()
span = f" {theme.label(compared)} spans {seeds.max() - seeds.min():.2f} points over its {len(seeds)} seeds." * (len(seeds) > 1)
st.caption(f"Differences are to {run.name}, in points.{span} Click the left of a row to choose its run for all pages.")
with st.container(horizontal=True, vertical_alignment="center"):
    components.offer_csv(table, "runs")
    address.link("training", "Training curves of the chosen run's seeds", seeds="true")
    for other in [one for one in data.models_elsewhere(run) if one.endswith(f"/{compared}")][:1]:
        shown = {} if compared in models else {"models": [*models, compared]}
        address.link("rescued", "Two runs image by image", after=compared, reference=other, **shown)
