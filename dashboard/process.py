"""What is tuned in the server's process: only what saved a tenth or more of what a visitor, or the machine, feels.

Home.py alone calls this. Each was measured by itself, in turns with and without it: medians of six servers that showed every view
and then 20 visitors at once, on two busy cores.
"""

import ctypes
import gc
import os
import platform
import sys
import time
from pathlib import Path

from streamlit import net_util

tuned = False  # is this process a server's? Tests and scripts draw pages too
looked_at = None  # when the garbage collector last looked at everything: how many modules there were, and the minute


def tune() -> None:
    """Once a server, before pandas is loaded."""
    global tuned
    tuned = True
    limit_heaps()
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own pool keeps freed tables: 342 MB instead of 306
    # No tuning: at every knock of a foreign page Streamlit would ask other hosts for its own addresses, and let everyone wait.
    net_util.get_internal_ip = net_util.get_external_ip = lambda: None


def limit_heaps() -> None:
    """Two heaps for all threads, and large arrays given back once freed: 326 MB instead of 417 with 20 visitors. See mallopt(3)."""
    if platform.libc_ver()[0] == "glibc":  # other C libraries lack it
        libc = ctypes.CDLL(None)
        m_arena_max, m_mmap_threshold = -8, -3
        libc.mallopt(m_arena_max, 2)
        libc.mallopt(m_mmap_threshold, 2**18)


def tidy() -> None:
    """After a page: spare the garbage collector what it has seen, and give back what new libraries took to load.

    Streamlit has it look at everything after every page, the libraries' objects above all, which takes longer than most pages.
    So it leaves alone (gc.freeze) what it has looked at within the last minute: without this, 20 visitors took 26.5 s of the
    processor instead of 9.9 s, and one page in 20 took 7.0 s or more instead of 2.3 s.
    """
    global looked_at
    now = len(sys.modules), time.monotonic() // 60
    if now == looked_at or not tuned:
        return
    if "torch" in sys.modules and (looked_at is None or now[0] != looked_at[0]):
        release_libraries()
    looked_at = now
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def release_libraries() -> None:
    """Hand back the pages of shared libraries that loading touched, torch's for GPUs above all: 846 MB instead of 1,055 with attributions.

    What is used is read again; the system could take these pages at any time, here it is told to (Linux, madvise(2) with
    MADV_PAGEOUT), which it does where no other process has them mapped.
    """
    maps = Path("/proc/self/maps")
    libc = ctypes.CDLL(None) if maps.exists() else None
    for line in maps.read_text(encoding="utf-8").splitlines() if libc else []:
        span, access, *_, path = line.split(maxsplit=5) if line.count("/") else (line, "w", "")
        if ".so" in path and "w" not in access:
            start, end = (int(address, 16) for address in span.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), 21)
