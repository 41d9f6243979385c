"""Pictures from strangers, decoded with care: only PNG, JPEG and WebP, and measured before they are decoded. No torch here."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from core.config import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 5 * 2**20
MAX_PIXELS = 25_000_000  # 300 MB while transparency is composited
SHOWN = 512  # pixels a side, at most, of the picture to show
SIZE = 32  # pixels a side of what a model sees


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright and in 8-bit RGB."""

    size: tuple[int, int]  # width and height of the file
    shown: Image.Image  # all of it, at most SHOWN pixels a side
    seen: np.ndarray  # uint8 (32, 32, 3): its middle square
    animated: bool  # the first frame was taken


def decode_picture(data: bytes) -> Picture:
    """A file's bytes -> Picture. Raises UserError on anything but a whole PNG, JPEG or WebP of at most 5 MB and 25 megapixels."""
    if len(data) > MAX_BYTES:
        raise UserError(f"The file has {len(data) / 2**20:.1f} MB: choose one of at most {MAX_BYTES // 2**20} MB.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads no further than the header
        too_large = image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        too_large = True
    except Exception:  # Pillow raises many kinds on what is not an image
        raise UserError("This is no PNG, JPEG or WebP image, whatever its name says: choose another file.") from None
    if too_large:
        raise UserError(f"The image has more than {MAX_PIXELS // 10**6} megapixels: choose a smaller one.")
    try:
        size, animated = image.size, image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a JPEG with extras
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        image.draft(None, (SHOWN, SHOWN))  # lets the JPEG decoder leave out detail nobody will see
        ImageOps.exif_transpose(image, in_place=True)
        image = to_rgb(image)
    except Exception:  # nor is there an end to the ways a file can be damaged
        raise UserError("The image is damaged or incomplete and cannot be decoded: choose another file.") from None
    seen = np.asarray(ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS))
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return Picture(size[::-1] if turned else size, image, seen, animated)


def pixels_uri(pixels: np.ndarray) -> str:
    """A uint8 image (H, W, 3) as a data URI, for HTML."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def to_rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as 8-bit RGB; what is transparent turns white."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
