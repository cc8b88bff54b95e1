"""NRRD and MetaImage files, read and written by SimpleITK; its millimetres (LPS) are turned to RAS+.

SimpleITK is imported when the first such file is opened: it takes half a second.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.attached import look, voxel_bytes
from frugalseg.data.imagetypes import Header, describe, image_kind
from frugalseg.errors import DataError
from frugalseg.files import write_atomic

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_READERS = {"nrrd": "NrrdImageIO", "meta": "MetaImageIO"}


def read_header(path: Path) -> Header:
    """Read the header of a NRRD or MetaImage file.

    Raises:
        DataError: It is malformed, or claims what cannot be used or what the file does not hold.
    """
    look(path)
    return _header(_information(path), path)


def read_voxels(path: Path) -> tuple[Header, NDArray[Any]]:
    """Read the voxels, too: (x, y), (x, y, z) or (x, y, z, channel), as they are stored.

    Raises:
        DataError: As `read_header`, or the voxels are damaged.
    """
    import SimpleITK as sitk

    attached = look(path)
    reader = _information(path)
    header = _header(reader, path)
    components = reader.GetNumberOfComponents()
    try:
        if attached.encoding == "deflate" and image_kind(path) == "meta":
            # SimpleITK believes the number of compressed bytes that the header tells, or that it does not tell, and
            # gives back wrong numbers without an error.
            content = b"".join(voxel_bytes(path, attached))
            sides = (*reversed(reader.GetSize()), *([] if components == 1 else [components]))
            stored = np.frombuffer(content, np.dtype(header.dtype).newbyteorder(attached.order))
            array = stored.reshape(sides).astype(header.dtype, copy=False)
        else:
            if attached.encoding == "deflate":
                for _ in voxel_bytes(path, attached):
                    continue  # SimpleITK gives back whatever a damaged stream decompresses to
            array = sitk.GetArrayFromImage(reader.Execute())
    except (OSError, EOFError, zlib.error, MemoryError, RuntimeError, ValueError) as error:
        raise DataError(
            f"its voxels cannot be read, it is damaged or cut short ({_reason(error)}); copy the file anew, or "
            "take the case out of the data set",
            path,
        ) from error
    places = array.ndim - (components > 1)
    return header, array.transpose(*reversed(range(places)), *([places] if components > 1 else []))


def write(path: Path, array: NDArray[Any], like: Path) -> None:
    """Write (x, y, z) or (x, y, z, n) with the geometry of `like`; a 2D file for a 2D one.

    Raises:
        DataError: `like` cannot be read, or the file cannot be written.
    """
    import SimpleITK as sitk

    look(like)
    reader = _information(like)
    flat = reader.GetDimension() == 2
    vector = array.ndim == 4
    if flat:
        array = array[:, :, 0]
    places = array.ndim - vector
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(array.transpose(*reversed(range(places)), *([places] if vector else []))),
        isVector=vector,
    )
    dimension = reader.GetDimension()
    image.SetSpacing(reader.GetSpacing()[:places])
    image.SetOrigin(reader.GetOrigin()[:places])
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:places, :places]
    image.SetDirection([float(value) for value in direction.ravel()])

    def save(temporary: Path) -> None:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(_reason(error)) from error

    write_atomic(path, save)


def _information(path: Path) -> Any:
    """Return SimpleITK's reader after it has read the header."""
    import SimpleITK as sitk

    sitk.ProcessObject.GlobalWarningDisplayOff()  # warnings would go to the terminal, past everything of ours
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_READERS[str(image_kind(path))])
    try:
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError) as error:
        raise DataError(f"its header cannot be read ({_reason(error)})", path) from error
    return reader


def _header(reader: Any, path: Path) -> Header:
    import SimpleITK as sitk

    dimension, components = reader.GetDimension(), reader.GetNumberOfComponents()
    shape = tuple(int(side) for side in reader.GetSize())
    if components > 1 and dimension == 4:
        raise DataError("has channels and a fourth dimension; split it", path)
    if components > 1:
        shape = (*shape, *(1,) * (3 - dimension), components)
    affine = np.eye(4)
    places = min(dimension, 3)
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:places, :places]
    affine[:places, :places] = direction * np.array(reader.GetSpacing()[:places])
    affine[:places, 3] = reader.GetOrigin()[:places]
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    dtype = np.dtype(_TYPES.get(kind.removeprefix("vector of "), "V1"))
    header = describe(shape, dtype, LPS_TO_RAS @ affine, path)
    return Header(header.grid, header.channels, header.dtype, places)


_TYPES = {
    **{f"{bits}-bit signed integer": f"i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"{bits}-bit unsigned integer": f"u{bits // 8}" for bits in (8, 16, 32, 64)},
    "32-bit float": "f4",
    "64-bit float": "f8",
}


def _reason(error: BaseException) -> str:
    """Return the last line of an error's text: SimpleITK's begin with its source file and end with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
