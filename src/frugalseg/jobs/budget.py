"""A data set whose files are all there, and whose labels a run may read."""

from __future__ import annotations

from pathlib import Path

from frugalseg.data.budget import Split, make_split, read_names
from frugalseg.data.manifest import DataSource, Manifest, read_manifest, require_files, with_test_images
from frugalseg.errors import UserError


def budget_of(
    data: Path | DataSource,
    labels: int | None,
    seed: int,
    labelled: Path | None,
    validation: int | str = 0,
    transductive: bool = False,
) -> tuple[Manifest, Split]:
    """Return the data set and whose labels may be read; the arguments are those of `train`.

    Raises:
        UserError: The budget cannot be had.
        DataError: A file is missing or the data set is not what it says.
    """
    manifest = manifest_of(data, transductive)
    named = read_names(labelled) if labelled is not None else None
    if named is not None and labels is not None:
        raise UserError("give --labels or --labelled, not both", "--labels")
    return manifest, make_split(manifest, labels, seed, named, validation)


def manifest_of(data: Path | DataSource, transductive: bool = False) -> Manifest:
    """Return the data set, whose files are all there; with the test cases' images among the training ones if asked.

    Raises:
        DataError: A file is missing or the data set is not what it says.
    """
    manifest = read_manifest(data)
    require_files(manifest)
    return with_test_images(manifest) if transductive else manifest
