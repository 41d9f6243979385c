"""One image and what every model makes of it."""

import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import data, figures, selection, theme, thumbnails
from dashboard.components.charts import show_figure, surface
from dashboard.components.gallery import image_gallery
from dashboard.data import Run


def image_detail(run: Run, answers: pd.DataFrame) -> None:
    """The image of the `image` parameter, large, with every model's answer, its neighbours and where to go on."""
    with st.container(border=True):
        index = st.number_input(
            "Image", 0, len(answers) - 1, value=None, key="image", bind="query-params", placeholder="click one, or type 0–9999"
        )
        if index is None:
            st.caption("Choose an image to see what every model makes of it.")
            return
        row = answers.iloc[index]
        st.html(
            f'<img src="{thumbnails.image_uri(index)}" alt="{selection.describe_answer(row, run.models[-1])}" '
            'style="width:100%;max-width:256px;image-rendering:pixelated;border-radius:6px">'
        )
        st.markdown(f"True class: **{CLASSES[row['label']]}**")
        if row["relabelled"]:
            st.badge("⚑ label doubted by people", color="orange")
        if votes := data.rank_votes(index):
            st.caption("People say " + ", ".join(f"{name} {share:.0%}" for name, share in votes[:3]))
        logits = {model: data.load_logits(run, model)[index] for model in run.models}
        show_figure(
            figures.top_classes_figure(logits, int(row["label"]), surface()),
            f"top_{index}",
            "The three classes each model finds most likely; the true one is marked ✓.",
        )
        st.page_link("views/attributions.py", label="Why? See its attributions", query_params={"image": str(index)})
        neighbours = data.nearest_images(run, run.models[-1], index)
        st.caption(f"Nearest on {theme.label(run.models[-1])}'s embedding map")
        image_gallery(answers.iloc[neighbours], run.models[-1], "neighbours")
