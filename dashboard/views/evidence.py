"""Evidence: what each difference is worth: every way to combine two networks, every claim with its verdict, class by class."""

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from core import metrics
from core.config import BASELINES, CLASSES, UserError
from core.findings import ALPHA, SEPARATELY, describe_scope, tell_p
from dashboard import claims, components, data, figures, theme

run, _ = st.session_state["current"]
predictions = data.load_predictions(run)
headline, findings = data.load_headline(run), data.load_findings(run)

st.title("Evidence")
components.show_headline(headline)
if not run.has_baselines:
    st.stop()
if findings:
    st.caption(describe_scope(run, findings))


def style_p(table: pd.DataFrame) -> Styler:
    """The table with its smallest p as "< 0.001", sorted as numbers all the same."""
    return table.style.format({"p_holm": tell_p}, na_rep="–")


def show_ways(ways: pd.DataFrame) -> None:
    """Each way's accuracy against the better network alone, and what it costs."""
    st.subheader("Every way to combine the two networks")
    alone = ways.set_index("name").loc[list(BASELINES)]
    on_validation, on_test = alone["val_accuracy"].idxmax(), alone["accuracy"].idxmax()
    baseline = theme.label(on_validation)
    caption = (
        f"Against {baseline} alone, the better network on validation. "
        + f"On these test images {theme.label(on_test)} is the better one: look at its row too. " * (on_test != on_validation)
        + f"Diamonds: seed {run.record['seed']}, with the paired bootstrap of the test images, each interval by itself; the verdict is "
        "p (Holm). All are reported on test. "
        + f"Circles: each seed against its own training of {baseline}; a way that takes two seeds, or that only one has, shows none."
        * bool(ways["seeds"].map(bool).any())
    )
    shares = ["accuracy", "val_accuracy", "difference", "low", "high"]
    shown = ways.assign(**100 * ways[shares], seeds=[" ".join(f"{100 * one:+.2f}" for one in values) for values in ways["seeds"]])
    components.show_figure(claims.draw_ways(ways, baseline), "ways", caption, shown)
    shown = shown.assign(**ways[["parameters", "macs"]] / 1e6)
    components.show_table(
        style_p(shown),
        column_order=["label", "accuracy", "difference", "p_holm", "val_accuracy", "fitted", "networks", "parameters", "macs"],
        column_config={
            "label": "prediction of",
            "accuracy": st.column_config.NumberColumn("test (%)", format="%.2f"),
            "difference": st.column_config.NumberColumn("difference", format="%+.2f", help=f"In points, to {baseline} alone"),
            "p_holm": st.column_config.NumberColumn("p (Holm)", help="Exact McNemar, corrected by Holm over the rows"),
            "val_accuracy": st.column_config.NumberColumn("validation (%)", format="%.2f"),
            "fitted": st.column_config.TextColumn("fitted", help="What else is fitted once the networks are trained, and on which images"),
            "networks": st.column_config.NumberColumn("networks", help="Trained, and run for every image"),
            "parameters": st.column_config.NumberColumn("parameters (M)", format="%.1f"),
            "macs": st.column_config.NumberColumn("MACs (M)", format="%.0f", help="Multiply-accumulates of one image"),
        },
    )


def show_pairs(pairs: pd.DataFrame) -> None:
    """How pairs of networks err."""
    st.subheader("Do the two networks err on the same images?")
    st.caption("The less they do, the more a combination can gain. Two trainings of one network show how much is due to chance alone.")
    pairs = pairs.dropna(thresh=3)  # its two names and a number at least
    pairs[["disagreement", "double_fault", "ensemble", "oracle"]] *= 100
    components.show_table(
        pairs,
        column_order=["label", "disagreement", "double_fault", "q", "kappa", "cka", "ensemble", "oracle"],
        column_config={
            "label": "pair",
            "disagreement": st.column_config.NumberColumn("one correct (%)", format="%.2f", help="Disagreement: only one is correct"),
            "double_fault": st.column_config.NumberColumn("none correct (%)", format="%.2f", help="Double fault: both are wrong"),
            "q": st.column_config.NumberColumn(
                "Q", format="%.3f", help="Yule's Q: 1 where one is never correct without the other, 0 where independent"
            ),
            "kappa": st.column_config.NumberColumn("kappa", format="%.3f", help="Agreement beyond chance, at most 1"),
            "cka": st.column_config.NumberColumn(
                "CKA",
                format="%.2f",
                help="Likeness of features (their first 50 principal components), 0 to 1; needs evaluate.py --features",
            ),
            "ensemble": st.column_config.NumberColumn("averaged (%)", format="%.2f"),
            "oracle": st.column_config.NumberColumn("either correct (%)", format="%.2f"),
        },
    )
    st.caption("Q, disagreement, kappa, double fault: Kuncheva & Whitaker 2003. Linear CKA: Kornblith et al. 2019.")


try:
    ways, pairs = data.list_ways(run)
except UserError as error:  # a damaged optional file costs its section, not the page
    ways = pairs = None
    st.info(str(error))
if ways is not None:
    show_ways(ways)

place_of_claims = st.container()
if pairs is not None:
    show_pairs(pairs)
if not findings:
    st.stop()

st.subheader("Class by class")
others = [finding.against for finding in findings if finding.id.startswith("accuracy-")]
other = components.pick_one("Fusion minus", others, "against", theme.label)
with place_of_claims:  # drawn when all is chosen, which their links bring back
    st.subheader("What may be claimed")
    st.caption(f"{SEPARATELY} A click opens a claim's numbers and its test; a mark right of the line speaks for the claim.")
    components.show_findings_by_theme(findings, "evidence")
correct = [predictions[f"{one}_correct"].to_numpy() for one in ("fusion", other)]
classes = pd.DataFrame({"name": CLASSES, **metrics.class_differences(predictions["label"].to_numpy(), *correct)})
classes[["difference", "low", "high", "smallest"]] *= 100
left, right = st.columns([1, 1.25])
with left:
    axis = f"recall, fusion minus {theme.label(other)} (points)"
    figure = figures.difference_figure(classes, f"In which classes does fusion differ from {theme.label(other)}?", axis)
    components.show_figure(
        figure, "class_differences", "95 % intervals of single classes, paired bootstrap; the verdict over all ten is p (Holm).", classes
    )
with right:
    components.show_table(
        style_p(classes),
        column_order=["name", "difference", "low", "high", "p_holm", "smallest"],
        column_config={
            "name": "class",
            **{column: st.column_config.NumberColumn(column, format="%+.1f") for column in ("difference", "low", "high")},
            "p_holm": "p (Holm)",
            "smallest": st.column_config.NumberColumn(
                "least seen", format="%.1f", help="The least difference, in points, that this test can show if no other class's is surer"
            ),
        },
    )
    certain = classes["p_holm"] < ALPHA
    seen = {
        "better": classes["name"][certain & (classes["difference"] > 0)],
        "worse": classes["name"][certain & (classes["difference"] < 0)],
    }
    said = ", ".join(f"{word} in {', '.join(names) or 'none'}" for word, names in seen.items())
    least, most = classes["smallest"].min(), classes["smallest"].max()
    st.caption(
        f"Exact McNemar a class, Holm over the ten. Significantly {said}. A class's difference, if no other is surer, must reach "
        f"{least:.1f} to {most:.1f} points to be significant: none found is no proof of equality."
    )
