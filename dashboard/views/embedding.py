"""Embedding: which test images lie close to each other in a model's features; a drawn selection or a click shows the images."""

import streamlit as st

from core.config import CLASSES, UserError
from dashboard import components, data, figures, theme

run, _ = st.session_state["current"]
answers = data.load_answers(run)

st.title("Embedding")
with st.container(horizontal=True, vertical_alignment="bottom"):
    model = st.segmented_control("Model", run.models, default=run.models[-1], required=True, key="model", bind="query-params")
    colour_by = components.pick_one("Colour by", ["true class", "predicted class", "right or wrong"], "colour")


def copy_selection() -> None:
    """Write drawn-around images to the URL, a clicked one to the `image` parameter; the selection is lost when the figure changes."""
    selection = st.session_state["map"].selection
    chosen = [point["customdata"] for point in selection.points]
    if selection.box or selection.lasso:
        st.query_params["chosen"] = data.pack_images(chosen, len(answers))
    elif chosen:
        st.session_state["image"] = chosen[0]


def clear_selection() -> None:
    del st.query_params["chosen"]


chosen = []
if "chosen" in st.query_params:
    try:
        chosen = data.unpack_images(st.query_params["chosen"], len(answers))
    except UserError as error:
        st.warning(str(error))

image = st.session_state.get("image")
picture, images = st.columns([1.6, 1])
with picture:
    points = data.load_embedding(run, model).join(answers[["label"]])
    points[["predicted", "confidence", "correct"]] = answers[[f"{model}_{name}" for name in ("predicted", "confidence", "correct")]]
    figure = figures.embedding_figure(
        points, f"Which images are alike to {theme.label(model)}?", colour_by, chosen, image, components.surface()
    )
    components.show_figure(
        figure, "map", "t-SNE of the features before the classifier; only nearness has meaning. Circles: right, crosses: wrong. "
        "Draw around points, or click one; a click in the legend hides, two clicks single out.",
        points, on_select=copy_selection, selection_mode=("points", "box", "lasso"), config={"modeBarButtonsToRemove": ["autoScale2d"]},
    )  # fmt: skip
with images:
    if len(chosen):
        rows = answers.iloc[chosen].sort_values(f"{model}_loss", ascending=False, kind="stable")
        wrong = int((~rows[f"{model}_correct"]).sum())
        classes = rows["label"].value_counts()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{len(rows):,}** images chosen ({len(rows) / len(answers):.2%}), {wrong:,} wrong: "
                + ", ".join(f"{n:,} {CLASSES[label]}" for label, n in classes.items()),
                width="stretch",
            )
            st.download_button("CSV", lambda: rows.to_csv(index=False), "chosen.csv", "text/csv", on_click="ignore", type="tertiary")
            st.button("Clear", on_click=clear_selection, type="tertiary")
        with st.container(height=330, border=False):
            components.image_gallery(rows.head(200), model, "gallery")
        st.caption("Highest loss first." + (" The first 200 are shown." if len(rows) > 200 else ""))
    else:
        st.info("Draw around points of the map to see their images; they stay chosen when you change the model.")
    components.image_detail(run, answers)
