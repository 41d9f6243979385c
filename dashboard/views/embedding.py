"""Embedding: which test images lie close to each other in a model's features; a drawn selection or a click shows the images."""

import streamlit as st

from core.config import CLASSES, UserError
from dashboard import address, components, data, figures, selection, theme

TOOLS = {"lasso": "lasso", "box": "select", "click": "pan"}  # Streamlit reports clicks while panning only

run, _ = st.session_state["current"]
predictions = data.load_predictions(run)

st.title("Embedding")
with st.container(horizontal=True, vertical_alignment="bottom"):
    model = components.pick_model(run, models=run.models)
    colour_by = components.pick_one("Colour by", ["true class", "predicted class", "correct or wrong"], "colour")
    mouse = components.pick_one("Mouse", list(TOOLS), "mouse")


def copy_selection() -> None:
    """Write drawn-around images to the URL, a single one to the `image` parameter; the selection is lost when the figure changes."""
    drawn = st.session_state["map"].selection
    chosen = selection.drawn_images(drawn.points)
    if drawn.box or drawn.lasso:
        address.choose("chosen", selection.pack_images(chosen, len(predictions)))
    if len(chosen) == 1:
        st.session_state["image"] = chosen[0]


def clear_selection() -> None:
    address.choose("chosen", None)


chosen = []
if (text := address.keep_text("chosen")) is not None:
    try:
        chosen = selection.unpack_images(text, len(predictions))
    except UserError as error:
        st.warning(str(error))

picture, images = st.columns([1.6, 1])
with images, st.container():  # what comes and goes within it does not move the lightbox, which would be mounted anew
    if len(chosen):
        rows = predictions.iloc[chosen].sort_values(f"{model}_loss", ascending=False, kind="stable")
        wrong = int((~rows[f"{model}_correct"]).sum())
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**{len(rows):,}** image{'s' * (len(rows) != 1)} chosen ({len(rows) / len(predictions):.2%}), {wrong:,} wrong: "
                + ", ".join(f"{n:,} {CLASSES[label]}" for label, n in rows["label"].value_counts().items()),
                width="stretch",
            )
            st.download_button("CSV", lambda: rows.to_csv(index=False), "chosen.csv", "text/csv", on_click="ignore", type="tertiary")
            st.button("Clear", on_click=clear_selection, type="tertiary")
        with st.container(height=330, border=False):
            components.image_gallery(rows.head(200), model, "gallery")
        st.caption("Highest loss first." + (" The first 200 are shown." if len(rows) > 200 else ""))
    else:
        st.info("Draw around marks on the map to see their images. They stay chosen on the other models' maps.")
with images:
    components.image_detail(run, predictions)
with picture, components.section():
    points = data.load_embedding(run, model)
    title = f"Which images are alike to {theme.label(model)}?"
    components.show_figure(
        figures.embedding_figure(points, title, colour_by, chosen, st.session_state["image"], components.surface()).update_layout(
            dragmode=TOOLS[mouse]
        ),
        "map", "t-SNE of the features before the classifier: only nearness has meaning. Circles: correct, crosses: wrong.",
        points, hint="A click in the legend hides a class, two show it alone.",
        on_select=copy_selection, selection_mode=("points", "box", "lasso"), config={"modeBarButtonsToRemove": ["autoScale2d"]},
    )  # fmt: skip
