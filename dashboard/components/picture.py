"""A visitor's own picture: from a file or the camera, cropped, and why it was refused."""

from html import escape

import numpy as np
import streamlit as st

from core.config import UserError
from core.images import MAX_BYTES, MAX_PIXELS, MIDDLE, Crop, Picture, decode_picture, pixels_uri

# What the browser itself refuses, for its size or kind, it says to screen readers alone: here it stands below the file's name.
CSS = """<style>
[data-testid=stFileChips] > div, .stFileChip[aria-invalid=true] { max-width: none; width: auto; height: auto; flex-wrap: wrap; }
.stFileChip [role=alert] { position: static; width: auto; height: auto; margin: 0; clip: auto; clip-path: none; white-space: normal;
  overflow: visible; flex-basis: 100%; color: var(--st-text-color); font-size: 14px; }
.mine { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-end; } .mine figure { margin: 0; flex: 0 1 190px; font-size: 14px; }
.mine img { display: block; width: 100%; border-radius: 6px; } .mine .seen { image-rendering: pixelated; }
.mine .whole { position: relative; overflow: hidden; border-radius: 6px; }
.mine .crop { position: absolute; outline: 2px solid #fff; box-shadow: 0 0 0 9999px #0008; }
</style>"""


def pick_picture() -> tuple[Picture, Crop] | None:
    """The visitor's picture and the part of it that is seen; None where there is none, or it is refused, which is said."""
    camera = st.segmented_control("Your own image", ["From a file", "From the camera"], default="From a file", required=True, key="source")
    limits = f"PNG, JPEG or WebP, at most {MAX_BYTES // 2**20} MB and {MAX_PIXELS // 10**6} megapixels"
    if camera == "From the camera":
        file = st.camera_input("Your own image", label_visibility="collapsed", key="camera")
    else:
        types = ["png", "jpg", "jpeg", "webp"]
        file = st.file_uploader(limits, types, max_upload_size=MAX_BYTES // 2**20, key="upload")
    st.html(CSS)
    if file is None:
        return None
    try:
        picture = decode_picture(file.getvalue())
    except UserError as error:
        st.error(str(error))
        return None
    with st.container(horizontal=True):
        side = st.slider("Square (%)", 10, 100, 100, key="crop_side", width=150, help="Of the picture's shorter side")
        x = st.slider("Left – right (%)", 0, 100, 50, key="crop_x", width=150)
        y = st.slider("Top – bottom (%)", 0, 100, 50, key="crop_y", width=150)
    crop = Crop(side / 100, x / 100, y / 100)
    return (picture if crop == MIDDLE else decode_picture(file.getvalue(), crop)), crop


def picture_html(picture: Picture, crop: Crop | None = None) -> str:
    """A picture as the models see it; with `crop`, before it as it came, the part that is seen marked. To stand below pick_picture."""
    figures = []
    if crop:
        (width, height), shown = picture.size, picture.shown
        left, top, right, bottom = crop.box(*shown.size)
        place = {"left": left / shown.width, "top": top / shown.height}
        place |= {"width": (right - left) / shown.width, "height": (bottom - top) / shown.height}
        style = ";".join(f"{name}:{share:.2%}" for name, share in place.items())
        label = f"As it came: {width:,}×{height:,} pixels{', its first frame' * picture.animated}"
        whole = f'<img src="{pixels_uri(np.asarray(shown))}" alt="{escape(label)}"><div class="crop" style="{style}"></div>'
        figures.append((f'<div class="whole">{whole}</div>', label))
    label = "As the models see it: 32×32 pixels"
    figures.append((f'<img class="seen" src="{pixels_uri(picture.seen)}" alt="{label}">', label))
    drawn = "".join(f"<figure>{picture}<figcaption>{escape(label)}</figcaption></figure>" for picture, label in figures)
    return f'<div class="mine">{drawn}</div>'
