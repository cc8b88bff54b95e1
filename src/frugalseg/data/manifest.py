"""A data set on disk: which cases there are, what each is for, and what its labels mean.

Layout of the Medical Segmentation Decathlon: `dataset.json` with "modality", "labels", "training" and "test",
images 3D or 4D with channels last. It may add "regions", "regions_class_order", "groups" (case to patient),
"annotated_classes" (case to the structures that its label shows) and "ignore" (the value of unknown voxels).
A training entry with a label is labelled; every other image in imagesTr or imagesUn is unlabelled.

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
from frugalseg.data.lock import LABELS, refuse_test_files
from frugalseg.data.names import require_apart, require_case_name
from frugalseg.data.readers import case_name, is_image
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError
from frugalseg.files import read_json_object, require_file

MAX_CASES = 100_000


@dataclass(frozen=True)
class Case:
    """One image, and its label map if it has one. `group` is the patient; by default the case itself.

    `images`: one file with all channels, or one file a channel in the data set's order.
    `annotated`: the structures that its label shows, where they are known; None: all of them.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    group: str
    annotated: tuple[str, ...] | None = None

    @property
    def image(self) -> Path:
        """The file that gives the case its grid: the only one, or the first channel's."""
        return self.images[0]


@dataclass(frozen=True)
class Manifest:
    """A data set: `training` holds labelled and unlabelled cases by name, `test` cases never have a label here.

    `transductive`: the test cases' images are among the unlabelled training cases, because the user asked for that.
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

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The training cases that have a label map."""
        return tuple(case for case in self.training if case.label is not None)


def read_manifest(folder: Path) -> Manifest:
    """Read `folder`/dataset.json and find the images beside it.

    Raises:
        DataError: There is no such folder or file, it is malformed, names the same case twice, names a file
            outside the folder, or leaves no training image; or a case or structure under "annotated_classes"
            does not exist.
    """
    if not folder.is_dir():
        raise DataError("is not a folder; expected a data set with dataset.json, imagesTr and labelsTr", folder)
    path = folder / "dataset.json"
    if not path.exists():
        raise DataError(
            "has no dataset.json; expected a data set in the layout of the Medical Segmentation Decathlon "
            "(dataset.json, imagesTr, labelsTr): give its folder, or write one as docs/data.md shows",
            folder,
        )
    content = read_json_object(path)
    channels = _channels(content, path)
    groups = content.get("groups") or {}
    if not isinstance(groups, dict):
        raise DataError(f"groups must be an object of case names and patients, not {kind_of(groups)}", path)
    for name, patient in groups.items():
        if not isinstance(patient, str | int) or isinstance(patient, bool):
            raise DataError(f"groups of case {name!r} is {kind_of(patient)}, a patient's name was expected", path)
    for key in ("name", "licence", "license", "description"):
        if not isinstance(content.get(key) or "", str | int | float):
            raise DataError(f'"{key}" is {kind_of(content[key])}, text was expected', path)
    training = _training(folder, content, groups, path)
    test = _test(folder, content, groups, path)
    if not training:
        raise DataError("names no training image, and imagesTr and imagesUn hold none; put images there", path)
    known = {case.name for case in training}
    both = known & {case.name for case in test}
    if both:
        raise DataError(f"case {sorted(both)[0]!r} is both a training and a test case; take it out of one", path)
    strangers = sorted(set(groups) - known - {case.name for case in test})
    if strangers:
        raise DataError(f"groups names {strangers[0]!r}, which is no case of this data set; correct it", path)
    require_apart((case.name for case in (*training, *test)), path)
    refuse_test_files(folder, training, test, path)
    validation = _validation(content.get("validation") or [], path)
    if tested := sorted(set(validation) & {case.name for case in test}):
        raise DataError(f"validation names the test case {tested[0]!r}, whose label no run may read", path)
    if strange := sorted(set(validation) - {case.name for case in training if case.label is not None}):
        raise DataError(f"validation names {strange[0]!r}, which is no labelled training case; correct it", path)
    scheme = LabelScheme.from_json(content, str(path))
    names = {case.name for case in (*training, *test)}
    unlabelled = {case.name for case in training if case.label is None}
    annotated = read_annotated(content.get(KEY), scheme, names, unlabelled, path)
    training, test = _with_annotated(training, annotated), _with_annotated(test, annotated)
    every = [*training, *test]
    missing = [p for case in every for p in (*case.images, case.label) if p is not None and not _is_file(p)]
    return Manifest(
        folder=folder,
        name=str(content.get("name") or folder.resolve().name),
        channels=channels,
        scheme=scheme,
        training=training,
        test=test,
        validation=validation,
        licence=str(content.get("licence") or content.get("license") or ""),
        missing=tuple(missing),
    )


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
            f"is named in dataset.json but does not exist{more}; put it there, or take its entry out",
            manifest.missing[0],
        )


def with_test_images(manifest: Manifest) -> Manifest:
    """Return the data set with the test cases' images as further unlabelled training cases (--transductive).

    Raises:
        DataError: There is no test case.
    """
    if not manifest.test:
        raise DataError("has no test case whose image --transductive could use", manifest.folder)
    training = sorted((*manifest.training, *manifest.test), key=lambda case: case.name)
    return replace(manifest, training=tuple(training), transductive=True)


def test_labels(folder: Path) -> Path:
    """Return the folder of the test cases' labels. Only `evaluate` may call it (and the demo, on its own data)."""
    return folder / LABELS


def _with_annotated(cases: tuple[Case, ...], annotated: dict[str, tuple[str, ...]]) -> tuple[Case, ...]:
    return tuple(replace(case, annotated=annotated.get(case.name)) for case in cases)


def _channels(content: dict[str, Any], path: Path) -> tuple[str, ...]:
    channels = content.get("modality") or content.get("channel_names")
    if not isinstance(channels, dict) or not channels:
        raise DataError('has no "modality", an object such as {"0": "MRI"}', path)
    if sorted(channels) != sorted(str(index) for index in range(len(channels))):
        raise DataError(
            f'"modality" must number its channels 0 to {len(channels) - 1}, not {", ".join(map(str, channels))}',
            path,
        )
    for number, name in channels.items():
        if not isinstance(name, str) or not name.strip():
            raise DataError(f'"modality" names channel {number} {name!r}; a name was expected', path)
    names = tuple(channels[str(index)] for index in range(len(channels)))
    if len(set(names)) < len(names):
        raise DataError(f'"modality" names a channel twice: {", ".join(names)}; rename one', path)
    return names


def _validation(given: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise DataError(f"validation must be a list of names of cases, not {kind_of(given)}", path)
    for name in given:
        if given.count(name) > 1:
            raise DataError(f"validation names {name!r} twice; once is enough", path)
    return tuple(given)


def kind_of(value: Any) -> str:
    """Say in words what kind of JSON value it is."""
    kinds = {"list": "a list", "dict": "an object", "str": "text", "bool": "yes or no", "NoneType": "nothing"}
    return kinds.get(type(value).__name__, "a number")


def _inside(folder: Path, entry: Any, path: Path) -> Path:
    """Turn an entry of dataset.json into a path below the data folder."""
    if not isinstance(entry, str) or not entry or "\0" in entry or len(entry) > 4096:
        told = f"a file name was expected, not {str(entry)[:60]!r}; give a path below the data folder"
        raise DataError(told, path)
    relative = Path(entry)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{entry!r} leaves the data folder; copy the file into it, or link it there", path)
    if (longest := max((len(os.fsencode(part)) for part in relative.parts), default=0)) > 255:
        raise DataError(
            f"{entry[:60]!r}... which is no name of a file ({longest} bytes, 255 are the most); correct it", path
        )
    return folder / relative


def _entries(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    entries = content.get(key) or []
    if not isinstance(entries, list) or len(entries) > MAX_CASES:
        raise DataError(f'"{key}" must be a list of at most {MAX_CASES} entries', path)
    return entries


def _training(folder: Path, content: dict[str, Any], groups: dict[str, Any], path: Path) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for entry in _entries(content, "training", path):
        pair = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(pair, dict) or "image" not in pair:
            raise DataError(
                'an entry of "training" has no "image" or is no object; name its "image", and its '
                '"label" if it has one',
                path,
            )
        image = _inside(folder, pair["image"], path)
        if pair.get("label") is not None and not isinstance(pair["label"], str):
            raise DataError(
                f"the label of {str(pair['image'])[:60]!r} is {kind_of(pair['label'])}, a file name was expected",
                path,
            )
        label = _inside(folder, pair["label"], path) if pair.get("label") else None
        _add(cases, image, label, groups, path)
    for sub in ("imagesTr", "imagesUn"):
        for image in sorted((folder / sub).glob("*")) if (folder / sub).is_dir() else ():
            if is_image(image) and not any(image in case.images for case in _same(cases, image)):
                _add(cases, image, None, groups, path)
    return tuple(cases[name] for name in sorted(cases))


def _test(folder: Path, content: dict[str, Any], groups: dict[str, Any], path: Path) -> tuple[Case, ...]:
    cases: dict[str, Case] = {}
    for entry in _entries(content, "test", path):
        image = entry.get("image") if isinstance(entry, dict) else entry
        _add(cases, _inside(folder, image, path), None, groups, path)
    return tuple(cases[name] for name in sorted(cases))


def _same(cases: dict[str, Case], image: Path) -> list[Case]:
    found = cases.get(case_name(image))
    return [] if found is None else [found]


def _add(cases: dict[str, Case], image: Path, label: Path | None, groups: dict[str, Any], path: Path) -> None:
    name = case_name(image)
    require_case_name(name, str(image))
    if name in cases:
        raise DataError(
            f"case {name!r} appears twice ({cases[name].image.name} and {image.name}); take one out", path
        )
    cases[name] = Case(name, (image,), label, str(groups.get(name, name)))
