"""A case's channels: in one file, or in one file each, which must lie on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.readers import Header, read_header, read_image
from frugalseg.errors import DataError
from frugalseg.geometry import Grid, tolerance_mm


def read_channels(
    files: Sequence[Path], names: Sequence[str], who: str, missing: Sequence[int] = ()
) -> tuple[Grid, NDArray[np.float32]]:
    """Read a case as float32 (channel, x, y, z) on the grid of its first file.

    Args:
        files: One file with all channels, or one file a channel in the order of `names`.
        names: The channels that are wanted.
        who: Who wants them, for the message: "the data set has" or "the model needs".
        missing: Numbers of the channels without a file; `files` are those of the others, and these become 0.

    Raises:
        DataError: A file cannot be read, the number of channels is wrong, or they lie on different grids.
    """
    present = [place for place in range(len(names)) if place not in missing]
    require_channels(files, [names[place] for place in present], who)
    if len(files) == 1 and not missing:
        return read_image(files[0])
    grid = read_header(files[0]).grid
    image = np.zeros((len(names), *grid.shape), np.float32)
    if len(files) == 1:
        image[present] = read_image(files[0])[1]
        return grid, image
    for place, file in zip(present, files, strict=True):
        image[place] = read_image(file)[1][0]
    return grid, image


def require_channels(files: Sequence[Path], names: Sequence[str], who: str) -> Header:
    """Hold a case's headers to the channels that are wanted; return that of the first file.

    Raises:
        DataError: A header cannot be read, the number of channels is wrong, or they lie on different grids.
    """
    headers = [read_header(file) for file in files]
    first = headers[0]
    if len(files) == 1:
        if first.channels != len(names):
            raise DataError(
                f"has {first.channels} channels, {who} {len(names)}: {', '.join(names)}; give the image these "
                "channels in this order",
                files[0],
            )
        return first
    for header, file in zip(headers, files, strict=True):
        if header.channels != 1:
            raise DataError(f"has {header.channels} channels; one file a channel was expected; split it", file)
        if header.grid.shape != first.grid.shape:
            raise DataError(
                f"has shape {header.grid.shape}, {files[0].name} has {first.grid.shape}; resample the channels to "
                "one grid",
                file,
            )
        if (apart := first.grid.difference(header.grid)) > tolerance_mm(first.grid):
            raise DataError(
                f"lies {apart:.4g} mm away from {files[0].name}; register and resample the channels to one grid",
                file,
            )
    return first


def is_ct(name: str) -> bool:
    """Whether a channel's name says that its values are Hounsfield units."""
    return name.strip().lower() == "ct"
