"""A visitor's own picture: from a file or the camera, why it was refused, and the square of it that is cropped: a custom component."""

from pathlib import Path

import numpy as np
import streamlit as st

from core.config import UserError
from core.images import MAX_BYTES, MAX_PIXELS, MIDDLE, Crop, Picture, decode_picture, pixels_uri
from dashboard import address
from dashboard.components.share import INSIST_JS

HERE = Path(__file__).parent
ASSETS = {kind: (HERE / f"picture.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
SMALLEST = 0.1  # side of the square, of the picture's shorter one


def pick_picture() -> Picture | None:
    """The visitor's picture, the part that is seen cropped; None where there is none, or it is refused, which is said.

    It is kept for the other pages (`own` in the URL), whose own box for a file is empty.
    """

    def forget(box: str) -> None:
        if st.session_state[box] is None:
            st.session_state.pop("own_picture", None)

    camera = st.segmented_control("Your own image", ["From a file", "From the camera"], default="From a file", required=True, key="source")
    limits = f"PNG, JPEG or WebP, at most {MAX_BYTES // 2**20} MB and {MAX_PIXELS // 10**6} megapixels"
    if camera == "From the camera":
        given = st.camera_input("Your own image", label_visibility="collapsed", key="camera", on_change=forget, args=["camera"])
    else:
        types = ["png", "jpg", "jpeg", "webp"]
        given = st.file_uploader(limits, types, max_upload_size=MAX_BYTES // 2**20, key="upload", on_change=forget, args=["upload"])
    # What the browser itself refuses, for its size or kind, it says to screen readers alone: here it stands below the file's name.
    st.html(HERE / "upload.css")
    file = st.session_state.get("own_picture")
    if given is not None and (file is None or file.file_id != given.file_id):
        file = given
        st.session_state["own_picture"] = file
        address.choose("own", True)
    if file is None or not address.switch(f"Show {file.name}", key="own"):
        return None
    of_file, crop = st.session_state.get("crop", ("", MIDDLE))
    crop = crop if of_file == file.file_id else MIDDLE
    try:
        picture = decode_picture(file.getvalue(), crop)
    except UserError as error:
        st.error(str(error))
        return None

    def move() -> None:
        *shares, st.session_state["crop_moves"] = st.session_state["crop_picker"].moved
        side, x, y = map(float, shares)
        st.session_state["crop"] = file.file_id, Crop(min(max(side, SMALLEST), 1), min(max(x, 0), 1), min(max(y, 0), 1))

    (width, height), shown = picture.size, picture.shown
    picker = st.components.v2.component("crop_picker", **ASSETS | {"js": INSIST_JS + ASSETS["js"]})
    picker(
        key="crop_picker",
        data={
            **{"uri": pixels_uri(np.asarray(shown)), "width": shown.width, "height": shown.height, "box": crop.box(*shown.size)},
            "moves": st.session_state.get("crop_moves", 0),  # how many it heard of
            "smallest": SMALLEST * min(shown.size),
            "label": f"As it came: {width:,}×{height:,} pixels{', its first frame' * picture.animated}",
            "seen": pixels_uri(picture.seen),
        },
        on_moved_change=move,
    )
    return picture
