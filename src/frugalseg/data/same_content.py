"""Copies: files of the same content under other names, compressed again or not.

Size and checksum are compared first, which costs a look at each file's two ends; whole files are read only where a
gzip file's end does not fit its header (several members, something appended), or where size and checksum agree. Of
NRRD and MetaImage files the voxels are compared, whatever their text headers say and whether they are compressed;
those of a file that has no checksum at its end are read where the sizes agree. Nothing is decoded.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from frugalseg.data.attached import look, voxel_bytes
from frugalseg.data.imagetypes import image_kind
from frugalseg.data.nifti_header import SPARE, require_nifti
from frugalseg.errors import DataError

BLOCK = 2**20
_SIZES = 2**32  # gzip keeps the size modulo this
_HEADER = 348  # bytes of a NIfTI-1 header
_GZIP = b"\x1f\x8b"
_UNREADABLE = (OSError, EOFError, zlib.error, DataError)


class Content(NamedTuple):
    """Size in bytes (modulo 2**32) and CRC-32 of a file's uncompressed content; the sum None if not known yet.

    The content of a NIfTI file is all of it, that of a NRRD or MetaImage file its voxels.
    """

    size: int
    checksum: int | None


def copies(files: Iterable[Path], originals: Sequence[Path]) -> Iterable[tuple[Path, Path]]:
    """Yield the files with the content of one of the originals, and that one."""
    by_size: dict[int, list[tuple[Path, Content]]] = {}
    for path in originals:
        if (content := _content(path)) is not None:
            by_size.setdefault(content.size, []).append((path, content))
    by_content: dict[Content, list[Path]] = {}
    for file in files:
        mine = _content(file)
        if mine is None or mine.size not in by_size:
            continue
        if waiting := by_size[mine.size]:  # their checksums are wanted now, for this file and those after it
            for original, theirs in waiting:
                by_content.setdefault(_with_checksum(original, theirs), []).append(original)
            waiting.clear()
        mine = _with_checksum(file, mine)
        for original in by_content.get(mine, ()) if mine.checksum is not None else ():
            if _digest(file) == _digest(original) is not None:
                yield file, original


def _with_checksum(path: Path, content: Content) -> Content:
    """Return the content with its checksum, which a file that cannot be read has none of."""
    return content if content.checksum is not None else _streamed(path) or content


def _content(path: Path) -> Content | None:
    """Return what is known of a file without reading it whole; None if it cannot be read.

    The end of a gzip file has both numbers, of its last member. They are believed only if the size is the one
    that the NIfTI header at the beginning tells: otherwise there are further members, or something was appended.
    """
    try:
        if _has_text_header(path):
            return _voxel_content(path)
        if not path.name.lower().endswith(".gz"):
            return Content(path.stat().st_size % _SIZES, None)
        with path.open("rb") as file:
            file.seek(-8, 2)
            trailer = file.read(8)
        size = int.from_bytes(trailer[4:], "little")
        if size == _told_size(path):
            return Content(size, int.from_bytes(trailer[:4], "little"))
    except (OSError, DataError):
        return None
    return _streamed(path)


def _has_text_header(path: Path) -> bool:
    return image_kind(path) in ("nrrd", "meta")


def _voxel_content(path: Path) -> Content:
    """Return the size of the voxels, and their checksum where they are one stream of gzip to the file's end."""
    attached = look(path)
    size = attached.size % _SIZES
    with path.open("rb") as file:
        file.seek(attached.offset)
        gzipped = attached.encoding == "deflate" and file.read(2) == _GZIP
        file.seek(-8, 2)
        trailer = file.read(8)
    if gzipped and int.from_bytes(trailer[4:], "little") == size:
        return Content(size, int.from_bytes(trailer[:4], "little"))
    return Content(size, None)


def _told_size(path: Path) -> int | None:
    """Return the size of a NIfTI file as its header tells it; None if it is no header of NIfTI-1."""
    try:
        with gzip.open(path) as file:
            header = file.read(_HEADER)
    except _UNREADABLE:
        return None
    for order in ("<", ">"):
        if len(header) == _HEADER and struct.unpack_from(order + "i", header)[0] == _HEADER:
            dim = struct.unpack_from(order + "8h", header, 40)
            bits = struct.unpack_from(order + "h", header, 72)[0]
            offset = struct.unpack_from(order + "f", header, 108)[0]
            voxels = math.prod(max(1, side) for side in dim[1 : 1 + min(7, max(0, dim[0]))])
            return (int(offset) + voxels * bits // 8) % _SIZES if math.isfinite(offset) else None
    return None


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the uncompressed content.

    Raises:
        OSError, EOFError, zlib.error, DataError: It cannot be read, or decompressed.
    """
    if _has_text_header(path):
        yield from voxel_bytes(path, look(path))
        return
    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        left = require_nifti(path).content + SPARE
        while block := file.read(BLOCK):
            if (left := left - len(block)) < 0:  # a bomb, perhaps; no reader of ours would take it
                raise DataError("holds more than its header tells of", path)
            yield block


def _streamed(path: Path) -> Content | None:
    """Return size and checksum from reading the whole content; None for a file that cannot be decompressed."""
    size = value = 0
    try:
        for block in _blocks(path):
            size, value = size + len(block), zlib.crc32(block, value)
    except _UNREADABLE:
        return None
    return Content(size % _SIZES, value)


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of the uncompressed content; None for a file that cannot be decompressed."""
    total = hashlib.sha256()
    try:
        for block in _blocks(path):
            total.update(block)
    except _UNREADABLE:
        return None
    return total.hexdigest()
