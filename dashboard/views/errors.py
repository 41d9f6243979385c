"""Errors: the images behind the numbers, filtered, sorted, one click from every detail."""

import streamlit as st

from dashboard import components, data, theme

run, _ = st.session_state["current"]
answers = data.load_answers(run)

st.title("Errors")
model = components.pick_model(run)
with st.container(horizontal=True, vertical_alignment="bottom"):
    outcome = st.selectbox("Outcome", data.available_outcomes(answers), index=1, key="outcome", bind="query-params", width=210)
    true = components.pick_classes("True class", "true")
    predicted = components.pick_classes("Predicted class", "predicted")
with st.container(horizontal=True, vertical_alignment="bottom"):
    sort = st.selectbox("Order", data.SORTS, key="sort", bind="query-params", width=210)
    agreement = st.selectbox("Agreement", data.AGREEMENTS, key="agreement", bind="query-params", width=170)
    confidence = st.slider("Confidence", 0.0, 1.0, (0.0, 1.0), 0.01, key="confidence", bind="query-params", width=280)

rows = data.select_images(answers, model, true, predicted, outcome, confidence, agreement, sort)
with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(
        f"**{len(rows):,}** of {len(answers):,} test images ({len(rows) / len(answers):.2%}), answers of **{theme.label(model)}**",
        width="stretch",
    )
    st.download_button("CSV of this selection", lambda: rows.to_csv(index=False), "errors.csv", "text/csv", on_click="ignore")

gallery, detail = st.columns([3, 1.25])
with gallery:
    components.image_gallery(components.page_through(rows), model, "gallery")
with detail:
    components.image_detail(run, answers)
