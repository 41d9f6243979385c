"""Errors: the images behind the numbers, filtered, sorted, one click from every detail."""

import streamlit as st

from dashboard import components, data, theme

run, models = st.session_state["current"]
answers = data.load_answers(run)

with st.container(horizontal=True, vertical_alignment="bottom"):
    st.title("Errors")
    components.image_detail(run, answers, models)
model, chosen = components.filter_images(run, answers)
with st.container(horizontal=True, vertical_alignment="center"):
    st.markdown(
        f"**{len(chosen):,}** of {len(answers):,} test images ({len(chosen) / len(answers):.2%}), answers of **{theme.label(model)}**",
        width="stretch",
    )
    st.download_button(
        "CSV of this selection", lambda: answers.loc[chosen].to_csv(index=False), "errors.csv", "text/csv", on_click="ignore"
    )

components.paged_gallery(answers, chosen, model)
