"""Uploads: every kind of image becomes upright RGB, everything else one clear line."""

import base64
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from core.config import UserError
from core.images import MAX_BYTES, Crop, decode_picture, pixels_uri

STRIPES = np.repeat(np.array([[[255, 0, 0]], [[0, 255, 0]], [[0, 0, 255]]], np.uint8), 40, axis=1)  # (3, 40, 3)


def save(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_of(width: int, height: int, whole: bool = True) -> bytes:
    """A black 1-bit PNG of any size, which takes next to nothing on disk; without its pixels where it is not to be whole."""
    rows = zlib.compress(bytes(1 + -(-width // 8)) * height) if whole else b""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def chunk(kind: bytes, body: bytes) -> bytes:
    """One part of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def mean_color(data: bytes) -> list[int]:
    return decode_picture(data).seen.mean(axis=(0, 1)).round().astype(int).tolist()


def test_an_image_of_the_models_size_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    picture = decode_picture(save(Image.fromarray(pixels)))
    np.testing.assert_array_equal(picture.seen, pixels)
    np.testing.assert_array_equal(np.asarray(picture.shown), pixels)
    assert picture.size == (32, 32) and not picture.animated


@pytest.mark.parametrize(
    ("image", "file_format", "expected"),
    [
        (Image.new("RGB", (40, 50), (10, 200, 30)), "PNG", [10, 200, 30]),
        (Image.new("RGB", (40, 50), (10, 200, 30)), "WEBP", [10, 200, 30]),
        (Image.new("L", (40, 50), 77), "PNG", [77, 77, 77]),
        (Image.new("L", (40, 50), 77), "JPEG", [77, 77, 77]),
        (Image.new("1", (40, 50), 1), "PNG", [255, 255, 255]),
        (Image.new("LA", (40, 50), (0, 0)), "PNG", [255, 255, 255]),
        (Image.new("RGBA", (40, 50), (255, 0, 0, 0)), "PNG", [255, 255, 255]),
        (Image.new("RGBA", (40, 50), (255, 0, 0, 51)), "PNG", [255, 204, 204]),  # a fifth of red over white
        (Image.new("RGBA", (40, 50), (0, 0, 0, 0)), "WEBP", [255, 255, 255]),
        (Image.new("CMYK", (40, 50), (0, 255, 255, 0)), "JPEG", [254, 0, 0]),  # JPEG is off by one
        (Image.fromarray(np.full((50, 40), 0x8040, np.uint16)), "PNG", [128, 128, 128]),
        (Image.new("RGB", (40, 50), (10, 200, 30)).quantize(4), "PNG", [10, 200, 30]),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_rgb(image, file_format, expected):
    data = save(image, file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    np.testing.assert_allclose(mean_color(data), expected, atol=1)


def test_a_transparent_palette_colour_turns_white():
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert mean_color(save(image, transparency=1)) == [255, 255, 255]
    assert mean_color(save(image, transparency=0)) == [255, 0, 0]


def test_16_bit_grey_keeps_its_range():
    ramp = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    seen = decode_picture(save(Image.fromarray(ramp))).seen
    np.testing.assert_array_equal(seen[0, :, 0], ramp[0] >> 8)


@pytest.mark.parametrize(("orientation", "top"), [(1, "red"), (3, "blue"), (6, "mixed"), (8, "mixed")])
def test_photos_are_turned_upright(orientation, top):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stripes = Image.fromarray(STRIPES.repeat(20, axis=0))  # 40 wide, 60 high: red over green over blue
    picture = decode_picture(save(stripes, "JPEG", exif=exif, quality=95, subsampling=0))
    assert picture.size == ((40, 60) if orientation < 5 else (60, 40)) and picture.shown.size == picture.size
    first_row = np.asarray(picture.shown)[2].astype(int)
    if top == "mixed":  # a quarter turn: clockwise puts red to the right, the other way round to the left
        corner = first_row[-3] if orientation == 6 else first_row[2]
        assert corner[0] > 240 and corner[1:].max() < 15
    else:
        channel = {"red": 0, "blue": 2}[top]
        assert (first_row[:, channel] > 240).all()


def exif_block(*entries: tuple[int, int, bytes]) -> bytes:
    """An EXIF block as a camera writes it, little-endian: (tag, type, value) each; longer values than 4 bytes stand at the end."""
    fixed, after, place = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        size = {2: 1, 3: 2, 5: 8, 10: 8}[kind]  # of one ASCII character, SHORT, RATIONAL, SRATIONAL
        fixed += struct.pack("<HHI", tag, kind, len(value) // size)
        fixed += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", place + len(after))
        after += value if len(value) > 4 else b""
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + fixed + b"\0\0\0\0" + after


ORIENTATION, EXPOSURE_BIAS, RESOLUTION = 0x0112, 0x9204, 0x011A
QUARTER_TURN = (ORIENTATION, 3, struct.pack("<H", 6))


@pytest.mark.parametrize(
    ("entries", "turned"),
    [
        ([QUARTER_TURN, (EXPOSURE_BIAS, 10, struct.pack("<ii", -1, 0))], True),  # -1/0
        ([QUARTER_TURN, (RESOLUTION, 5, struct.pack("<II", 0, 0))], True),
        ([(ORIENTATION, 2, b"right-top\0")], False),  # words where a number is expected
        ([(ORIENTATION, 2, b"6\0")], True),
        ([QUARTER_TURN, (RESOLUTION, 2, b"seventy-two\0")], True),
        ([(ORIENTATION, 3, struct.pack("<H", 4711))], False),
        ([(ORIENTATION, 5, struct.pack("<II", 1, 0))], False),
    ],
)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_odd_metadata_is_no_reason_to_refuse_pixels(file_format, entries, turned):
    """Orientation is read where it can be, all else is left aside."""
    pixels = Image.new("RGB", (60, 40), (10, 200, 30))
    picture = decode_picture(save(pixels, file_format, exif=exif_block(*entries)))
    assert picture.size == picture.shown.size == ((40, 60) if turned else (60, 40))
    np.testing.assert_allclose(picture.seen, np.broadcast_to([10, 200, 30], (32, 32, 3)), atol=4)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_with_more_text_than_pixels_is_a_picture(kind):
    """2 MB of compressed text, as editors write for their history; Pillow alone refuses the file."""
    body = {b"zTXt": b"history\0\0", b"iTXt": b"history\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind] + zlib.compress(b"a" * 2_000_000)
    whole = save(Image.new("RGB", (60, 40), (10, 200, 30)))
    data = whole[:33] + chunk(kind, body) + chunk(b"tEXt", b"Title\0mine") + whole[33:]  # after the header
    if kind == b"zTXt":
        with pytest.raises(ValueError, match="too large"):
            Image.open(io.BytesIO(data)).load()
    np.testing.assert_array_equal(decode_picture(data).seen, decode_picture(whole).seen)


@pytest.mark.parametrize(
    ("crop", "expected"),
    [(Crop(), 2), (Crop(x=0), 1), (Crop(x=1), 3), (Crop(side=0.5, x=0, y=1), 1), (Crop(side=0.25, x=0.5, y=0), 2)],
)
def test_a_crop_takes_its_square(crop, expected):
    columns = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), 30, axis=1).repeat(30, axis=0)  # (30, 90, 3)
    seen = decode_picture(save(Image.fromarray(columns)), crop).seen
    color = [0, 0, 0]
    color[expected - 1] = 255
    np.testing.assert_allclose(seen, np.broadcast_to(color, (32, 32, 3)), atol=8)


def test_a_crop_lies_within_the_picture():
    assert Crop().box(90, 30) == (30, 0, 60, 30)
    assert Crop(side=0.5, x=1, y=1).box(90, 30) == (75, 15, 90, 30)


def test_the_middle_square_is_seen_and_all_of_it_shown():
    columns = np.zeros((30, 90, 3), np.uint8)
    columns[:, 30:60] = 0, 255, 0  # green in the middle, black at both sides
    picture = decode_picture(save(Image.fromarray(columns)))
    np.testing.assert_allclose(picture.seen, np.broadcast_to([0, 255, 0], (32, 32, 3)), atol=8)  # the filter looks across the edge
    assert picture.shown.size == (90, 30)


def test_shrinking_averages_instead_of_skipping():
    checks = np.indices((640, 640)).sum(axis=0) % 2 * 255
    seen = decode_picture(save(Image.fromarray(checks.astype(np.uint8)))).seen
    np.testing.assert_allclose(seen, 127.5, atol=3)


def test_large_photos_are_shown_small():
    picture = decode_picture(save(Image.new("RGB", (3000, 1500), (10, 200, 30)), "JPEG"))
    assert picture.size == (3000, 1500) and picture.shown.size == (512, 256)


def test_pixels_come_back_from_their_uri():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    kind, _, text = pixels_uri(pixels).partition(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_odd_shapes_are_taken(size):
    assert decode_picture(save(Image.new("RGB", size, (9, 9, 9)))).seen.shape == (32, 32, 3)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_taken(file_format):
    frames = [Image.new("RGB", (40, 40), color) for color in ((255, 0, 0), (0, 0, 255))]
    data = save(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
    assert decode_picture(data).animated
    np.testing.assert_allclose(mean_color(data), [255, 0, 0], atol=1)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("side", "whole"), [(20_000, True), (20_000, False), (10_000, False)])
def test_a_decompression_bomb_is_refused_by_its_header(side, whole):
    data = png_of(side, side, whole)
    assert len(data) < 100_000
    with pytest.raises(UserError, match="more than 25 megapixels: choose a smaller one"):
        decode_picture(data)


def test_the_limit_on_pixels_is_exact():
    assert decode_picture(png_of(5000, 5000)).size == (5000, 5000)
    with pytest.raises(UserError, match="25 megapixels"):
        decode_picture(png_of(5000, 5001))


def test_too_many_bytes_are_refused():
    with pytest.raises(UserError, match=r"has 5\.1 MB: choose one of at most 5 MB"):
        decode_picture(bytes(MAX_BYTES + 100_000))


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.png", b"not really")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        zip_file(),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        save(Image.new("RGB", (9, 9)), "GIF"),
        b"\0" * 999,
    ],
    ids=["empty", "signature", "zip", "svg", "gif", "zeros"],
)
def test_what_is_no_image_gets_one_clear_line(data):
    with pytest.raises(UserError, match="This is no PNG, JPEG or WebP image"):
        decode_picture(data)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_truncated_files_are_refused(file_format):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = save(Image.fromarray(pixels), file_format)
    with pytest.raises(UserError, match=r"damaged or incomplete|no PNG, JPEG or WebP"):
        decode_picture(data[: len(data) // 2])


def test_a_png_whose_pixels_are_damaged_is_refused():
    """Without an EXIF block too, for which Pillow searches all of the file."""
    data = bytearray(save(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), "PNG"))
    data[len(data) // 2] ^= 255
    with pytest.raises(UserError, match="damaged or incomplete"):
        decode_picture(bytes(data))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_damaged_bytes_give_an_image_or_one_line(file_format):
    """Whatever bytes change, it ends in a Picture or a UserError, never in another exception."""
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = save(Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)), file_format, exif=exif)
    refused = 0
    for _ in range(200):
        data = np.frombuffer(image, np.uint8).copy()
        where = generator.integers(0, len(data) if generator.random() < 0.5 else 120, generator.integers(1, 8))
        data[where] = generator.integers(0, 256, len(where))
        try:
            assert decode_picture(data.tobytes()).seen.shape == (32, 32, 3)
        except UserError:
            refused += 1
    assert refused > 0
