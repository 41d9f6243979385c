"""Overview: the question, the answer with its certainty, and what was compared."""

import streamlit as st

from core.config import BASELINES
from core.findings import CLAIMS, UNTESTED, describe_scope
from dashboard import address, components, data, diagram, selection, theme

run, models = st.session_state["current"]

st.title("Does fusing two CNN backbones beat either alone?")
predictions = data.load_predictions(run)
summary = data.load_summary(run)
shown = summary[summary["model"].isin([*models, "oracle"])]
baselines = summary[summary["model"].isin(BASELINES)]
better = baselines.loc[baselines["accuracy"].idxmax()] if len(baselines) else None  # the harder one to beat on these images

note = run.record.get("note", "")
headline = st.container()  # filled when the claims are tested; the browser draws the rest meanwhile

for column, row in zip(st.columns(len(shown)), shown.itertuples(), strict=True):
    with column:
        st.metric(
            theme.label(row.model),
            f"{row.accuracy:.2%}",
            border=True,
            delta=None if row.model in BASELINES or better is None else f"{100 * (row.accuracy - better['accuracy']):+.2f} points",
            delta_color="off",
            height="stretch",
            help=f"95 % interval {row.low:.2%} to {row.high:.2%}, {len(predictions):,} test images",
        )

has = set(shown["model"]).__contains__
against = better is not None and not set(shown["model"]) <= {*BASELINES}
above = f"; points above {theme.label(better['model'])}, the baseline that is higher on them" if against else ""
st.caption(f"Share of the {len(predictions):,} test images predicted correctly, in the training with seed {run.record['seed']}{above}.")
st.subheader("How often is each model correct, and what does it cost?")
means, seeds = data.load_means(run)
st.html(diagram.costs_html(shown, means if seeds > 1 and run.whole else None, seeds))
st.caption(
    "Wilson intervals: those of two models may overlap even where a paired test on the same images tells the two apart."
    + " Ensemble: mean of the baselines' probabilities; it costs their sum, and no training beyond theirs." * has("ensemble")
    + " Oracle: either network correct." * has("oracle")
    + f" MACs: multiply-accumulates of one image. {note}"
)
with st.container(horizontal=True, vertical_alignment="center"):
    address.link("training", "How they learned")
    address.link("confusion", "What they confuse")
    address.link("errors", "Where they fail")
    components.offer_csv(shown, "accuracy")

st.subheader("How the fusion is built")
st.html(diagram.architecture_html(run))

text, findings = data.load_headline(run), data.load_findings(run, data.OVERVIEW)
with headline:
    components.show_headline(text)
if findings:
    st.subheader("What may be claimed")
    st.caption(describe_scope(run, findings))
    components.show_findings([one for one in findings if one.kind != "seeds" or one.verdict != UNTESTED])
    address.link("evidence", f"All {len(CLAIMS)} claims, each with its test")

st.subheader("The images")
st.html(diagram.sample_html(selection.sample_classes(predictions, 12)))
st.caption(
    "CIFAR-10 (Krizhevsky 2009): 60,000 colour images of 32×32 pixels in ten classes: 45,000 for training, 5,000 for validation, "
    "10,000 for the test."
)

recipe = run.recipe
trained = (
    f"- **Recipe** `{recipe.name}`: {recipe.size_in_words}, {recipe.frozen_epochs} + {recipe.finetune_epochs} epochs, on frozen backbones, "
    f"then fine-tuning {recipe.tuned_in_words}; AdamW, batch {recipe.batch_size}, "
    f"learning rates {recipe.rates_in_words}, cosine schedule, "
    f"label smoothing {recipe.label_smoothing}, {run.precision}\n"
)
imported = f"- **Trained elsewhere**, at {recipe.size_in_words}: how is not known here\n"
with st.expander("How this run was made"):
    st.markdown(
        (imported if run.imported else trained)
        + "".join(f"- **{theme.label(name)} starts from** {text}\n" for name, text in run.starts.items())
        + f"- **Seed** {run.record['seed']}; **device** {run.device}; **code** {run.code}; "
        + ", ".join(f"{name} {version}" for name, version in run.record["libraries"].items() if name in ("torch", "torchvision"))
    )
