"""Calibration: is a model correct as often as it is confident, and does it know which of its predictions to doubt?"""

import pandas as pd
import streamlit as st

from core import metrics
from core.findings import CLAIMS
from dashboard import components, data, figures, glossary, theme

run, models = st.session_state["current"]
findings = data.load_findings(run, [claim.id for claim in CLAIMS if claim.kind == "calibration"])
predictions, table = data.load_predictions(run), data.load_calibration(run)

st.title("Calibration")
with st.container(horizontal=True, vertical_alignment="bottom"):
    scaled = components.pick_one("Confidence", ["as trained", "with fitted temperature"], "confidence_of") != "as trained"
    equal_mass = components.pick_one("Bins", ["equal mass", "equal width"], "bins") == "equal mass"

confident = {}
for model in models:
    temperature = table.loc[model, "temperature"] if scaled else 1.0
    probabilities = metrics.softmax(data.load_logits(run, model) / temperature)
    confident[model] = probabilities.max(axis=1), predictions[f"{model}_correct"].to_numpy()
diagrams = {model: metrics.reliability(*pair, equal_mass=equal_mass) for model, pair in confident.items()}
curves = {model: metrics.risk_coverage(*pair) for model, pair in confident.items()}

smoothed = not run.imported and run.recipe.label_smoothing > 0 and not scaled
how = ", with a fitted temperature" if scaled else ""
smoothing = " Label smoothing makes models underconfident on purpose." if smoothed else ""
left, right = st.columns(2)
with left:
    components.show_figure(
        figures.reliability_figure(diagrams, f"Are the models as often correct as they are confident{how}?"),
        "reliability",
        "Above the line: underconfident. Below: overconfident." + smoothing,
        pd.concat([pd.DataFrame(diagram).assign(model=model) for model, diagram in diagrams.items()]),
    )
with right:
    components.show_figure(
        figures.risk_figure(curves, f"How often does a model err on what it is sure of{how}?"),
        "risk_coverage",
        "Images in order of confidence, the surest first. The area under a curve is its AURC: low is good."
        + (" In the table it is of the confidence as trained." if scaled else ""),
        pd.concat([pd.DataFrame({"model": m, "coverage": c[::-100], "risk": r[::-100]}) for m, (c, r) in curves.items()]),
    )
components.show_table(
    table.loc[models].assign(model=[theme.label(model) for model in models]),
    column_order=["model", *table.columns],
    column_config={
        name: st.column_config.NumberColumn(
            format="%.4f" if name.startswith(theme.FINE) else "%.2f",
            help=glossary.explain(name.removesuffix(" with temperature")),
        )
        for name in table.columns
    },
)  # fmt: skip
st.caption(
    "Calibration error in points: |share correct − mean confidence| of each of 15 bins of equally many images, averaged over the images; "
    "the choice of bins changes the diagram alone. Temperature is fitted on validation and applied to test; a temperature below 1 means "
    "that the model was underconfident. NLL in nats; Brier from 0 (best) to 2."
)
components.show_findings(findings)
