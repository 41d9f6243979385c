"""How any file of the results is written and read: whole or not at all, as UTF-8, none larger than it can be. No columns here."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from core.config import ROOT, UserError

RESULTS = Path(os.environ.get("RESULTS_DIR") or ROOT / "results")
WINDOWS = os.name == "nt"
PATIENCE = 2.0  # seconds to wait on Windows for a reader to close a file
LARGEST, LARGEST_TABLE = 2**29, 2**26  # bytes of any file, and of a table: what is written here is far below, unpacked too


class MissingFile(UserError):
    """There is no such file: no fault where the file is optional."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, flush it to disk and rename it. Raises UserError; `path` is then untouched."""
    if not path.name:
        raise UserError(f"{path} is a folder: name a file in it")
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        with aside.open("rb+") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        replace(aside, path)
        flush_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save reports a full disk as a RuntimeError
        with suppress(OSError):  # the first error is the one to tell
            aside.unlink()
        raise UserError(f"{path} could not be written ({error}): free or unlock its disk") from None


@contextmanager
def one_at_a_time(path: Path, wait: bool = True) -> Iterator[None]:
    """Let whoever else is about to write `path` wait: two trainings may publish into one run, or download the same data.

    Without `wait`, for work that takes long, the second is refused. Raises UserError.
    """
    aside = path.with_name(f".{path.name}.lock")
    lock = FileLock(aside, blocking=wait)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is at work on {path}: let it end, or stop it") from None
    except OSError as error:
        raise UserError(f"{path} could not be written ({say_why(error)}): free or unlock its disk") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it on release
            aside.unlink()
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8 with plain line ends on every system. Raises UserError."""
    write_whole(path, lambda aside: aside.write_text(text, encoding="utf-8", newline="\n"))


def read_text(path: Path) -> str:
    """A text file's content, which is UTF-8 whatever the locale; an editor's byte-order mark is left out. Raises OSError, ValueError."""
    return path.read_text(encoding="utf-8-sig")


def replace(source: Path, target: Path) -> None:
    """Path.replace; while a reader has the target open Windows refuses, so it is tried for a while. Raises OSError."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() > until:
                raise
            time.sleep(0.02)


def flush_folder(folder: Path) -> None:
    """Flush a folder, so that a rename in it survives a power cut. Windows cannot open folders, and needs no such thing."""
    if WINDOWS:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot; the file itself is on the disk
            os.fsync(handle)
    finally:
        os.close(handle)


def stamp_file(path: Path) -> tuple[int, int, int]:
    """Changes when the file does; zeros where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0, 0
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def read_arrays(path: Path, largest: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that unpacks to at most `largest` bytes. Raises OSError, ValueError."""
    try:
        with path.open("rb") as whole, np.load(whole) as file:
            if sum(part.file_size for part in file.zip.infolist()) > largest:
                raise ValueError(f"it unpacks to more than {largest >> 20} MiB")
            return dict(file)
    except OSError:
        raise
    except Exception as error:  # NumPy raises many kinds on damaged files
        raise ValueError(say_why(error)) from None


def say_why(error: Exception) -> str:
    """An error in one line, without the number and the path that an OSError adds."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def show_path(path: Path) -> str:
    """A path as commands take it, which are given in the project's folder: below that relative, else whole."""
    whole = path.absolute()
    return whole.relative_to(ROOT).as_posix() if whole.is_relative_to(ROOT) else str(whole)


def quote(*words: str | Path) -> str:
    """Words as the shell at hand takes them."""
    shown = [show_path(word) if isinstance(word, Path) else word for word in words]
    return subprocess.list2cmdline(shown) if WINDOWS else shlex.join(shown)


def command(script: str, *arguments: str | Path) -> str:
    """A command that works as printed, from the project's folder."""
    return quote("python", f"scripts/{script}", *arguments)
