"""What a layout says: which cases there are and what each is for; and how files become cases."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frugalseg.data.case import Case
from frugalseg.data.imagetypes import case_name, is_image
from frugalseg.data.names import kind_of, require_case_name
from frugalseg.errors import DataError, did_you_mean

MAX_CASES = 100_000
MAX_CHANNELS = 1000
SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$", re.ASCII)
"""A case's name and the number of the channel, as nnU-Net ends the names of its images."""


@dataclass(frozen=True)
class Listing:
    """The cases of a data set as its layout lists them.

    Attributes:
        folder: What paths are shown relative to.
        where: The file or folder that says all this, for messages.
        content: Labels, regions, groups and so on, with the keys of dataset.json.
        channels: Names, in order.
        training: Labelled and unlabelled cases, by name.
        test: Cases without their labels, by name.
        validation: Names of the cases that are meant for choosing a checkpoint.
        groups: Case to patient.
        annotated: Case to names of structures, as `annotated_classes` has it; None: nothing said.
    """

    folder: Path
    where: Path
    content: Mapping[str, Any]
    channels: tuple[str, ...]
    training: tuple[Case, ...]
    test: tuple[Case, ...]
    validation: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    annotated: Any = None


class Cases:
    """Cases by name, none twice, none with a name that could not be a file's.

    Args:
        where: The file that lists them, for messages.
        groups: Case to patient.
    """

    def __init__(self, where: Path, groups: Mapping[str, str]) -> None:
        self.where, self.groups = where, groups
        self.by_name: dict[str, Case] = {}
        self.used: set[Path] = set()

    def add(self, name: str, images: Sequence[Path | None], label: Path | None, at: str = "") -> None:
        """Add a case. `at` says which line or entry it comes from, where a message would else not tell.

        Of `images`, a file for each channel, some may be None: that channel is missing in this case, which is for
        whoever prepares it to refuse or to allow (`preprocess.missing_channels`).

        Raises:
            DataError: The name is there already, or could not be a file's; or there is no file at all.
        """
        files = tuple(image for image in images if image is not None)
        missing = tuple(place for place, image in enumerate(images) if image is None)
        if not files:
            raise DataError(f"{at}case {name[:60]!r} has no image; name one, or take the case out", self.where)
        if not re.search(r"[/\\]", name):
            require_case_name(name, str(files[0]))
        if not plain(name):
            raise DataError(f"{at}{name[:60]!r} cannot name a case (and its files); take a plain name", self.where)
        if name in self.by_name:
            raise DataError(
                f"{at}case {name!r} appears twice ({self.by_name[name].image.name} and "
                f"{files[0].name}); take one out",
                self.where,
            )
        if len(self.by_name) >= MAX_CASES:
            raise DataError(f"names more than {MAX_CASES} cases", self.where)
        self.by_name[name] = Case(name, files, label, self.groups.get(name, name), missing=missing)
        self.used.update(files)

    def sorted(self) -> tuple[Case, ...]:
        """Return the cases by name."""
        return tuple(self.by_name[name] for name in sorted(self.by_name))


def plain(name: str) -> bool:
    """Whether a name may stand in a file's name, here and elsewhere."""
    return (
        bool(name) and name not in (".", "..") and len(name) <= 200 and not re.search(r"[/\\\x00-\x1f\x7f]", name)
    )


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder by name, from one look at it; none if there is no such folder.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", folder) from error
    return [path for path in (folder / name for name in sorted(names)) if is_image(path)]


def inside(folder: Path, entry: Any, where: Path) -> Path:
    """Turn an entry of dataset.json into a path below the data folder. A link there may lead anywhere.

    Raises:
        DataError: It is no file name, or leaves the folder by its own words.
    """
    if not isinstance(entry, str) or not entry or "\0" in entry or len(entry) > 4096:
        told = f"a file name was expected, not {str(entry)[:60]!r}; give a path below the data folder"
        raise DataError(told, where)
    relative = Path(entry)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{entry!r} leaves the data folder; copy the file into it, or link it there", where)
    if (longest := max((len(os.fsencode(part)) for part in relative.parts), default=0)) > 255:
        raise DataError(
            f"{entry[:60]!r}... which is no name of a file ({longest} bytes, 255 are the most); correct it", where
        )
    return folder / relative


def by_channel(files: Iterable[Path], channels: Sequence[str]) -> dict[str, tuple[Path | None, ...]]:
    """Join files named CASE_0000, CASE_0001, ... to cases with a file for each channel, None where there is none.

    Raises:
        DataError: A name has no channel's number, or one that there is not; or two files are one channel.
    """
    parts: dict[str, dict[int, Path]] = {}
    for file in files:
        match = SUFFIX.match(case_name(file))
        if match is None:
            raise DataError(
                "has no channel's number; its name should end in _0000 for the first channel "
                f"({channels[0]}), _0001 for the second, and so on",
                file,
            )
        channel = int(match["channel"])
        if channel >= len(channels):
            raise DataError(f"is channel {channel}, the last one is {len(channels) - 1} ({channels[-1]})", file)
        own = parts.setdefault(match["case"], {})
        if channel in own:
            raise DataError(f"is channel {channel} of case {match['case']!r}, and so is {own[channel].name}", file)
        own[channel] = file
    return {name: tuple(own.get(index) for index in range(len(channels))) for name, own in parts.items()}


def images_by_name(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by the name of their case.

    Raises:
        DataError: Two files have one name (a.nii and a.nii.gz), or the folder cannot be read.
    """
    found: dict[str, Path] = {}
    for file in list_images(folder):
        if (name := case_name(file)) in found:
            raise DataError(f"is case {name!r}, and so is {found[name].name}; name the one to take", file)
        found[name] = file
    return found


def labels_by_case(folder: Path, cases: Iterable[str]) -> dict[str, Path]:
    """Return the label maps of a folder by the name of their case.

    Raises:
        DataError: Two files are the label of one case, or a file is that of none: a name that is spelt otherwise
            would else make a case unlabelled without a word.
    """
    known = set(cases)
    found = images_by_name(folder)
    if strays := [name for name in found if name not in known]:
        more = f" ({len(strays)} such files in all)" if len(strays) > 1 else ""
        raise DataError(
            f"is a label of no case{more}: no image is called {strays[0]!r}.{did_you_mean(strays[0], known)} Give "
            "both the same name, or take it out",
            found[strays[0]],
        )
    return found


def channel_names(content: Mapping[str, Any], where: Path) -> tuple[str, ...] | None:
    """Return the channels under "modality" or "channel_names" in order; None if neither is there.

    Raises:
        DataError: Both are there, they are no object, or are not numbered from 0, or a name is there twice.
    """
    keys = [key for key in ("modality", "channel_names") if content.get(key)]
    if not keys:
        return None
    if len(keys) == 2:
        raise DataError('has "modality" (Decathlon) and "channel_names" (nnU-Net); keep one of them', where)
    channels = content[keys[0]]
    if not isinstance(channels, dict):
        raise DataError(f'"{keys[0]}" must be an object such as {{"0": "MRI"}}', where)
    if sorted(channels) != sorted(str(index) for index in range(len(channels))) or len(channels) > MAX_CHANNELS:
        raise DataError(
            f'"{keys[0]}" must number its channels 0 to {len(channels) - 1}, not '
            f"{', '.join(map(str, channels))[:200]}",
            where,
        )
    for number, name in channels.items():
        if not isinstance(name, str) or not name.strip():
            raise DataError(f'"{keys[0]}" names channel {number} {name!r}; a name was expected', where)
    names = tuple(channels[str(index)] for index in range(len(channels)))
    if len(set(names)) < len(names):
        raise DataError(f'"{keys[0]}" names a channel twice: {", ".join(names)}; rename one', where)
    return names


def patients(content: Mapping[str, Any], where: Path) -> dict[str, str]:
    """Return "groups", case to patient.

    Raises:
        DataError: It is no object.
    """
    groups = content.get("groups") or {}
    if not isinstance(groups, dict):
        raise DataError(f"groups must be an object of case names and patients, not {kind_of(groups)}", where)
    for name, patient in groups.items():
        if not isinstance(patient, str | int) or isinstance(patient, bool):
            raise DataError(f"groups of case {name!r} is {kind_of(patient)}, a patient's name was expected", where)
    return {str(case): str(patient) for case, patient in groups.items()}
