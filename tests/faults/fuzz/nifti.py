"""NIfTI files: the first byte says whether the rest is written as it is, compressed, or is the compressed file."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.data.readers import read_header, read_image, read_label
    from frugalseg.errors import UserError


def target(data: bytes, folder: Path) -> None:
    """Read header, image and label."""
    if not data:
        return
    mode, content = data[0] % 3, data[1:]
    path = folder / ("a.nii" if mode == 0 else "a.nii.gz")
    path.write_bytes(gzip.compress(content, 1) if mode == 1 else content)
    refusals = []
    for read in (read_header, read_image, lambda file: read_label(file, (0, 1))):
        try:
            read(path)
        except UserError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def seeds() -> Iterator[bytes]:
    """Yield small sound files of several kinds."""
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for dtype in (np.uint8, np.int16, np.float32, np.float64, np.complex64):
        for shape in ((3, 4, 2), (3, 4, 2, 2), (3, 4)):
            voxels = np.ones(shape, dtype)
            for image in (nib.Nifti1Image(voxels, affine), nib.Nifti2Image(voxels, affine)):
                for mode in (0, 1):
                    yield bytes([mode]) + image.to_bytes()
    content = nib.Nifti1Image(np.ones((3, 4, 2), np.int16), affine, nib.Nifti1Header(endianness=">")).to_bytes()
    yield b"\0" + content
    yield b"\2" + gzip.compress(content)
    extended = nib.Nifti1Image(np.ones((3, 4, 2), np.int16), affine)
    extended.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made by hand"))
    yield b"\1" + extended.to_bytes()
    plain = bytearray(nib.Nifti1Image(np.ones((3, 4, 2), np.int16), affine).to_bytes())
    struct.pack_into("<2h", plain, 252, 1, 0)
    yield b"\1" + bytes(plain)
    struct.pack_into("<2h", plain, 252, 0, 0)
    yield b"\1" + bytes(plain)


if __name__ == "__main__":
    start("nifti", target, seeds(), [b"n+1", b"n+2", b"ni1", b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\xff\xff\xff\x7f"])
