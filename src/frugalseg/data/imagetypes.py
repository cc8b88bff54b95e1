"""The kinds of image files that are known, by suffix, and what a header says: one table, used everywhere.

A suffix counts whatever its capitals: a file system may not tell them apart. Files that keep their voxels in a
second file (.nhdr, .mhd) are known so as to be refused: hashes, the test lock and copies look at one file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.nifti_header import MAX_VOXELS as MAX_VOXELS
from frugalseg.errors import DataError
from frugalseg.geometry import Grid

Kind = Literal["nifti", "nrrd", "meta", "detached"]

SUFFIXES: dict[str, Kind] = {
    ".nii.gz": "nifti",
    ".nii": "nifti",
    ".nrrd": "nrrd",
    ".mha": "meta",
    ".nhdr": "detached",
    ".mhd": "detached",
}
_SUFFIX = re.compile("(" + "|".join(map(re.escape, SUFFIXES)) + ")$", re.IGNORECASE)
READABLE = tuple(suffix for suffix, kind in SUFFIXES.items() if kind != "detached")
READABLE_WORDS = ", ".join(READABLE)
MOST_SKEW = 2.0  # degrees: rounding in a header stays far below, a tilted gantry far above


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its grid, number of channels (last axis of a 4D file) and voxel type.

    `dimensions`: 2 for an image of one slice that the file itself calls 2D; its grid has a third side of 1.
    """

    grid: Grid
    channels: int
    dtype: str
    dimensions: int = 3


def image_suffix(path: Path) -> str:
    """Return the suffix that makes the file an image, as it is spelt in its name; empty if it is none."""
    found = _SUFFIX.search(path.name)
    return found[0] if found is not None else ""


def image_kind(path: Path) -> Kind | None:
    """Return what kind of image file the name is of; None if it is none."""
    return SUFFIXES.get(image_suffix(path).lower())


def is_image(path: Path) -> bool:
    """Whether the name is that of an image file."""
    return image_kind(path) is not None and not path.name.startswith(".")


def case_name(path: Path) -> str:
    """Return the file's name without the suffix that makes it an image."""
    return path.name[: len(path.name) - len(image_suffix(path))]


def written_suffix(like: Path) -> str:
    """Return the suffix of a label map that is written for the image `like`: its own type, compressed."""
    kind = image_kind(like)
    return {"nrrd": ".nrrd", "meta": ".mha"}.get(str(kind), ".nii.gz")


def describe(shape: tuple[int, ...], dtype: np.dtype[Any], affine: NDArray[np.float64], path: Path) -> Header:
    """Hold what a header claims to what can be used.

    Args:
        shape: Of the voxels: (x, y), (x, y, z) or (x, y, z, channel).
        dtype: Of the voxels.
        affine: (4, 4), voxel index to millimetres in RAS+.
        path: The file, for messages.

    Raises:
        DataError: Another number of dimensions, an empty one, more voxels than the limit, colours or complex
            numbers, or an affine that is singular or not finite.
    """
    if len(shape) not in (2, 3, 4) or min(shape, default=0) < 1:
        raise DataError(
            f"has shape {shape}, 2D, 3D, or 4D with channels last, was expected; convert or split it", path
        )
    if math.prod(shape) > MAX_VOXELS:
        raise DataError(
            f"claims {shape} voxels, over the limit of {MAX_VOXELS}: its header is damaged; copy it anew", path
        )
    if dtype.kind not in "iuf":
        raise DataError(
            f"has voxels of type {dtype}, colours and complex numbers cannot be used; convert it to grey values",
            path,
        )
    x, y, z, channels = (*shape, *(1, 1))[:4]
    try:
        grid = Grid((x, y, z), affine)
    except ValueError as error:
        raise DataError(f"has no usable geometry: {error}; correct the header, or export it anew", path) from error
    if grid.skew > MOST_SKEW:
        raise DataError(
            f"has no usable geometry: its axes are not at right angles ({grid.skew:.1f} degrees off), so its "
            "millimetres would be wrong; resample it to a grid with right angles",
            path,
        )
    return Header(grid, channels, str(dtype), min(len(shape), 3))


def thick(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give a 2D image's affine a third axis of 1 mm, at right angles to the others, where it has none."""
    affine = np.array(affine, np.float64)
    if np.linalg.norm(affine[:3, 2]) == 0:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        length = np.linalg.norm(normal)
        affine[:3, 2] = normal / length if length > 0 else 0
    return affine
