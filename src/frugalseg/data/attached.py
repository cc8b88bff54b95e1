"""NRRD and MetaImage files as they lie on disk: a text header, then the voxels, in one file.

SimpleITK reads them (`itk`); this looks first. It would allocate what a header claims, follow a header to any other
file, print a damaged stream's complaints on the terminal, and give back wrong numbers for a flipped bit. The test
lock compares two such files by the bytes of their voxels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from frugalseg.data.imagetypes import MAX_VOXELS, image_kind
from frugalseg.errors import DataError

BLOCK = 2**20
MAX_HEADER = 4 * 2**20  # bytes; a diffusion series has some hundred lines
DEFLATE_LIMIT = 1032  # no deflate stream expands more
NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
    "float": 4,
}
META_BYTES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}
VECTORS = {
    **dict.fromkeys(("DimSize", "ElementSpacing", "ElementSize"), 1),
    **dict.fromkeys(("Offset", "Position", "Origin", "CenterOfRotation"), 1),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2),
}
"""Fields of a MetaImage that hold a number for each dimension (1) or for each pair of them (2)."""
LONGEST_KEY = 200
BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
KINDS = {
    "domain",
    "space",
    "time",
    "vector",
    "list",
    "2-vector",
    "3-vector",
    "4-vector",
    "scalar",
    "stub",
    "none",
    "???",
}
"""Kinds of NRRD axes that are places or channels; the others are colours, complex numbers or matrices."""


@dataclass(frozen=True)
class Attached:
    """Where a file's voxels begin, how many bytes they are once decompressed, and how they are stored.

    `order`: of a MetaImage's bytes, as NumPy has it.
    """

    offset: int
    size: int
    encoding: Literal["raw", "deflate"]
    order: Literal["<", ">"] = "<"


def look(path: Path) -> Attached:
    """Read the text header of a NRRD or MetaImage file and hold it to the file's size.

    Raises:
        DataError: The header is malformed, names another file for the voxels, claims more than the file can hold or
            than the limit, or says that the voxels are colours, complex numbers, or stored as text.
    """
    try:
        with path.open("rb") as file:
            found = _nrrd(file, path) if image_kind(path) == "nrrd" else _meta(file, path)
        length = path.stat().st_size - found.offset
    except FileNotFoundError as error:
        raise DataError("does not exist", path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", path) from error
    if found.size > length * (1 if found.encoding == "raw" else DEFLATE_LIMIT):
        raise DataError(
            f"claims {found.size} bytes of voxels and has {length}: its voxels cannot be read, it is damaged or "
            "cut short; copy the file anew, or take the case out of the data set",
            path,
        )
    return found


def voxel_bytes(path: Path, attached: Attached) -> Iterator[bytes]:
    """Yield the bytes of the voxels, decompressed, in blocks.

    Raises:
        OSError, EOFError, zlib.error: They cannot be read, end too early, or do not have their checksum.
    """
    left = attached.size
    with path.open("rb") as file:
        file.seek(attached.offset)
        for block in _inflated(file) if attached.encoding == "deflate" else _raw(file):
            part = block[:left]
            left -= len(part)
            yield part
            if attached.encoding == "raw" and not left:
                return
            if len(part) < len(block):
                raise EOFError("more voxels than the header tells")
    if left:
        raise EOFError(f"{left} bytes of voxels are missing")


def _raw(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    """Decompress a stream of zlib or gzip, or several of gzip; zeros may follow it."""
    stream = zlib.decompressobj(47)
    begun = False
    while block := file.read(BLOCK):
        while block:
            if not begun and not block.strip(b"\0"):
                break  # padding
            begun = True
            yield stream.decompress(block, BLOCK)
            block = stream.unconsumed_tail
            if stream.eof:
                block, begun, stream = stream.unused_data, False, zlib.decompressobj(47)
    # A stream that is complete has told so by now; what is left in one that is not is a part of a block.
    if begun:
        raise EOFError("compressed voxels end too early")


def _lines(file: IO[bytes], path: Path) -> Iterator[str]:
    """Yield the lines of the header; whoever asks stops at its end."""
    while file.tell() < MAX_HEADER and (line := file.readline(MAX_HEADER)).endswith(b"\n"):
        yield line.decode("utf-8", "replace").rstrip("\r\n")
    raise DataError("its header has no end: it is damaged; copy it anew", path)


def _numbers(fields: dict[str, str], key: str, path: Path) -> list[int]:
    try:
        return [int(word) for word in fields[key].split()]
    except KeyError as error:
        raise DataError(f"has no {key!r} in its header: it is damaged; copy it anew", path) from error
    except ValueError as error:
        raise DataError(f"{key!r} in its header must be whole numbers, not {fields[key][:60]!r}", path) from error


def _sides(fields: dict[str, str], count: str, sides: str, path: Path) -> list[int]:
    dimension, sizes = _numbers(fields, count, path), _numbers(fields, sides, path)
    if dimension != [len(sizes)] or min(sizes) < 1 or math.prod(sizes) > MAX_VOXELS:
        shown = " ".join(map(str, sizes[:8]))
        raise DataError(
            f"claims sides of {shown} in {fields[count]} dimensions, over the limit of {MAX_VOXELS} voxels or none "
            "at all: its header is damaged; copy it anew",
            path,
        )
    return sizes


def _nrrd(file: IO[bytes], path: Path) -> Attached:
    if not file.readline(16).startswith(b"NRRD000"):
        raise DataError("cannot be read as NRRD (it does not begin with NRRD000)", path)
    fields: dict[str, str] = {}
    for line in _lines(file, path):
        if not line:
            break
        key, colon, value = line.partition(": ")
        if colon and not line.startswith("#") and ":=" not in key:
            fields[key.strip().lower()] = value.strip()
    _refuse_detached("data file" in fields or "datafile" in fields, path)
    sizes = _sides(fields, "dimension", "sizes", path)
    kind = fields.get("type", "nothing").lower()
    if kind not in NRRD_BYTES:
        raise DataError(f"has voxels of type {kind[:40]!r}, which cannot be used; convert it to grey values", path)
    if strange := [word for word in fields.get("kinds", "").lower().split() if word not in KINDS]:
        raise DataError(
            f"has an axis of kind {strange[0][:40]!r}; colours, complex numbers and matrices cannot be used; "
            "convert it to grey values",
            path,
        )
    encoding = fields.get("encoding", "").lower()
    skips = {fields.get(key, "0") for key in ("line skip", "lineskip", "byte skip", "byteskip")}
    if encoding not in ("raw", "gzip", "gz") or skips != {"0"}:
        raise DataError(
            f"stores its voxels as {encoding[:40]!r}; save it as raw or gzip, with nothing to skip", path
        )
    size = math.prod(sizes) * NRRD_BYTES[kind]
    return Attached(file.tell(), size, "raw" if encoding == "raw" else "deflate")


def _meta(file: IO[bytes], path: Path) -> Attached:
    fields: dict[str, str] = {}
    for line in _lines(file, path):
        key, equals, value = line.partition("=")
        if not line.replace(
            "\t", " "
        ).isprintable():  # SimpleITK would read another key or file name than is seen here
            raise DataError("has control characters in its header: it is damaged; copy it anew", path)
        if not equals:
            raise DataError("cannot be read as MetaImage (a line of its header is no KEY = VALUE)", path)
        if len(key) > LONGEST_KEY:
            raise DataError(f"has a key of {len(key)} characters in its header: it is damaged; copy it anew", path)
        if key.strip() in fields:
            raise DataError(
                f"names {key.strip()[:60]!r} twice in its header; take one out, or export it anew", path
            )
        fields[key.strip()] = value.strip()
        if power := VECTORS.get(key.strip()):
            _require_numbers(key.strip(), value, _numbers(fields, "NDims", path), power, path)
        if key.strip() == "ElementDataFile":
            break
    _refuse_detached(fields.get("ElementDataFile") != "LOCAL", path)
    sizes = _sides(fields, "NDims", "DimSize", path)
    kind = fields.get("ElementType", "nothing")
    if fields.get("ObjectType", "Image") != "Image" or kind not in META_BYTES:
        raise DataError(f"has voxels of type {kind[:40]!r}, which cannot be used; convert it to grey values", path)
    if fields.get("BinaryData", "True").lower()[:1] not in ("t", "1") or fields.get("HeaderSize", "0") != "0":
        raise DataError("stores its voxels as text or after a gap; save it anew in binary form", path)
    channels = _numbers({"ElementNumberOfChannels": "1", **fields}, "ElementNumberOfChannels", path)
    if len(channels) != 1 or not 1 <= channels[0] * math.prod(sizes) <= MAX_VOXELS:
        raise DataError(f"claims {channels} channels: its header is damaged; copy it anew", path)
    size = math.prod(sizes) * channels[0] * META_BYTES[kind]
    packed = fields.get("CompressedData", "False").lower()[:1] in ("t", "1")
    orders = {fields[key].lower()[:1] in ("t", "1") for key in BYTE_ORDERS if fields.get(key)}
    if len(orders) > 1:
        raise DataError(f"says two orders of its bytes ({' and '.join(BYTE_ORDERS)}); export it anew", path)
    return Attached(file.tell(), size, "deflate" if packed else "raw", ">" if True in orders else "<")


def _require_numbers(key: str, value: str, dimension: list[int], power: int, path: Path) -> None:
    """Refuse what SimpleITK would refuse with lines of its own on the terminal, or take for zeros."""
    count = dimension[0] ** power if len(dimension) == 1 else 0
    try:
        numbers = [float(word) for word in value.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise DataError(f"{key!r} in its header must be {count} numbers, not {value.strip()[:60]!r}", path)


def _refuse_detached(detached: bool, path: Path) -> None:
    if detached:
        raise DataError(
            "keeps its voxels in another file, which is not followed; save it as one file (.nrrd, .mha, .nii.gz)",
            path,
        )
