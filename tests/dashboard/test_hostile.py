"""What strangers may send: uploads, addresses and result files that are wrong in ways nobody listed."""

import io
import mimetypes
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from PIL import Image

from core import results
from core.config import ROOT, UserError
from core.images import MAX_PIXELS, SHOWN, decode_picture
from tests.dashboard.conftest import VIEWS
from tests.fake_run import make_run

LAX = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow], "derandomize": True}
QUICK = [view for view in VIEWS if view not in ("attributions", "try_image")]
PARAMETERS = (
    *("run", "models", "model", "other", "show", "normalised", "order", "true_class", "predicted_class", "of", "outcome", "true", "image"),
    *(
        "predicted",
        "sort",
        "agreement",
        "confidence",
        "people",
        "doubted",
        "duplicates",
        "page",
        "per_page",
        "step",
        "reference",
        "flow",
        "chosen",
    ),
    *("colour", "mouse", "seeds", "log", "smoothing", "against", "bins", "confidence_of", "corruption"),
)
NASTY = st.one_of(
    st.text(max_size=300),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "../..", "/etc/passwd", "<script>alert(1)</script>", "null", "[]", "-0", "1e309", "%00", "fusion", "cat", "true", "a" * 5_000]
    ),
)
CHANGE = st.tuples(st.floats(0, 0.999), st.integers(0, 255))  # where in a file, and the byte put there

READABLE = (ROOT, sys.prefix, sys.base_prefix, tempfile.gettempdir(), "/dev", "/proc", "/sys", "/usr", *mimetypes.knownfiles)
CACHES = (ROOT / ".hypothesis", ROOT / ".pytest_cache", Path(os.devnull))
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
MOST = 400  # MB that a test's cases may take together


@pytest.fixture(scope="module")
def touched(tmp_path_factory) -> Iterator[list[str]]:
    """Files outside that are opened, and all outside the caches and temporary folders that are changed, from now on."""
    found, watching = [], True
    writable = (*CACHES, tmp_path_factory.getbasetemp(), tempfile.gettempdir())

    def note_file(event: str, arguments: tuple) -> None:
        if not watching or (event != "open" and event not in CHANGES):
            return
        changed = event != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        allowed = writable if changed else (*READABLE, *writable)
        if event not in ("open", "os.truncate") and arguments[-1] not in (-1, None):
            return  # relative to a folder that was opened, so noted, before
        for name in arguments[: 1 if event == "open" else 2]:  # os.rename and links have two
            if isinstance(name, str | bytes | os.PathLike):
                path = Path(os.path.abspath(os.fsdecode(name)))  # noqa: PTH100 (links are not followed)
                if "__pycache__" not in path.parts and not any(path.is_relative_to(folder) for folder in allowed):
                    found.append(f"{event} {path}")

    sys.addaudithook(note_file)  # which stays until the process ends
    yield found
    watching = False


@pytest.fixture(autouse=True)
def contained(touched) -> Iterator[None]:
    """Whatever a test sends: no file outside is touched, and memory stays bounded (measured where Linux tells)."""
    status, peak = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if peak.exists():
        peak.write_text("5", encoding="utf-8")  # the peak begins anew
        before = int(re.search(r"VmRSS:\s+(\d+)", status.read_text(encoding="utf-8"))[1])
    touched.clear()
    yield
    assert not touched
    if peak.exists():
        assert int(re.search(r"VmHWM:\s+(\d+)", status.read_text(encoding="utf-8"))[1]) - before < 1_000 * MOST


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


WHOLE = {kind: encode(kind) for kind in ("PNG", "JPEG", "WEBP")}


@settings(max_examples=1_000, **LAX)
@given(st.sampled_from(sorted(WHOLE)), st.lists(CHANGE, max_size=6), st.floats(0, 1))
def test_a_damaged_upload_is_a_picture_or_one_clear_line(kind, changes, kept):
    data = bytearray(WHOLE[kind])
    for place, value in changes:
        data[int(place * len(data))] = value
    data = bytes(data[: max(1, round(kept * len(data)))] if kept < 0.5 else data)
    try:
        picture = decode_picture(data)
    except UserError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
    else:
        assert picture.seen.shape == (32, 32, 3) and picture.seen.dtype == np.uint8
        assert max(picture.shown.size) <= SHOWN and np.prod(picture.size) <= MAX_PIXELS


@settings(max_examples=300, **LAX)
@given(st.binary(max_size=2_000))
def test_any_bytes_are_refused(data):
    with pytest.raises(UserError):
        decode_picture(data)


@settings(max_examples=80, **LAX)
@given(st.sampled_from(QUICK), st.dictionaries(st.sampled_from(PARAMETERS), NASTY, min_size=1, max_size=5))
def test_any_address_opens_its_page(visit, view, parameters):
    note(f"{view} {parameters}")
    assert visit(view, **parameters).title


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("hostile") / "results", "run", n_test=200)


READERS = {
    "history.csv": results.load_history,
    "predictions.parquet": results.load_predictions,
    "embedding.parquet": results.load_embedding,
    "robustness.csv": results.load_robustness,
}


@settings(max_examples=300, **LAX)
@given(
    st.sampled_from(sorted(READERS)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=20),
    st.floats(0, 2),
)
def test_a_damaged_table_is_read_or_named(whole_run, tmp_path_factory, name, changes, kept):
    folder = tmp_path_factory.mktemp("damaged") / "results" / "run"
    (folder / "fusion").mkdir(parents=True)
    shutil.copy(whole_run / "run.json", folder)
    data = bytearray((whole_run / "fusion" / name).read_bytes())
    for place, value in changes:
        data[int(place * len(data))] = value
    (folder / "fusion" / name).write_bytes(data[: round(min(kept, 1) * len(data))])
    try:
        READERS[name](results.load_run(folder), "fusion")
    except UserError as error:
        assert name in str(error) and "run python scripts/" in str(error) and "\n" not in str(error)
    shutil.rmtree(folder.parent.parent)
