"""Prepared cases on disk: chunked, compressed arrays that are read in part, addressed by what they were made of.

A case's files carry a key in their name: the hash of the source file's content, the settings and the format
version. The same input with the same settings finds its files again, in whatever data set; a change makes new
ones. The array format has no checksum of its own, so each entry's JSON, written last, holds a hash of its arrays.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from frugalseg.data.deform import Deformation
from frugalseg.data.placement import Placement
from frugalseg.data.preprocess import Prepared
from frugalseg.errors import DataError
from frugalseg.files import hash_file, read_json_object, write_atomic, write_json
from frugalseg.formats import NewerFormat, require_seal, require_version, seal

FORMAT_VERSION = 1
SEAL = "seal"  # the hash of an entry's JSON, beside "sha256" for its arrays
CHUNK, BLOCK = 64, 32

MOST_OPEN = 512  # 0.13 MiB each: measured


def open_arrays_at_most() -> int:
    """Return how many arrays a process keeps open: each has a file descriptor, of which half are for others.

    Opening one anew takes longer than reading a crop of it, and a run of `frugal` reads some 300, of 160 volumes.
    """
    try:
        import resource
    except ImportError:  # Windows
        return 256
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if soft == resource.RLIM_INFINITY else max(64, min(MOST_OPEN, soft // 2))


_OPEN_ARRAYS = open_arrays_at_most()


@dataclass(frozen=True)
class StoredCase:
    """A prepared case: image (channel, x, y, z) float16, label (R, x, y, z) uint8, and its foreground points.

    The label holds class indices, and 255 (`scheme.IGNORED`) where nothing is known. `background` is what a raw
    zero became in each channel; `spacing` is in mm. `points` (n, 4) holds structure, x, y, z of some voxels
    of every structure, to centre crops on. `label` and `points` are None for an unlabelled case, and for one whose
    label is outside the budget. `annotated` says of each structure whether the label shows it; None: all of them.
    `truth` is the label in the file's own voxels, to score against, and `placement` the way back to them; both are
    None where nothing was resampled. `missing`: channels that are not known, 0 everywhere. `guess`: for an
    unlabelled case, the classes' probabilities (R x K, x, y, z) in 255ths, made from labelled ones; None where
    nobody made them. `deformations`: of a labelled case, ways in which it can be laid onto others.
    """

    name: str
    image: Path
    label: Path | None
    points: Path | None
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    background: tuple[float, ...]
    key: str
    annotated: tuple[bool, ...] | None = None
    truth: Path | None = None
    placement: Placement | None = None
    missing: tuple[int, ...] = ()
    guess: Path | None = None
    deformations: tuple[Deformation, ...] = ()

    @property
    def in_part(self) -> bool:
        """Whether there is a structure that the label does not show."""
        return self.annotated is not None and not all(self.annotated)


def default_store() -> Path:
    """Return the user's cache folder for prepared cases."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "frugalseg" / "store"


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array of (..., x, y, z) in chunks of 64 and blocks of 32 voxels a side, atomically."""
    lead = array.ndim - 3
    chunks = (*(1,) * lead, *(min(CHUNK, side) for side in array.shape[lead:])) if lead >= 0 else array.shape
    blocks = (*(1,) * lead, *(min(BLOCK, side) for side in array.shape[lead:])) if lead >= 0 else array.shape
    settings = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 5,
        "filters": [blosc2.Filter.SHUFFLE],
        "nthreads": 1,
    }

    def write(temporary: Path) -> None:
        temporary.unlink()
        try:
            blosc2.asarray(
                np.ascontiguousarray(array),
                urlpath=str(temporary),
                mode="w",
                chunks=chunks,
                blocks=blocks,
                cparams=settings,
            )
        except RuntimeError as error:  # what blosc2 makes of a full disk
            free = shutil.disk_usage(path.parent).free
            raise DataError(
                f"cannot be written ({error}; {free / 2**20:.0f} MiB are free there); nothing was changed", path
            ) from error

    write_atomic(path, write)


def open_array(path: Path) -> Any:
    """Open an array for partial reads through a memory map. Not to be shared with a forked process.

    Raises:
        DataError: The file is damaged.
    """
    try:
        # One thread: a handle with more of them hangs in a forked loader worker.
        array = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f"is damaged ({error}); delete it and run prepare again", path) from error
    if not isinstance(array, blosc2.NDArray):
        raise DataError("is not an array of ours; delete it and run prepare again", path)
    return array


class ArrayCache:
    """Open arrays by path, the most recently used of them; each process (loader worker) opens its own."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[Path, Any] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"_arrays": OrderedDict(), "_process": -1}

    def open(self, path: Path) -> Any:
        """Return the array at `path`, opened in this process."""
        if self._process != os.getpid():
            self._arrays, self._process = OrderedDict(), os.getpid()
        if path in self._arrays:
            self._arrays.move_to_end(path)
        else:
            self._arrays[path] = open_array(path)
            if len(self._arrays) > _OPEN_ARRAYS:
                self._arrays.popitem(last=False)
        return self._arrays[path]


class Entry:
    """Files of one stored thing: arrays by name, and a JSON that is written last and seals their hashes."""

    def __init__(self, root: Path, name: str, key: str) -> None:
        self.root = root
        self.key = key
        self.stem = f"{name}.{key[:16]}"
        self.seal = root / f"{self.stem}.json"

    def array(self, name: str) -> Path:
        """Return the path of the array of that name."""
        return self.root / f"{self.stem}.{name}.b2nd"

    def read(self) -> dict[str, Any] | None:
        """Return the sealed facts if the entry is complete and its arrays are as they were written, else None.

        Raises:
            NewerFormat: A later version of frugalseg wrote it.
        """
        if not self.seal.exists():
            return None
        try:
            facts = read_json_object(self.seal)
            hashes = facts["sha256"]
            require_version(facts, FORMAT_VERSION, self.seal)
            require_seal(facts, self.seal, SEAL)
            intact = all(hash_file(self.array(name)) == value for name, value in hashes.items())
        except NewerFormat:
            raise
        except (ValueError, DataError, KeyError, AttributeError):
            return None
        return facts if intact else None

    def write(self, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
        """Write the arrays, then the facts with the arrays' hashes."""
        for name, array in arrays.items():
            write_array(self.array(name), array)
        hashes = {name: hash_file(self.array(name)) for name in arrays}
        write_json(self.seal, seal({"format_version": FORMAT_VERSION, **facts, "sha256": hashes}, SEAL))


def image_facts(prepared: Prepared, source: Path) -> dict[str, Any]:
    """Return what is remembered of a prepared image beside its voxels."""
    grid = prepared.placement.prepared_grid
    return {
        "source": source.name,
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "background": list(prepared.background),
        "placement": prepared.placement.to_json(),
    }


def read_placement(facts: dict[str, Any]) -> Placement:
    """Return where a stored image lies in the file it came from."""
    return Placement.from_json(facts["placement"])
