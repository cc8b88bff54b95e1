"""NRRD and MetaImage files: the first byte says which."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.data.readers import read_header, read_image, read_label
    from frugalseg.errors import UserError

NRRD = (
    "NRRD0004\ntype: {type}\ndimension: 3\nspace: left-posterior-superior\nsizes: 3 4 2\n"
    "space directions: (1,0,0) (0,2,0) (0,0,3)\nkinds: domain domain domain\nendian: little\nencoding: {encoding}\n"
    "space origin: (1,2,3)\n\n"
)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {packed}\n"
    "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 2 3\nCenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\n"
    "ElementSpacing = 1 2 3\nDimSize = 3 4 2\nElementType = {type}\nElementDataFile = LOCAL\n"
)
WORDS = [
    "type",
    "dimension",
    "sizes",
    "space",
    "spacings",
    "kinds",
    "endian",
    "encoding",
    "origin",
    "directions",
    "raw",
    "gzip",
    "ascii",
    "hex",
    "bzip2",
    "none",
    "nan",
    "inf",
    "-1",
    "0",
    "65536",
    "4294967296",
    "short",
    "float",
    "double",
    "uchar",
    "MET_SHORT",
    "MET_FLOAT",
    "MET_UCHAR_ARRAY",
    "NDims",
    "DimSize",
    "ElementSpacing",
    "TransformMatrix",
    "ElementNumberOfChannels",
    "HeaderSize",
    "LOCAL",
    "LIST",
    "CompressedDataSize",
    "vector",
    "RGB-color",
    "list",
]


def target(data: bytes, folder: Path) -> None:
    """Read header, image and label."""
    if not data:
        return
    path = folder / ("a.nrrd" if data[0] % 2 else "a.mha")
    path.write_bytes(data[1:])
    refusals = []
    for read in (read_header, read_image, lambda file: read_label(file, (0, 1))):
        try:
            read(path)
        except UserError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def seeds() -> Iterator[bytes]:
    """Yield small sound files, compressed and not."""
    import gzip

    for kind, met, dtype in (
        ("short", "MET_SHORT", "<i2"),
        ("float", "MET_FLOAT", "<f4"),
        ("uchar", "MET_UCHAR", "u1"),
    ):
        voxels = np.ones(24, dtype).tobytes()
        yield b"\1" + NRRD.format(type=kind, encoding="raw").encode() + voxels
        yield b"\1" + NRRD.format(type=kind, encoding="gzip").encode() + gzip.compress(voxels)
        yield b"\0" + META.format(type=met, packed="False").encode() + voxels
        yield b"\0" + META.format(type=met, packed="True").encode() + zlib.compress(voxels)


if __name__ == "__main__":
    start("images", target, seeds(), WORDS)
