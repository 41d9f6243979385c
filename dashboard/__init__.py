"""The Streamlit pages on results/. Home.py is the entry.

Before pandas comes in, memory is told to go back to the system: a heap for each visitor's thread, and large arrays kept
after use, took 100 MB more of a server.
"""

import ctypes
import os
import platform

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
LIBC = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None  # other C libraries lack mallopt(3)
if LIBC:
    m_arena_max, m_mmap_threshold = -8, -3
    LIBC.mallopt(m_arena_max, 2)
    LIBC.mallopt(m_mmap_threshold, 2**18)


def release_memory() -> None:
    """Hand back what freed blocks left behind; see malloc_trim(3)."""
    if LIBC:
        LIBC.malloc_trim(0)
