"""Freed memory is kept for the next step instead of going back to the system (docs/decisions/0014).

The C library gives every block above 32 MiB back as soon as it is free. Each step then asks for the same maps anew:
the system clears page by page what is about to be overwritten, up to a tenth of the time of a step on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import platform

# Of malloc.h: no block has a mapping of its own, the heap's end is never cut off, and it grows by 64 MiB.
_SETTINGS = ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20))
# A user who set one of these has chosen an allocator, or how it works.
_CHOSEN = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; return whether it does. Elsewhere than on Linux nothing is changed.

    Memory that is resident at the peak stays so until the process ends. The peak moves by a few per cent either
    way, as blocks find their places.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(bool(mallopt(ctypes.c_int(name), ctypes.c_int(value))) for name, value in _SETTINGS)
