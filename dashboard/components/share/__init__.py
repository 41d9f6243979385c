"""What visitors take along: a chart as a picture, a chart or images as slides of their own deck. All of it happens in the browser."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from core.config import CLASSES
from dashboard import selection, thumbnails

KEEP_JS = (Path(__file__).parent / "keep.js").read_text(encoding="utf-8")
INSIST_JS = (Path(__file__).parent / "insist.js").read_text(encoding="utf-8")
ASSETS = {kind: (Path(__file__).parent / f"share.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
IMAGES = 21  # on a slide


def _show(key: str, **settings: Any) -> None:
    run, _ = st.session_state["current"]
    share = st.components.v2.component("share", **ASSETS | {"js": KEEP_JS + ASSETS["js"]})
    share(key=f"{key}_share", data={"run": run.name, **settings}, width="content")


def share_chart(key: str, title: str, caption: str) -> None:
    """Buttons that download the chart `key` as PNG and SVG, with its title, caption and run, or add it to the deck."""
    run, _ = st.session_state["current"]
    words = re.sub(r"[^\w]+", "-", title.lower()).strip("-")
    _show(key, chart=key, title=title, caption=caption, file=f"{run.name}-{words}")


def share_images(key: str, title: str, caption: str, rows: pd.DataFrame, model: str) -> None:
    """A button that adds the first of these predictions of `model` to the deck."""
    caption += f" The first {IMAGES} are shown." if len(rows) > IMAGES else ""
    images = [
        {
            "uri": thumbnails.image_uri(row["index"]),
            "alt": selection.describe_prediction(row, model),
            "text": f"{CLASSES[row['label']]} → {CLASSES[row[f'{model}_predicted']]}",
        }
        for _, row in rows.head(IMAGES).iterrows()
    ]
    _show(key, images=images, title=title, caption=caption)
