"""Freed memory is kept for the next step instead of going back to the system (docs/decisions/0014).

The C library gives every block above 32 MiB back as soon as it is free. Each step then asks for the same maps anew:
the system clears page by page what is about to be overwritten, up to a tenth of the time of a step on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Numbers of malloc.h: no block has a mapping of its own, the heap's end is never cut off, and it grows by 64 MiB.
_KEEP = ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20))
# As glibc does by itself once large blocks have been freed: mappings from 32 MiB on, cut off from 64 MiB on.
_GIVE = ((-4, 65536), (-3, 32 * 2**20), (-1, 64 * 2**20), (-2, 128 * 2**10))
# A user who set one of these has chosen an allocator, or how it works.
_CHOSEN = ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; return whether it does. Elsewhere than on Linux nothing is changed.

    The peak moves by a few per cent either way, as blocks find their places.
    """
    library = _library()
    return library is not None and _set(library, _KEEP)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed inside the `with` block; at its end all that is free goes back to the system."""
    library = _library()
    if library is None:
        yield
        return
    _set(library, _KEEP)
    try:
        yield
    finally:
        _set(library, _GIVE)
        library.malloc_trim(ctypes.c_size_t(0))


def _library() -> Any:
    """Return glibc, which is in every process that it serves; None elsewhere, or where a user has chosen."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _CHOSEN):
        return None
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim else None
    except (OSError, AttributeError):
        return None


def _set(library: Any, settings: tuple[tuple[int, int], ...]) -> bool:
    done = [bool(library.mallopt(ctypes.c_int(name), ctypes.c_int(value))) for name, value in settings]
    return all(done)
