"""Evidence: what each difference is worth: pairs and their tests, classes, seeds, and every claim with its verdict."""

import numpy as np
import pandas as pd
import streamlit as st

from core import metrics
from core.config import CLASSES
from dashboard import components, data, figures, theme

run, _ = st.session_state["current"]
answers = data.load_answers(run)
headline, findings = data.load_findings(run)
pairs = [finding for finding in findings if finding.id.startswith("accuracy-")]

st.title("Evidence")
st.markdown(f"#### {headline.sentence}")
st.markdown(headline.numbers)
if not pairs:
    st.stop()

others = [pair.against for pair in pairs]
table = pd.DataFrame(
    {
        "name": [theme.label(other) for other in others],
        "difference": [100 * pair.numbers["difference"] for pair in pairs],
        "low": [100 * pair.interval[0] for pair in pairs],
        "high": [100 * pair.interval[1] for pair in pairs],
        "only fusion right": [pair.numbers["only_fusion"] for pair in pairs],
        "only the other right": [pair.numbers[f"only_{other}"] for other, pair in zip(others, pairs, strict=True)],
        "p (Holm)": [pair.p for pair in pairs],
        "verdict": [pair.verdict for pair in pairs],
    }
)
left, right = st.columns([1, 1.25])
axis = "accuracy, fusion minus the other (points)"
with left:
    components.show_figure(
        figures.difference_figure(table, "How far is fusion from each of the others?", axis),
        "differences",
        "95 % intervals, paired bootstrap of the test images. One that leaves zero out is a difference.",
        table,
    )
with right:
    st.markdown("**Is fusion right more often?**")
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "name": "fusion against",
            **{column: st.column_config.NumberColumn(column, format="%+.2f") for column in ("difference", "low", "high")},
            "p (Holm)": st.column_config.NumberColumn("p (Holm)", format="%.3g"),
        },
    )
    st.caption("Exact McNemar test on the images that only one of the two gets right, corrected by Holm over the three pairs.")

st.subheader("Class by class")
other = components.pick_one("Fusion minus", others, "against")
correct = [answers[f"{one}_correct"].to_numpy() for one in ("fusion", other)]
classes = pd.DataFrame({"name": CLASSES, **metrics.class_differences(answers["label"].to_numpy(), *correct)})
classes[["difference", "low", "high"]] *= 100
left, right = st.columns([1, 1.25])
with left:
    axis = f"recall, fusion minus {theme.label(other)} (points)"
    figure = figures.difference_figure(classes, "In which classes does fusion differ?", axis)
    components.show_figure(figure, "class_differences", "95 % intervals, paired bootstrap within each class.", classes)
with right:
    st.dataframe(
        classes,
        hide_index=True,
        column_config={
            "name": "class",
            **{column: st.column_config.NumberColumn(column, format="%+.1f") for column in ("difference", "low", "high")},
            **{column: st.column_config.NumberColumn(title, format="%.3g") for column, title in (("p", "p"), ("p_holm", "p (Holm)"))},
        },
    )
    better = np.array(CLASSES)[(classes["p_holm"] < 0.05) & (classes["difference"] > 0)]
    st.caption(f"Exact McNemar a class, Holm over the ten. Significantly better in {', '.join(better) or 'none'}.")

st.subheader("What may be claimed")
components.show_findings(findings)
