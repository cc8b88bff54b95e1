"""A data set: which cases there are, what each is for, and what its labels mean.

It lies on disk in one of the layouts of `layouts`: a folder with dataset.json as the Medical Segmentation Decathlon
or nnU-Net v2 have it, a CSV of paths, or a folder of images and one of label maps. Any may add "regions",
"regions_class_order", "groups" (case to patient), "validation", "annotated_classes" (case to the structures that
its label shows) and "ignore" (the value of unknown voxels).

The manifest knows the images of the test cases and not their labels: those paths are made in one place only,
`test_labels`, which nothing but `evaluate` calls (and the demo, to score a threshold on data that it made itself);
`lock` refuses training cases that are test cases in disguise.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frugalseg.data.annotated import KEY, read_annotated
from frugalseg.data.case import Case
from frugalseg.data.layouts import decathlon, folders, nnunet, table
from frugalseg.data.layouts.listing import Listing, images_by_name
from frugalseg.data.lock import LABELS, refuse_test_files
from frugalseg.data.names import kind_of, require_apart
from frugalseg.data.region_labels import expand_regions
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError
from frugalseg.files import read_json_object, require_file

__all__ = [
    "Case",
    "DataSource",
    "Manifest",
    "read_manifest",
    "require_files",
    "test_labels",
    "with_test_images",
]

DATASET = "dataset.json"


@dataclass(frozen=True)
class Manifest:
    """A data set: `training` holds labelled and unlabelled cases by name, `test` cases never have a label here.

    `transductive`: the test cases' images are among the unlabelled training cases, because the user asked for that.
    `where`: the file (or folder) that lists the cases, for messages.
    """

    folder: Path
    name: str
    channels: tuple[str, ...]
    scheme: LabelScheme
    training: tuple[Case, ...]
    test: tuple[Case, ...]
    validation: tuple[str, ...] = ()
    licence: str = ""
    missing: tuple[Path, ...] = field(default=(), compare=False)
    transductive: bool = False
    source: DataSource = field(default=DataSource(Path()), compare=False)
    where: Path = field(default=Path("dataset.json"), compare=False)

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The training cases that have a label map."""
        return tuple(case for case in self.training if case.label is not None)


def read_manifest(data: Path | DataSource) -> Manifest:
    """Read what a data set says of itself, and find its files; no image is opened.

    Raises:
        DataError: There is no such folder or file, it is malformed or a mixture of layouts, names the same case
            twice, names a file outside the folder, or leaves no training image; or a case or structure under
            "annotated_classes" does not exist.
    """
    source = DataSource.of(data)
    listing = _listing(source)
    path, content, training, test = listing.where, dict(listing.content), listing.training, listing.test
    if not training:
        raise DataError(
            "names no training image, and there is none in imagesTr and imagesUn; put images there", path
        )
    known = {case.name for case in training}
    tested = {case.name for case in test}
    if both := sorted(known & tested):
        raise DataError(f"case {both[0]!r} is both a training and a test case; take it out of one", path)
    if strangers := sorted(set(listing.groups) - known - tested):
        raise DataError(f"groups names {strangers[0]!r}, which is no case of this data set; correct it", path)
    require_apart(known | tested, path)
    for key in ("name", "licence", "license", "description"):
        if not isinstance(content.get(key) or "", str | int | float):
            raise DataError(f'"{key}" is {kind_of(content[key])}, text was expected', path)
    refuse_test_files(source, training, test, path)
    validation = listing.validation or _names(content.get("validation"), path)
    if wrong := sorted(set(validation) & tested):
        raise DataError(f"validation names the test case {wrong[0]!r}, whose label no run may read", path)
    if strange := sorted(set(validation) - {case.name for case in training if case.label is not None}):
        raise DataError(f"validation names {strange[0]!r}, which is no labelled training case; correct it", path)
    scheme = LabelScheme.from_json(expand_regions(content, path), str(path))
    unlabelled = {case.name for case in training if case.label is None}
    said = listing.annotated if listing.annotated is not None else content.get(KEY)
    annotated = read_annotated(said, scheme, known | tested, unlabelled, path)
    training, test = _with_annotated(training, annotated), _with_annotated(test, annotated)
    every = [*training, *test]
    missing = [p for case in every for p in (*case.images, case.label) if p is not None and not _is_file(p)]
    return Manifest(
        folder=listing.folder,
        name=str(content.get("name") or (source.path.stem if source.is_table else source.path.resolve().name)),
        channels=listing.channels,
        scheme=scheme,
        training=training,
        test=test,
        validation=validation,
        licence=str(content.get("licence") or content.get("license") or ""),
        missing=tuple(missing),
        source=source,
        where=path,
    )


def _listing(source: DataSource) -> Listing:
    """Tell the layout from what is there, and read it."""
    folder = source.path
    if source.label_maps is not None:
        if source.is_table or (folder / DATASET).exists():
            raise DataError(
                "lists its label maps itself; take --label-maps away, or give a folder of images", folder
            )
        return folders.read(source)
    if source.is_table:
        return table.read(source)
    if not folder.is_dir():
        raise DataError(
            "is not a folder; expected a data set with dataset.json, imagesTr and labelsTr, or a CSV of paths",
            folder,
        )
    path = folder / DATASET
    if not path.exists():
        raise DataError(
            "has no dataset.json; expected a data set in the layout of the Medical Segmentation Decathlon "
            "(dataset.json, imagesTr, labelsTr) or of nnU-Net: give its folder, write one as docs/data.md shows, "
            "give a CSV of paths, or say with --label-maps where the labels of this folder of images are",
            folder,
        )
    if source.describe is not None:
        raise DataError(f"is not needed: {path} says what the labels mean; take --describe away", source.describe)
    content = read_json_object(path)
    nnunet_keys = [key for key in ("file_ending", "dataset") if key in content]
    others = [key for key in ("modality", "training", "test") if content.get(key)]
    if nnunet_keys and others:
        raise DataError(
            f'is a mixture: "{nnunet_keys[0]}" is of nnU-Net\'s layout, "{others[0]}" of the Decathlon\'s; '
            "keep the keys of one of them, as docs/data.md shows",
            path,
        )
    if nnunet_keys:
        return nnunet.read(folder, content, path)
    if "channel_names" in content and not others:
        raise DataError(
            'has "channel_names" as nnU-Net has it, but no "file_ending" (nor "training", as the Decathlon has it)'
            '; add it, for instance "file_ending": ".nii.gz"',
            path,
        )
    return decathlon.read(folder, content, path)


def _names(value: Any, path: Path) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DataError(f"validation must be a list of names of cases, not {kind_of(value)}", path)
    for name in value:
        if value.count(name) > 1:
            raise DataError(f"validation names {name!r} twice; once is enough", path)
    return tuple(value)


def _leads_round(path: Path) -> bool:
    """Whether it is a link that leads to itself, so that it is neither there nor missing."""
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, RuntimeError):  # a link that leads round, a name that no disk can hold
        return False


def require_files(manifest: Manifest) -> None:
    """Refuse a data set that names files which are not there.

    Raises:
        DataError: Names the first missing file and how many there are.
    """
    if manifest.missing:
        if os.path.exists(manifest.missing[0]) or _leads_round(manifest.missing[0]):
            require_file(manifest.missing[0])
        more = f" ({len(manifest.missing)} such files in all)" if len(manifest.missing) > 1 else ""
        raise DataError(
            f"is named in {manifest.where.name} but does not exist{more}; put it there, or take its entry out",
            manifest.missing[0],
        )


def with_test_images(manifest: Manifest) -> Manifest:
    """Return the data set with the test cases' images as further unlabelled training cases (--transductive).

    Raises:
        DataError: There is no test case.
    """
    if not manifest.test:
        raise DataError("has no test case whose image --transductive could use", manifest.where)
    training = sorted((*manifest.training, *manifest.test), key=lambda case: case.name)
    return replace(manifest, training=tuple(training), transductive=True)


def test_labels(data: Path | DataSource) -> dict[str, Path]:
    """Return the labels of the test cases by case: a CSV's test rows, or the files in a data set's labelsTs.

    Only `evaluate` may call it (and the demo, on its own data).

    Raises:
        DataError: Two files are the label of one case, or the CSV is malformed.
    """
    source = DataSource.of(data)
    if source.is_table:
        return table.test_label_paths(source.path)
    return images_by_name(source.path / LABELS)


def _with_annotated(cases: tuple[Case, ...], annotated: dict[str, tuple[str, ...]]) -> tuple[Case, ...]:
    return tuple(replace(case, annotated=annotated.get(case.name)) for case in cases)
