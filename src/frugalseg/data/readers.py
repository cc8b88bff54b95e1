"""Reading images and label maps from NIfTI, with the header looked at before anything is allocated."""

from __future__ import annotations

import gzip
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from frugalseg.data.nifti_header import MAX_VOXELS, require_nifti
from frugalseg.errors import DataError
from frugalseg.files import require_file
from frugalseg.geometry import Grid

LABEL_TOLERANCE = 1e-3
SPARE = 2**20  # bytes behind the voxels: some writers pad
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it would mend was refused already
_BROKEN = (OverflowError, OSError, EOFError, zlib.error, ValueError, ImageFileError, HeaderDataError)


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its grid, number of channels (last axis of a 4D file) and voxel type."""

    grid: Grid
    channels: int
    dtype: str


def is_image(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")


def case_name(path: Path) -> str:
    """Return the file's name without the NIfTI suffix."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read_header(path: Path) -> Header:
    """Read a NIfTI header.

    Raises:
        DataError: The file is missing, no NIfTI, claims more voxels than the limit, is neither 3D nor 4D, or has
            an affine that is singular or not finite.
    """
    return _describe(_open(path), path)


def read_image(path: Path) -> tuple[Grid, NDArray[np.float32]]:
    """Read an image as float32 (channel, x, y, z); a 4D file has its channels on the last axis.

    Raises:
        DataError: As `read_header`, or the voxels are damaged, colours, or complex numbers.
    """
    image = _open(path)
    header = _describe(image, path)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
        array = _voxels(image, path).astype(np.float32, copy=False)
    channels = array[None] if array.ndim == 3 else np.moveaxis(array, 3, 0)
    return header.grid, channels


def read_label(path: Path, allowed: tuple[int, ...]) -> tuple[Grid, NDArray[np.int32], int]:
    """Read a label map (x, y, z) and hold it to the scheme's values.

    Returns:
        The grid, the label values, and how many voxels were within 1e-3 of an integer and were rounded.

    Raises:
        DataError: As `read_image`, or voxels hold other values than `allowed`; these are named.
    """
    image = _open(path)
    header = _describe(image, path)
    if header.channels != 1:
        raise DataError(
            f"a label map has one channel, this file has {header.channels}; export one map a case", path
        )
    voxels = _voxels(image, path).reshape(header.grid.shape)
    if not np.isfinite(voxels).all():
        raise DataError(
            f"{int((~np.isfinite(voxels)).sum())} label voxels are NaN or infinite; set them to 0 or "
            "to the value that they should have",
            path,
        )
    nearest = np.rint(voxels)
    away = np.abs(voxels - nearest)
    if (away > LABEL_TOLERANCE).any():
        value = float(voxels[away > LABEL_TOLERANCE].flat[0])
        raise DataError(
            f"label values must be integers, found {value:g}: soft labels cannot be used; threshold them first",
            path,
        )
    found = np.unique(nearest)
    strange = [f"{value:g}" for value in found if value not in allowed]
    if strange:
        known = ", ".join(str(value) for value in allowed)
        names = ", ".join(strange[:5]) + (" ..." if len(strange) > 5 else "")
        raise DataError(f"label values {names} are not in the scheme ({known}); add or remap them", path)
    return header.grid, nearest.astype(np.int32), int((away > 0).sum())


def write_label(path: Path, label: NDArray[Any], like: Path) -> None:
    """Write a label map (x, y, z) with the geometry of the image file `like`, its header fields bit for bit.

    Only what describes the voxels' values changes: data type (uint8, or int16 where values need it), scaling,
    display range, and for a 4D image the number of dimensions.

    Raises:
        DataError: `like` cannot be read or the file cannot be written.
    """
    _write(path, label.astype(np.uint8 if label.max(initial=0) < 256 else np.int16), like)


def write_map(path: Path, values: NDArray[np.float32], like: Path) -> None:
    """Write real numbers (x, y, z) or (x, y, z, n) with the geometry of the image file `like`."""
    _write(path, values.astype(np.float32), like)


def _write(path: Path, array: NDArray[Any], like: Path) -> None:
    from frugalseg.files import write_atomic

    source = _open(like)
    header = source.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"], header["cal_max"], header["intent_code"] = 0, 0, 0
    image = type(source)(array, None, header)
    # The constructor derives both transforms anew from an affine; these are the input's own numbers.
    for field in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
        image.header[field] = source.header[field]
    for field in ("qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):
        image.header[field] = source.header[field]
    write_atomic(path, lambda temporary: nib.save(image, temporary))


def _open(path: Path) -> nib.Nifti1Image:
    if not path.exists():
        raise DataError("does not exist", path)
    require_file(path)
    require_nifti(path)
    try:
        image = nib.load(path)
    except _BROKEN as error:
        raise DataError(f"cannot be read as NIfTI ({_first_line(error)})", path) from error
    if not isinstance(image, nib.Nifti1Image):
        raise DataError(f"is {type(image).__name__}, NIfTI was expected", path)
    return image


def _describe(image: nib.Nifti1Image, path: Path) -> Header:
    shape = tuple(int(side) for side in image.shape)
    if len(shape) not in (3, 4) or min(shape, default=0) < 1:
        raise DataError(f"has shape {shape}, 3D, or 4D with channels last, was expected; convert or split it", path)
    if np.prod(np.array(shape, dtype=np.float64)) > MAX_VOXELS:
        raise DataError(
            f"claims {shape} voxels, over the limit of {MAX_VOXELS}: its header is damaged; copy it anew", path
        )
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(
            f"has voxels of type {dtype}, colours and complex numbers cannot be used; convert it to grey values",
            path,
        )
    try:
        grid = Grid((shape[0], shape[1], shape[2]), np.asarray(image.affine))
    except ValueError as error:
        raise DataError(f"has no usable geometry: {error}; correct the header, or export it anew", path) from error
    return Header(grid, shape[3] if len(shape) == 4 else 1, str(dtype))


def _voxels(image: nib.Nifti1Image, path: Path) -> NDArray[Any]:
    try:
        if path.name.lower().endswith(".gz"):
            # Read to the end, which nibabel does not: only there stands the sum that tells a damaged file.
            image = type(image).from_bytes(_whole(path, require_nifti(path).content))
        with np.errstate(over="ignore"):
            return np.asanyarray(image.dataobj)
    except (*_BROKEN, MemoryError) as error:
        raise DataError(
            f"its voxels cannot be read, it is damaged or cut short ({_first_line(error)}); copy the file anew, or "
            "take the case out of the data set",
            path,
        ) from error


def _whole(path: Path, length: int) -> bytes:
    """Return a compressed file's content, whose header tells of `length` bytes.

    Raises:
        DataError: There is much more of it.
        OSError, EOFError, zlib.error: It is damaged or cut short.
    """
    with gzip.open(path) as file:
        content = file.read(length)
        behind = 0
        while block := file.read(SPARE):
            behind += len(block)
            if behind > SPARE:
                raise DataError(
                    f"holds more than the {length} bytes that its header tells of; export it anew, or copy it anew",
                    path,
                )
    if len(content) < length:
        raise EOFError(f"{len(content)} of {length} bytes")
    return content


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
