"""The Streamlit pages on results/. Home.py is the entry.

Before pandas comes in, memory is told to go back to the system: a heap for each visitor's thread, and large arrays kept
after use, took 100 MB more of a server.
"""

import ctypes
import gc
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
sys.modules.setdefault("triton", None)  # torch does without it: no page compiles a GPU kernel, and it takes 75 MB
looked_at = None  # when the garbage collector last looked at everything: how many modules there were, and the minute
LIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None  # other C libraries lack mallopt(3)
if LIBC:
    m_arena_max, m_mmap_threshold = -8, -3
    LIBC.mallopt(m_arena_max, 2)
    LIBC.mallopt(m_mmap_threshold, 2**18)


def release_memory() -> None:
    """Hand back what freed blocks left behind; see malloc_trim(3).

    Streamlit looks for garbage after every page, which takes longer than most pages. So the garbage collector leaves alone
    (gc.freeze) what it has looked at within the last minute, the libraries' objects above all.
    """
    global looked_at
    now = len(sys.modules), time.monotonic() // 60
    if now != looked_at:
        looked_at = now
        gc.unfreeze()
        gc.collect()
        gc.freeze()
    if LIBC:
        LIBC.malloc_trim(0)


def release_libraries() -> None:
    """Hand back the pages of shared libraries that loading touched, torch's for GPUs above all; what is used is read again.

    The system could take these pages at any time; here it is told to (Linux, madvise(2) with MADV_PAGEOUT).
    """
    maps = Path("/proc/self/maps")
    for line in maps.read_text(encoding="utf-8").splitlines() if LIBC and maps.exists() else []:
        span, access, *_, path = line.split(maxsplit=5) if line.count("/") else (line, "w", "")
        if ".so" in path and "w" not in access:
            start, end = (int(address, 16) for address in span.split("-"))
            LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), 21)
