"""Pictures from strangers, decoded with care: only PNG, JPEG and WebP, and measured before they are decoded. No torch here."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image

from core.config import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 5 * 2**20
MAX_PIXELS = 25_000_000  # 300 MB while transparency is composited
SHOWN = 512  # pixels a side, at most, of the picture to show
SIZE = 32  # pixels a side of what a model sees
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # of PNG: what they hold may unpack to anything, and is no pixel
TURNS = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
QUARTER_TURNS = [TURNS[orientation] for orientation in (5, 6, 7, 8)]


@dataclass(frozen=True)
class Crop:
    """A square part of a picture; by default the largest in its middle."""

    side: float = 1.0  # share of the picture's shorter side, above 0
    x: float = 0.5  # 0: as far left as it goes, 1: as far right
    y: float = 0.5  # 0: at the top, 1: at the bottom

    def box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in a picture of this size."""
        side = self.side * min(width, height)
        left, top = self.x * (width - side), self.y * (height - side)
        return left, top, left + side, top + side


MIDDLE = Crop()


@dataclass(frozen=True)
class Picture:
    """A decoded picture, upright and in 8-bit RGB."""

    size: tuple[int, int]  # width and height of the file
    shown: Image.Image  # all of it, at most SHOWN pixels a side
    seen: np.ndarray  # uint8 (32, 32, 3): the part that was cropped
    animated: bool  # the first frame was taken


def decode_picture(data: bytes, crop: Crop = MIDDLE) -> Picture:
    """A file's bytes -> Picture. Raises UserError on anything but a whole PNG, JPEG or WebP of at most 5 MB and 25 megapixels.

    Only the pixels count: of all else that a file may hold, its orientation is read where it makes sense.
    """
    if len(data) > MAX_BYTES:
        raise UserError(f"The file has {len(data) / 2**20:.1f} MB: choose one of at most {MAX_BYTES // 2**20} MB.")
    try:
        image: Image.Image = Image.open(io.BytesIO(drop_text(data)), formats=FORMATS)  # reads no further than the header
        too_large = image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        too_large = True
    except Exception:  # Pillow raises many kinds on what is not an image
        raise UserError("This is no PNG, JPEG or WebP image, whatever its name says: choose another file.") from None
    if too_large:
        raise UserError(f"The image has more than {MAX_PIXELS // 10**6} megapixels: choose a smaller one.")
    try:
        size, animated = image.size, image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a JPEG with extras
        image.draft(None, (SHOWN, SHOWN))  # lets the JPEG decoder leave out detail nobody will see
        image.load()  # before the EXIF block is asked for: Pillow then reads a PNG whole, and forgets that it was damaged
        turn = read_turn(image)
        image = to_rgb(image)
        if turn is not None:
            image = image.transpose(turn)
            size = size[::-1] if turn in QUARTER_TURNS else size
    except Exception:  # nor is there an end to the ways a file can be damaged
        raise UserError("The image is damaged or incomplete and cannot be decoded: choose another file.") from None
    seen = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=crop.box(*image.size)))
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return Picture(size, image, seen, animated)


def drop_text(data: bytes) -> bytes:
    """A PNG without its text and colour profile, of which Pillow refuses large ones together with the pixels; other bytes as they are."""
    signature, start, kept = b"\x89PNG\r\n\x1a\n", 8, []
    if not data.startswith(signature):
        return data
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")  # length, kind, body, checksum
        if data[start + 4 : start + 8] not in TEXT_CHUNKS:
            kept.append(data[start:end])
        start = end
    return signature + b"".join(kept)


def read_turn(image: Image.Image) -> Image.Transpose | None:
    """What makes a picture upright; None where its EXIF block says nothing, or nothing that can be read."""
    try:
        return TURNS.get(int(image.getexif().get(ExifTags.Base.Orientation, 1)))
    except Exception:  # cameras and editors write odd blocks, and Pillow raises many kinds on them
        return None


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
