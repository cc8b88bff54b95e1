"""The test lock: nothing that trains, prepares or checks gets a test label, nor (unless asked) a test image.

Two layers. `refuse_test_files` compares files by identity (device and inode), so that a symbolic or hard link and a
folder under another name are seen through; reading a data set calls it. `test_lock` compares content: a copy under
another name, compressed again or not. Test labels are compared by size and checksum and are never decoded.

Both cost a look at each file's two ends (`same_content` says when more is read).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frugalseg.data.case import Case
from frugalseg.data.imagetypes import is_image
from frugalseg.data.layouts import table
from frugalseg.data.readers import read_label
from frugalseg.data.same_content import copies
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError
from frugalseg.files import read_json_object

if TYPE_CHECKING:
    from frugalseg.data.manifest import Manifest

LABELS, IMAGES = "labelsTs", "imagesTs"

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
    for image, original in copies(images, sorted(test_images)):
        yield DataError(
            f"is a copy of the test image {original.name}; take it out of the training images "
            "(train --transductive uses test images as unlabelled ones, and says so)",
            image,
        )
    chosen = [case.label for case in manifest.labelled if case.name in readable and case.label is not None]
    for label, original in copies(chosen, test_label_files(manifest.source)):
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
