"""Overview: the question, the answer with its certainty, and what was compared."""

import numpy as np
import streamlit as st

from core.config import BACKBONES, CLASSES
from dashboard import components, data, diagram, figures, theme

MAIN = ("comparable", "fusion-ensemble", "classes", "probe", "branches", "robustness")  # the headline says the first

run, models = st.session_state["current"]

st.title("Does fusing two CNN backbones beat either alone?")
answers = data.load_answers(run)
summary = data.load_summary(run)
summary["name"] = summary["model"].map(theme.label)
shown = summary[summary["model"].isin([*models, "oracle"])]
best_baseline = summary[summary["model"].isin(BACKBONES)]["accuracy"].max()

note = run.record.get("note", "")
headline, findings = data.load_findings(run)

st.markdown(f"#### {headline}")

for column, row in zip(st.columns(len(shown)), shown.itertuples(), strict=True):
    with column:
        st.metric(
            theme.label(row.model),
            f"{row.accuracy:.2%}",
            border=True,
            delta=None if row.model in BACKBONES or np.isnan(best_baseline) else f"{100 * (row.accuracy - best_baseline):+.2f} points",
            delta_color="off",
            height="stretch",
            help=f"95 % interval {row.low:.2%} to {row.high:.2%}, {len(answers):,} test images",
        )

st.caption("Share of the 10,000 test images answered right; points above the better baseline.")
left, right = st.columns([1, 1.25])
with left:
    components.show_figure(
        figures.accuracy_figure(shown),
        "accuracy",
        "Wilson intervals. Ensemble: mean of the baselines' probabilities, no training. Oracle: either baseline right.",
        shown,
    )
with right:
    st.markdown("**What does each model cost?**")
    st.dataframe(
        shown[shown["parameters"].notna()].assign(accuracy=lambda rows: 100 * rows["accuracy"])[
            ["name", "accuracy", "parameters", "macs", "latency_ms", "training_minutes"]
        ],
        hide_index=True,
        column_config={
            "name": "model",
            "accuracy": st.column_config.NumberColumn("test accuracy", format="%.2f %%"),
            "parameters": st.column_config.NumberColumn("parameters", format="compact"),
            "macs": st.column_config.NumberColumn("MACs", format="compact", help="multiply-accumulates of one image's forward pass"),
            "latency_ms": st.column_config.NumberColumn("latency", format="%.1f ms", help="of one image, on the machine that evaluated"),
            "training_minutes": st.column_config.NumberColumn("minutes", format="%.0f", help="to train, validation included"),
        },
    )
    st.caption(f"The ensemble runs both baselines, so it costs their sum and no training of its own. {note}")
    with st.container(horizontal=True):
        st.page_link("views/training.py", label="How they learned")
        st.page_link("views/confusion.py", label="What they confuse")
        st.page_link("views/errors.py", label="Where they fail")

st.subheader("How the fusion is built")
st.html(diagram.architecture_html(run))

st.subheader("What may be claimed")
components.show_findings([finding for finding in findings if finding.id in MAIN])
if findings:
    st.page_link("views/evidence.py", label=f"All {len(findings)} claims, each with its test")

st.subheader("What they look at")
sample = answers.groupby("label").sample(12, random_state=0).sort_values("label")
st.html(diagram.sample_html(sample["index"].tolist(), CLASSES))
st.caption(
    "CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32×32 pixels in ten classes; 45,000 to train, 5,000 to choose, 10,000 to test."
)

recipe = run.recipe
weights = {name: start["name"] for name, start in run.record["start_weights"].items()}
with st.expander("How this run was made"):
    st.markdown(
        f"- **Recipe** `{recipe.name}`: {recipe.image_size}×{recipe.image_size} px, {recipe.frozen_epochs} epoch(s) on frozen backbones, "
        f"then {recipe.finetune_epochs} fine-tuning everything; AdamW, batch {recipe.batch_size}, "
        f"learning rates {recipe.lr_head:g} (head) and {recipe.lr_backbone:g} (backbones), cosine schedule, "
        f"label smoothing {recipe.label_smoothing}, {run.record['precision']}\n"
        + "".join(f"- **{theme.label(name)} starts from** {text}\n" for name, text in weights.items())
        + f"- **Seed** {run.record['seed']}; **device** {run.record['device']}; **code** `{run.record['code_commit'][:12]}`; "
        + ", ".join(f"{name} {version}" for name, version in run.record["libraries"].items() if name in ("torch", "torchvision"))
        + (f"\n- **Note** {note}" if note else "")
    )
