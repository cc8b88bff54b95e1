"""Reading images and label maps, with the header looked at before anything is allocated.

NIfTI is read by nibabel, here; NRRD and MetaImage by SimpleITK, in `itk`. A 2D image is one slice, (x, y, 1).
"""

from __future__ import annotations

import gzip
import logging
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from frugalseg.data import itk
from frugalseg.data.imagetypes import (
    MAX_VOXELS,
    READABLE_WORDS,
    Header,
    Kind,
    case_name,
    describe,
    image_kind,
    is_image,
    thick,
)
from frugalseg.data.nifti_header import SPARE, require_nifti
from frugalseg.errors import DataError
from frugalseg.files import require_file
from frugalseg.geometry import Grid

__all__ = [
    "MAX_VOXELS",
    "Header",
    "case_name",
    "is_image",
    "read_header",
    "read_image",
    "read_label",
    "write_label",
    "write_map",
]

LABEL_TOLERANCE = 1e-3
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it would mend was refused already
_BROKEN = (OverflowError, OSError, EOFError, zlib.error, ValueError, ImageFileError, HeaderDataError)


def read_header(path: Path) -> Header:
    """Read an image file's header.

    Raises:
        DataError: The file is missing, of no known type, claims more voxels than the limit or than it holds, is
            none of 2D, 3D and 4D, or has an affine that is singular or not finite.
    """
    if _kind(path) != "nifti":
        return itk.read_header(path)
    return _describe(_open(path), path)


def read_image(path: Path) -> tuple[Grid, NDArray[np.float32]]:
    """Read an image as float32 (channel, x, y, z); a 4D file has its channels on the last axis.

    Raises:
        DataError: As `read_header`, or the voxels are damaged, colours, or complex numbers.
    """
    header, voxels = _read(path)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
        return header.grid, np.moveaxis(voxels.astype(np.float32, copy=False), 3, 0)


def read_label(path: Path, allowed: tuple[int, ...]) -> tuple[Grid, NDArray[np.int32], int]:
    """Read a label map (x, y, z) and hold it to the scheme's values.

    Returns:
        The grid, the label values, and how many voxels were within 1e-3 of an integer and were rounded.

    Raises:
        DataError: As `read_image`, or voxels hold other values than `allowed`; these are named.
    """
    header = read_header(path)
    if header.channels != 1:
        raise DataError(
            f"a label map has one channel, this file has {header.channels}; export one map a case", path
        )
    voxels = _read(path)[1][..., 0]
    nearest, away = voxels, np.zeros(0)
    if voxels.dtype.kind not in "iu":  # whole numbers need no rounding, which takes several times their memory
        if not np.isfinite(voxels).all():
            raise DataError(
                f"{int((~np.isfinite(voxels)).sum())} label voxels are NaN or infinite; set them to 0 "
                "or to the value "
                "that they should have",
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
        raise DataError(
            f'label values {names} are not in the scheme ({known}); add them to "labels" (in dataset.json, or in '
            "the JSON beside a CSV or given by --describe), or remap them",
            path,
        )
    return header.grid, nearest.astype(np.int32), int((away > 0).sum())


def write_label(path: Path, label: NDArray[Any], like: Path) -> None:
    """Write a label map (x, y, z) with the geometry of the image file `like`, a NIfTI's header fields bit for bit.

    Only what describes the voxels' values changes: data type (uint8, or int16 where values need it), scaling,
    display range, and for a 4D image the number of dimensions. `path` is of the type of `like` (`written_suffix`).

    Raises:
        DataError: `like` cannot be read or the file cannot be written.
    """
    small = label.min(initial=0) >= 0 and label.max(initial=0) < 256  # an ignored value may be negative
    _write(path, label.astype(np.uint8 if small else np.int16), like)


def write_map(path: Path, values: NDArray[np.float32], like: Path) -> None:
    """Write real numbers (x, y, z) or (x, y, z, n) with the geometry of the image file `like`."""
    _write(path, values.astype(np.float32), like)


def _write(path: Path, array: NDArray[Any], like: Path) -> None:
    from frugalseg.files import write_atomic

    kind = _kind(like)
    if _kind(path) != kind:
        raise ValueError(f"{path.name} is of another type than {like.name}, whose geometry it is to have")
    if kind != "nifti":
        itk.write(path, array, like)
        return
    source = _open(like)
    if len(source.shape) == 2 and array.ndim == 3:
        array = array[:, :, 0]
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


def _kind(path: Path) -> Kind:
    """Return what reads the file; one of no known suffix is left to nibabel, which knows some more of NIfTI's.

    Raises:
        DataError: It keeps its voxels in another file.
    """
    kind = image_kind(path) or "nifti"
    if kind == "detached":
        raise DataError(
            f"keeps its voxels in another file, which is not followed; save it as one file ({READABLE_WORDS})", path
        )
    return kind


def _read(path: Path) -> tuple[Header, NDArray[Any]]:
    """Read header and voxels, the latter as (x, y, z, channel)."""
    if _kind(path) != "nifti":
        header, voxels = itk.read_voxels(path)
    else:
        image = _open(path)
        header = _describe(image, path)
        voxels = _voxels(image, path)
    return header, voxels.reshape(*header.grid.shape, header.channels)


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
    affine = np.array(image.affine, np.float64)
    affine[:3] *= unit_mm(image.header)
    return describe(shape, image.get_data_dtype(), thick(affine) if len(shape) == 2 else affine, path)


def unit_mm(header: Any) -> float:
    """Return the millimetres of a NIfTI header's unit of length, which nibabel leaves as it is: 1000 for metres."""
    return {1: 1e3, 3: 1e-3}.get(int(header["xyzt_units"]) & 7, 1.0)


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
