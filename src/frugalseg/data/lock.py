"""The test lock: nothing that trains, prepares or checks gets a test label, nor (unless asked) a test image.

Two layers. `refuse_test_files` compares files by identity (device and inode), so that a symbolic or hard link and a
folder under another name are seen through; reading a data set calls it. `test_lock` compares content: a copy under
another name, compressed again or not. Test labels are compared by size and checksum and are never decoded.

Both cost a look at each file's two ends; whole files are read only where a gzip file's end does not fit its
header (several members, something appended), or where size and checksum agree. Of NRRD and MetaImage files the
voxels are compared, whatever their text headers say and whether they are compressed; those of a file that has no
checksum at its end are read where the sizes agree.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frugalseg.data.attached import look, voxel_bytes
from frugalseg.data.case import Case
from frugalseg.data.imagetypes import image_kind, is_image
from frugalseg.data.layouts import table
from frugalseg.data.nifti_header import SPARE, require_nifti
from frugalseg.data.readers import read_label
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError
from frugalseg.files import read_json_object

if TYPE_CHECKING:
    from frugalseg.data.manifest import Manifest

BLOCK = 2**20
LABELS, IMAGES = "labelsTs", "imagesTs"
_SIZES = 2**32  # gzip keeps the size modulo this
_HEADER = 348  # bytes of a NIfTI-1 header
_GZIP = b"\x1f\x8b"
_UNREADABLE = (OSError, EOFError, zlib.error, DataError)

Identity = tuple[int, int]


def refuse_test_files(source: DataSource, training: Sequence[Case], test: Sequence[Case], where: Path) -> None:
    """Refuse training cases whose label is a test label, or whose image is a test image, whatever their path.

    Raises:
        DataError: Names the entry and what it is.
    """
    labels = _identities(test_label_files(source))
    images = _identities([*_test_folders(source, IMAGES), *(file for case in test for file in case.images)])
    places: dict[Path, frozenset[str]] = {}
    for case in training:
        for file, kind in (*((image, "image") for image in case.images), (case.label, "label")):
            if file is None:
                continue
            found, folders = _identity(file), _folders(file, places)
            if found in labels or LABELS in folders:
                raise DataError(
                    f"the {kind} of training case {case.name!r} is the test label "
                    f"{labels.get(found, file).name}; nothing that trains may read it: take the entry out",
                    where,
                )
            if found in images or IMAGES in folders:
                raise DataError(
                    f"the {kind} of training case {case.name!r} is the test image {images.get(found, file).name}; "
                    "take the entry out (train --transductive uses test images as unlabelled ones, and says so)",
                    where,
                )


def test_lock(manifest: Manifest, readable: Collection[str]) -> None:
    """Refuse copies: of a test label among the readable labels, of a test image among the training images.

    A label without any structure is alike in every case of its size, tells nothing, and is allowed. With
    `manifest.transductive` a test image may be an unlabelled case, never a labelled one.

    Args:
        manifest: The data set.
        readable: Names of the training cases whose labels are to be read.

    Raises:
        DataError: Names the copy and what it is a copy of.
    """
    for error in copies_of_test(manifest, readable):
        raise error


def copies_of_test(manifest: Manifest, readable: Collection[str]) -> Iterator[DataError]:
    """Yield what `test_lock` would raise, for every copy."""
    looked_at = manifest.labelled if manifest.transductive else manifest.training
    images = [file for case in looked_at for file in case.images]
    listed = (file for case in manifest.test for file in case.images)
    test_images = {*_test_folders(manifest.source, IMAGES), *listed}
    for image, original in _copies(images, sorted(test_images)):
        yield DataError(
            f"is a copy of the test image {original.name}; take it out of the training images "
            "(train --transductive uses test images as unlabelled ones, and says so)",
            image,
        )
    chosen = [case.label for case in manifest.labelled if case.name in readable and case.label is not None]
    for label, original in _copies(chosen, test_label_files(manifest.source)):
        if not _is_empty(label, manifest.scheme.allowed):
            yield DataError(
                f"is a copy of the test label {original.name}; nothing that trains may read it: take it out", label
            )


def test_label_files(source: DataSource) -> list[Path]:
    """Return the labels of a data set's test cases: in labelsTs, and those that dataset.json or a CSV names."""
    found = _test_folders(source, LABELS)
    if source.is_table:
        return [*found, *table.test_label_paths(source.path).values()]
    try:
        entries = read_json_object(source.path / "dataset.json").get("test")
    except DataError:
        entries = None
    listed = (
        [entry.get("label") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
    return [*found, *(source.path / name for name in listed if isinstance(name, str) and name)]


def _test_folders(source: DataSource, name: str) -> list[Path]:
    """Return the files in a data set's folder of that name; for a CSV or a folder of images, one beside it."""
    if source.label_maps is None and not source.is_table:
        return _files(source.path / name)
    places = [source.path.parent, *([] if source.is_table else [source.path])]
    return [file for place in places for file in _files(place / name)]


def _is_empty(label: Path, allowed: tuple[int, ...]) -> bool:
    """Whether a training label, which may be read, has no structure."""
    try:
        return not read_label(label, allowed)[1].any()
    except DataError:
        return False


def _files(folder: Path) -> list[Path]:
    return (
        sorted(path for path in folder.rglob("*") if is_image(path) and _is_file(path)) if folder.is_dir() else []
    )


def _is_file(path: Path) -> bool:
    """Whether it is a file: a pipe would keep whoever reads it waiting for ever."""
    try:
        return path.is_file()
    except (OSError, RuntimeError):
        return False


def _identity(path: Path) -> Identity | None:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return None
    return (facts.st_dev, facts.st_ino) if facts.st_ino else None


def _identities(paths: Iterable[Path]) -> dict[Identity | None, Path]:
    found = {_identity(path): path for path in paths}
    found.pop(None, None)
    return found


def _folders(path: Path, known: dict[Path, frozenset[str]]) -> frozenset[str]:
    """Return the names of the folders that a path leads through, whether the file is there or not.

    `known` keeps those of folders that were resolved already: ten thousand files lie in a few.
    """
    try:
        if path.is_symlink():
            return frozenset(path.resolve().parent.parts)
        if path.parent not in known:
            known[path.parent] = frozenset(path.parent.resolve().parts)
    except (OSError, RuntimeError, ValueError):  # a link that leads round, a name that no disk can hold
        return frozenset()
    return known[path.parent]


def _copies(files: Iterable[Path], originals: Sequence[Path]) -> Iterable[tuple[Path, Path]]:
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


class Content(NamedTuple):
    """Size in bytes (modulo 2**32) and CRC-32 of a file's uncompressed content; the sum None if not known yet.

    The content of a NIfTI file is all of it, that of a NRRD or MetaImage file its voxels.
    """

    size: int
    checksum: int | None


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
