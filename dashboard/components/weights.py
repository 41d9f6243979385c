"""What needs a run's weights, or what was computed with them."""

from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np
import pandas as pd
import streamlit as st

from core.config import BACKBONES, CLASSES, FUSION, MODELS, UserError
from core.explain import METHODS
from core.results import load_attributions, rebuild_command
from dashboard import address, data, diagram, figures, selection, theme
from dashboard.components.charts import show_figure
from dashboard.components.choices import pick_one
from dashboard.data import Run

NOT_INSTALLED = "This computes with PyTorch and Captum, which are not installed here: pip install -r requirements.txt"


def can_compute(run: Run) -> bool:
    """Are both here: the run's weights, and the libraries that dashboard/requirements.txt leaves out?"""
    return run.has_weights and bool(find_spec("torch") and find_spec("captum"))


def require_weights(run: Run) -> None:
    """Stop the page with a word on what to do where the models cannot be put to work."""
    if not run.has_weights:
        shipping = [f"`{name}`" for name in data.check_runs()[0] if data.open_run(name).has_weights]
        ways = [f"choose one that does in the sidebar ({', '.join(shipping)})"] if shipping else []
        if not run.imported:
            ways.append(f"write them from the run's checkpoints: `{rebuild_command(run.path)}`")
        said = ", or ".join(ways)
        st.info(f"This page needs the models' weights, and this run does not ship them. {said[:1].upper()}{said[1:]}{'.' * bool(said)}")
        st.stop()
    if not can_compute(run):
        st.info(NOT_INSTALLED)
        st.stop()


def show_stored_maps(run: Run, predictions: pd.DataFrame) -> None:
    """What was explained before with scripts/explain.py, image by image, for where nothing can be computed."""
    explained = [model for model in run.models if (run.path / model / "attributions.npz").exists()]
    if not explained:
        return
    model = explained[0]
    if len(explained) > 1:
        start = selection.pick_subject(explained)
        model = address.pick(st.selectbox, "Computed before, of", explained, key="of", default=start, names=theme.label, width=240)
    stored = load_attributions(run, model)
    images = stored.index.tolist()
    label = f"Image, of {len(images):,} explained before"
    asked = st.query_params.get("image", "")
    index = address.pick(st.selectbox, label, images, key="image", default=images[0], width=240)
    if asked.isdecimal() and int(asked) not in images:
        st.info(f"Test image {asked} was not explained before; this is another.")
    position, pixels = int(np.searchsorted(stored.index, index)), data.load_images().decode(index)
    original = pixels, f"test image {index}: {CLASSES[predictions['label'].iloc[index]]}"
    st.html(diagram.maps_html([original, *diagram.stored_maps(stored, position, pixels)]))
    against = f" − {CLASSES[stored.contrast[position]]}" if stored.contrast[position] >= 0 else ""
    what = f"What speaks for {CLASSES[stored.target[position]]}{against} to {theme.label(model)}."
    st.caption(f"{what} {diagram.say_colours(stored.maps)} Each map has a scale of its own.")
    if "grad_cam" in stored.maps:
        say_places(run, [model])
    say_blank_maps(run, model)
    if FUSION.name in run.models:
        show_branches(run, predictions, index)


def say_places(run: Run, models: Iterable[str]) -> None:
    """How coarse Grad-CAM is: the places a side of the last blocks at the run's image size."""
    size = run.recipe.image_size
    places = sorted({BACKBONES[one].count_places(size) for model in models for one in MODELS[model].backbones})
    said = " or ".join(f"{n}×{n}" for n in places)
    st.caption(f"At {size} pixels the last block has {said} places, enlarged to 32×32 here: such a map can be nearly uniform.")


def say_blank_maps(run: Run, model: str, method: str = "grad_cam") -> None:
    """How often a method's maps of a model show nothing, counted on those that ship."""
    try:
        counts = data.count_blank_maps(run, model, method)
    except UserError as error:
        st.info(str(error))
        return
    said = [
        f"{blank:,} of {n:,}" + f" of its {theme.label(part)} branch" * (len(counts) > 1) for part, (blank, n) in counts.items() if blank
    ]
    if said:
        st.caption(f"Blank among {theme.label(model)}'s {METHODS[method].label} maps that ship with this run: {', '.join(said)}.")


def show_branches(run: Run, predictions: pd.DataFrame, index: int | None) -> None:
    """What each branch of the fusion carries over the whole test set, and without it for one image. Raises UserError."""
    branches = data.load_branches(run)
    by = pick_one("Over the whole test set, by", ["class", *["outcome"] * run.has_baselines], "carried")
    table = selection.share_branches(predictions, branches["contribution"], by)
    show_figure(
        figures.branch_shares_figure(table, "Which branch carries the fusion's predictions?"),
        "branch_shares",
        "Mean logits a branch adds for the predicted class, from the mean features on."
        + " Fixed: both baselines wrong, fusion correct; broken: the reverse." * (by == "outcome"),
        table,
    )
    kept = {branch: float((logits.argmax(axis=1) == predictions["label"]).mean()) for branch, logits in branches["ablated"].items()}
    text = ", ".join(f"without {theme.label(branch)} {share:.2%}" for branch, share in kept.items())
    here = (
        ""
        if index is None
        else "; this image: " + ", ".join(f"without {theme.label(b)} {CLASSES[v[index].argmax()]}" for b, v in branches["ablated"].items())
    )
    st.caption(f"Accuracy with a branch's features replaced by their mean: {text}{here}.")
