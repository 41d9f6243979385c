"""What is tuned in the server's process: only what saved a tenth or more of what a visitor, or the machine, feels.

Home.py alone calls this. Each was measured by itself, in turns with and without it: medians of five servers that showed every view
and then 20 visitors at once.
"""

import ctypes
import gc
import os
import platform
import sys
import time

from streamlit import net_util

looked_at = None  # when the garbage collector last looked at everything: how many modules there were, and the minute


def tune() -> None:
    """Once a server, before pandas is loaded."""
    limit_heaps()
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own pool keeps freed tables: 342 MB instead of 307
    # No tuning: at every knock of a foreign page Streamlit would ask other hosts for its own addresses, and let everyone wait.
    net_util.get_internal_ip = net_util.get_external_ip = lambda: None


def limit_heaps() -> None:
    """Two heaps for all threads, and large arrays given back once freed: 327 MB instead of 427 with 20 visitors. See mallopt(3)."""
    if platform.libc_ver()[0] == "glibc":  # other C libraries lack it
        libc = ctypes.CDLL(None)
        m_arena_max, m_mmap_threshold = -8, -3
        libc.mallopt(m_arena_max, 2)
        libc.mallopt(m_mmap_threshold, 2**18)


def spare_collector() -> None:
    """After a page: let the garbage collector leave alone (gc.freeze) what it has looked at within the last minute.

    Streamlit has it look at everything after every page, the libraries' objects above all, which takes longer than most pages:
    without this, 20 visitors took 26.7 s of the processor instead of 10.1 s and waited 7.0 s instead of 2.5 s (95 % of pages).
    """
    global looked_at
    now = len(sys.modules), time.monotonic() // 60
    if now != looked_at:
        looked_at = now
        gc.unfreeze()
        gc.collect()
        gc.freeze()
