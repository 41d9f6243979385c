"""Robustness: how accuracy falls when the test images are corrupted, kind by kind and step by step."""

import streamlit as st

from core.config import BASELINES, CLASSES
from core.findings import CLAIMS
from core.robustness import CORRUPTIONS, by_corruption, by_severity, describe_corruptions
from dashboard import address, components, data, diagram, figures, theme

run, models = st.session_state["current"]
findings = data.load_findings(run, [claim.id for claim in CLAIMS if claim.kind == "robustness"])

st.title("Robustness")
with components.section():
    table = data.load_robustness(run)
    shown = table[table["model"].isin(models)]
    labels = {"all eight": None} | {kind.label: name for name, kind in CORRUPTIONS.items()}
    chosen = components.pick_one("Corruption", list(labels), "corruption")
    kinds = [labels[chosen]] if labels[chosen] else list(CORRUPTIONS)

    left, right = st.columns(2)
    with left:
        curve = by_severity(shown[shown["corruption"].isin(["none", *kinds])])
        components.show_figure(
            figures.robustness_figure(curve, "How does accuracy fall with severity?"),
            "robustness",
            f"{'Mean of all eight' if chosen == 'all eight' else chosen}; severity 0 is the clean image.",
            curve,
        )
    with right:
        by_kind = by_corruption(shown)
        components.show_figure(figures.corruptions_figure(by_kind), "corruptions", "Mean over the five severities.", by_kind)
    errors, missing = data.load_corruption_errors(run), [one for one in models if one not in set(table["model"])]
    if compared := BASELINES[0] in set(errors["model"]):
        errors.loc[errors["model"] == BASELINES[0], ["low", "high"]] = float("nan")  # it is what the others are compared with
    components.show_table(
        errors[errors["model"].isin(models)].set_index("model").mul(100).rename(theme.label).reset_index(),
        column_config={
            "clean": st.column_config.NumberColumn("clean accuracy", format="%.2f %%"),
            "corrupted": st.column_config.NumberColumn("corrupted accuracy", format="%.2f %%"),
            "mce": st.column_config.NumberColumn(
                "corruption error", format="%.2f %%", help=f"mean over the corruptions, relative to {theme.label(BASELINES[0])}'s"
            ),
            "low": st.column_config.NumberColumn("95 % from", format="%.2f %%"),
            "high": st.column_config.NumberColumn("to", format="%.2f %%"),
        },
    )
    st.caption(
        f"On {table['images'].iloc[0]:,} test images, equally many a class. "
        + (f"Not measured for {', '.join(map(theme.label, missing))}. " if missing else "")
        + f"Corruption error (Hendrycks & Dietterich 2019): a model's errors over all severities divided by {theme.label(BASELINES[0])}'s, "
        f"averaged over the kinds{'' if compared else ': not measured here, as that is missing'}."
    )
components.show_findings(findings)

with st.expander("How these corruptions compare with CIFAR-10-C's"):
    words = {
        **{"label": "here", "cifar10c": "in CIFAR-10-C", "strengths": "strength in severity 1 to 5"},
        **{"means": "which is", "differs": "difference"},
    }
    st.table(describe_corruptions().rename(columns=words).set_index("here"))  # wraps, where a dataframe would scroll
    st.caption(
        "Seven of the eight have their counterpart and its strengths in CIFAR-10-C (Hendrycks & Dietterich 2019), which has twelve more. "
        "A corruption error of CIFAR-10-C's fifteen main kinds does not compare with this one."
    )

st.subheader("What the corruptions look like")
images = data.load_images()
index = address.pick_number("Image", 0, len(images.png) - 1, key="image", default=0, width=180)
st.caption(f"Test image {index} ({CLASSES[images.labels[index]]}): clean, then in severities 1 to 5.")
st.html(diagram.corruptions_html(images.decode(index), index))
