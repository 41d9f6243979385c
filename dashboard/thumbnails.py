"""Test images for the browser: sprites of thumbnails, and one image as a data URI."""

import base64
import io

import streamlit as st
from PIL import Image

from core.results import TestImages
from dashboard.data import BY_STAMP, load_images


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs=BY_STAMP)
def _draw_sprite(images: TestImages, indices: tuple[int, ...], columns: int) -> str:
    sheet = Image.new("RGB", (32 * columns, 32 * -(-len(indices) // columns)))
    for position, index in enumerate(indices):
        sheet.paste(Image.open(io.BytesIO(images.png[index])), (32 * (position % columns), 32 * (position // columns)))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def make_sprite(indices: tuple[int, ...], columns: int = 20) -> str:
    """One PNG with all the thumbnails, row by row, as base64."""
    return _draw_sprite(load_images(), indices, columns)


def image_uri(index: int) -> str:
    """One test image as a data URI."""
    return "data:image/png;base64," + base64.b64encode(load_images().png[index]).decode()
