"""One image, large, in a dialog: what every model makes of it, what people say, where the models look, which images are alike."""

from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import streamlit as st

from core import metrics, results
from core.config import CLASSES, UserError
from core.images import pixels_uri
from dashboard import address, data, diagram, filters, inference, selection, theme, thumbnails, traits
from dashboard.components.choices import available_models
from dashboard.components.share import INSIST_JS, KEEP_JS
from dashboard.components.weights import can_compute
from dashboard.data import Run

ASSETS = {kind: (Path(__file__).parent / f"lightbox.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}


@st.fragment
def image_detail(run: Run, predictions: pd.DataFrame, models: list[str] | None = None, /, **way: str | list[str]) -> None:
    """A box that asks for the number of an image; where one is asked for (`image` in the URL), the lightbox shows it.

    The browser asks for an image and its neighbours, then, once the visitor stays, for where the models look. The box is the
    browser's too: one of Streamlit's would go on telling the number of an image that is closed. `models` are all of the run unless
    named; the link to the image's attributions tells of its page `way`, in the words of Errors, which images it stands among.
    """
    asked = st.session_state.setdefault("lightbox_asked", {"number": 0, "ahead": [], "look": False})

    def ask() -> None:
        told, before = st.session_state["lightbox"].asked, st.session_state["lightbox_asked"].get("index")
        st.session_state["lightbox_asked"] = told
        if told.get("again") and told["index"] is None and st.session_state["image"] not in (before, told["was"]):
            return  # its closing was not heard the first time, and another image was chosen since
        st.session_state["image"] = told["index"]

    last = len(predictions) - 1
    index = address.keep("image", None, lambda texts: int(texts[-1]), lambda i: [str(i)], lambda i: i is None or 0 <= i <= last)
    st.session_state["image"] = index  # other pages have a widget of this name: what such a key holds is forgotten if not written anew
    address.leave_to_browser("image")
    wanted = [i for i in (index, *asked["ahead"]) if i is not None and 0 <= i <= last]  # asked of a run with more images, perhaps
    details = [describe_image(run, predictions, int(i), models or available_models(run), way) for i in wanted]
    with st.container():  # an element that changes its place is hidden for a moment
        if index is not None:
            address.link("attributions", "Why? See its attributions", along=filters.KEYS, image=index, **way)
    if index is not None and asked["look"]:
        details[0]["looks"] = find_looks(run, index)
    lightbox = st.components.v2.component("lightbox", **ASSETS | {"js": KEEP_JS + INSIST_JS + ASSETS["js"]})
    # The time it was asked at goes back with the answer: the browser hears of no answer that equals the last one.
    lightbox(
        key="lightbox",
        data={"run": run.name, "last": last, "number": asked["number"], "time": asked.get("time"), "open": index, "details": details},
        on_asked_change=ask,
    )
    address.write()


def describe_image(run: Run, predictions: pd.DataFrame, index: int, models: list[str], way: dict) -> dict:
    """All the lightbox shows of a test image but where the models look."""
    row, subject = predictions.iloc[index], selection.pick_subject(run.models)
    people, nearest, twins = "", [], []
    try:
        twins = traits.describe_duplicates(index)
    except UserError as error:
        twins = [str(error)]
    try:
        if votes := data.rank_votes(index):
            people = "People say " + ", ".join(f"{name} {share:.0%}" for name, share in votes[:3])
    except UserError as error:
        people = str(error)
    try:
        nearest, by = traits.nearest_images(run, subject, index)
        near = f"Nearest by {theme.label(subject)}'s {by}"
    except UserError as error:
        near = str(error)
    return {
        "index": index,
        "uri": thumbnails.image_uri(index),
        "alt": f"{selection.describe_prediction(row, subject)} ({theme.label(subject)})",
        "true": CLASSES[row["label"]],
        "marks": ["⚑ label doubted by people"] * bool(row["relabelled"]) + twins,
        "people": people,
        "models": [
            {
                **{"label": theme.label(model), "color": style.color, "glyph": diagram.GLYPHS[style.marker]},
                "top": top_classes(data.load_logits(run, model)[index], int(row["label"])),
            }
            for model, style in ((model, theme.STYLES[model.rpartition("/")[2]]) for model in models)
        ],
        "nearest": {
            "title": near,
            "images": [
                {
                    **{"index": int(i), "uri": thumbnails.image_uri(i)},
                    "alt": f"{selection.describe_prediction(predictions.iloc[i], subject)} ({theme.label(subject)})",
                }
                for i in nearest
            ],
        },
        "why": "attributions?" + urlencode(address.parameters(along=filters.KEYS, image=index, **way), doseq=True),
    }


def top_classes(logits: np.ndarray, true: int, n: int = 3) -> list[dict]:
    """The `n` likeliest classes of logits (10,): name, share, and whether it is the true one."""
    probabilities = metrics.softmax(logits[None])[0]
    top = np.argsort(-probabilities)[:n]
    return [{"name": CLASSES[i], "share": round(float(probabilities[i]), 4), "correct": bool(i == true)} for i in top]


def find_looks(run: Run, index: int) -> dict:
    """Grad-CAM of each trained model for its predicted class, each on its own scale; or why there is none.

    Nothing waits here, or arrow keys would: `again` says that some are still being computed.
    """
    image = data.load_images().decode(index)
    pictures, missing = [], False
    try:
        if not can_compute(run):
            return stored_looks(run, index, image)
        for model in run.models:
            predicted = int(data.load_logits(run, model)[index].argmax())
            with suppress(inference.NotYet):
                maps = inference.Question(run, model, image, predicted).glance("attribute", method="grad_cam")
                whole = sum(one[0] for one in maps.values())  # the fusion has a map a branch
                pictures.append(draw_look(model, predicted, image, whole))
                continue
            missing = True
    except UserError as error:
        return {"why": str(error)}
    return {"pictures": pictures, "again": missing}


def stored_looks(run: Run, index: int, image: np.ndarray) -> dict:
    """find_looks from what scripts/explain.py computed before, where nothing can be computed here."""
    pictures = []
    for model in run.models:
        if (run.path / model / "attributions.npz").exists():
            stored = results.load_attributions(run, model)
            place = int(np.searchsorted(stored.index, index))
            predicted = int(data.load_logits(run, model)[index].argmax())
            found = place < len(stored.index) and stored.index[place] == index and stored.target[place] == predicted
            if found and stored.contrast[place] < 0 and "grad_cam" in stored.maps:
                whole = sum(one[place].astype(float) for one in stored.maps["grad_cam"].values())
                pictures.append(draw_look(model, predicted, image, whole))
    if not pictures:
        why = "its models' weights" if not run.has_weights else "PyTorch and Captum"
        return {"why": f"Where the models look cannot be computed here without {why}, and was not computed before for this image."}
    return {"pictures": pictures}


def draw_look(model: str, target: int, image: np.ndarray, whole: np.ndarray) -> dict:
    """One map (32, 32) over its image (32, 32, 3), on its own scale, with its words."""
    seen = diagram.overlay_map(image, whole, float(np.abs(whole).max()), 0.9)
    return {"uri": pixels_uri(seen), "text": f"{theme.label(model)}: {CLASSES[target]}"}
