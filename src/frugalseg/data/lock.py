"""The test lock: nothing that trains, prepares or checks gets a test label, nor (unless asked) a test image.

Two layers. `refuse_test_files` compares files by identity (device and inode), so that a symbolic or hard link and a
folder under another name are seen through; reading a data set calls it. `test_lock` compares content: a copy under
another name, compressed again or not. Test labels are compared by size and checksum and are never decoded.

Both cost a look at each file's end; whole files are hashed only where size and checksum agree.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frugalseg.data.readers import is_image, read_label
from frugalseg.errors import DataError

if TYPE_CHECKING:
    from frugalseg.data.manifest import Case, Manifest

BLOCK = 2**20
LABELS, IMAGES = "labelsTs", "imagesTs"
_SIZES = 2**32  # gzip keeps the size modulo this

Identity = tuple[int, int]


def refuse_test_files(folder: Path, training: Sequence[Case], test: Sequence[Case], where: Path) -> None:
    """Refuse training cases whose label is a test label, or whose image is a test image, whatever their path.

    Raises:
        DataError: Names the entry and what it is.
    """
    labels = _identities(_files(folder / LABELS))
    images = _identities([*_files(folder / IMAGES), *(case.image for case in test)])
    for case in training:
        for file, kind in ((case.image, "image"), (case.label, "label")):
            if file is None:
                continue
            found = _identity(file)
            if found in labels or _inside(file, folder / LABELS):
                raise DataError(
                    f"the {kind} of training case {case.name!r} is the test label "
                    f"{labels.get(found, file).name}; nothing that trains may read it: take the entry out",
                    where,
                )
            if found in images or _inside(file, folder / IMAGES):
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
    labelled = {case.image for case in manifest.labelled}
    images = [case.image for case in manifest.training if not manifest.transductive or case.image in labelled]
    test_images = {*_files(manifest.folder / IMAGES), *(case.image for case in manifest.test)}
    for image, original in _copies(images, sorted(test_images)):
        raise DataError(
            f"is a copy of the test image {original.name}; take it out of the training images "
            "(train --transductive uses test images as unlabelled ones, and says so)",
            image,
        )
    chosen = [case.label for case in manifest.labelled if case.name in readable and case.label is not None]
    for label, original in _copies(chosen, _files(manifest.folder / LABELS)):
        if not _is_empty(label, manifest.scheme.allowed):
            raise DataError(
                f"is a copy of the test label {original.name}; nothing that trains may read it: take it out", label
            )


def _is_empty(label: Path, allowed: tuple[int, ...]) -> bool:
    """Whether a training label, which may be read, has no structure."""
    try:
        return not read_label(label, allowed)[1].any()
    except DataError:
        return False


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image(path)) if folder.is_dir() else []


def _identity(path: Path) -> Identity | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino) if facts.st_ino else None


def _identities(paths: Iterable[Path]) -> dict[Identity | None, Path]:
    found = {_identity(path): path for path in paths}
    found.pop(None, None)
    return found


def _inside(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder, the file being there or not."""
    return path.resolve().is_relative_to(folder.resolve())


def _copies(files: Iterable[Path], originals: Sequence[Path]) -> Iterable[tuple[Path, Path]]:
    """Yield the files with the content of one of the originals, and that one."""
    by_size: dict[int, list[Path]] = {}
    for path in originals:
        by_size.setdefault(_size(path), []).append(path)
    by_size.pop(-1, None)
    sums: dict[Path, int] = {}

    def checksum(path: Path) -> int:
        if path not in sums:
            sums[path] = _checksum(path)
        return sums[path]

    for file in files:
        for original in by_size.get(_size(file), ()):
            if checksum(file) == checksum(original) >= 0 and _digest(file) == _digest(original) is not None:
                yield file, original


def _size(path: Path) -> int:
    """Return the size of the uncompressed content, as far as gzip keeps it; -1 if it cannot be told."""
    trailer = _trailer(path) if path.name.endswith(".gz") else None
    try:
        return path.stat().st_size % _SIZES if trailer is None else int.from_bytes(trailer[4:], "little")
    except OSError:
        return -1


def _checksum(path: Path) -> int:
    """Return the CRC-32 of the uncompressed content, which a gzip file carries at its end; -1 if unreadable."""
    if path.name.endswith(".gz") and (trailer := _trailer(path)) is not None:
        return int.from_bytes(trailer[:4], "little")
    try:
        value = 0
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                value = zlib.crc32(block, value)
        return value
    except OSError:
        return -1


def _trailer(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(-8, 2)
            return file.read(8)
    except OSError:
        return None


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of the uncompressed content; None for a file that cannot be decompressed."""
    total = hashlib.sha256()
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            while block := file.read(BLOCK):
                total.update(block)
    except (OSError, EOFError, zlib.error):
        return None
    return total.hexdigest()
