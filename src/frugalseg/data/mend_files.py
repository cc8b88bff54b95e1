"""What mending does to a single file of a copy: put it there, make its header one story, resample it.

Nothing writes into a file that is there: a new one takes its place. So a copy may share its blocks with the
original (a hard link) until it is mended.
"""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.check_geometry import NOISE_MM, contradiction
from frugalseg.data.readers import unit_mm
from frugalseg.errors import DataError
from frugalseg.files import write_atomic
from frugalseg.geometry import Grid


def place(source: Path, target: Path, link: bool) -> None:
    """Put a file's content at `target`: a hard link if asked for and possible, else a copy; it is not decoded.

    Raises:
        DataError: The file is missing or cannot be read, `target` is there already, or cannot be written.
    """
    if not source.is_file():
        raise DataError("does not exist", source)
    if target.exists():
        raise DataError("is there already; nothing is replaced", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            pass  # another disk, or a file system without links

    def write(temporary: Path) -> None:
        shutil.copyfile(source, temporary)

    write_atomic(target, write)


def harmonise(path: Path, grid: Grid) -> None:
    """Make the qform, and the spacing, of a NIfTI file say what its sform says; every other byte stays.

    A qform cannot express shear, and loses digits at half a turn: where it still differs it is switched off.

    Raises:
        DataError: The file cannot be read or written.
    """
    import nibabel as nib

    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)

    def write(temporary: Path) -> None:
        with _read(path) as source, temporary.open("wb") as raw:
            kind = type(image.header)
            header = kind(source.read(kind.template_dtype.itemsize), check=False)
            if int(header["qform_code"]) > 0:
                header.set_qform(header.get_sform(), int(header["qform_code"]), strip_shears=True)
                if contradiction(header, grid) > NOISE_MM:
                    header["qform_code"] = 0
            header["pixdim"][1:4] = np.array(grid.spacing) / unit_mm(header)
            target = cast(BinaryIO, raw)
            if path.name.endswith(".gz"):
                # Without a name and a time: the same input gives the same bytes.
                target = cast(BinaryIO, gzip.GzipFile("", "wb", 6, raw, mtime=0))
            target.write(header.binaryblock)
            shutil.copyfileobj(source, target, 2**20)
            if target is not raw:
                target.close()

    write_atomic(path, write)


def _read(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb"))


def resample(channel: NDArray[np.float32], source: Grid, target: Grid) -> tuple[NDArray[np.float32], float]:
    """Bring a channel (x, y, z) from its grid to another one by linear interpolation.

    Returns:
        The channel on the target grid, its lowest value where it has nothing; the share of voxels that it covers.
    """
    from scipy import ndimage

    change = np.linalg.inv(source.affine) @ target.affine
    low = float(channel.min())
    values = ndimage.affine_transform(
        channel, change[:3, :3], change[:3, 3], target.shape, order=1, mode="grid-constant", cval=low
    )
    inside = np.ones(target.shape, bool)
    index = np.ogrid[tuple(slice(side) for side in target.shape)]
    for axis, side in enumerate(channel.shape):
        place = sum(change[axis, other] * index[other] for other in range(3)) + change[axis, 3]
        inside &= (place > -0.5) & (place < side - 0.5)
    return values.astype(np.float32), float(inside.mean())
