"""Which files make a case to predict. Channels are told by suffix, by a 4D file, or by name; never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.channels import read_channels
from frugalseg.data.imagetypes import READABLE_WORDS, case_name, is_image
from frugalseg.data.layouts.listing import SUFFIX, list_images, plain
from frugalseg.data.manifest import Case, DataSource, Manifest, read_manifest
from frugalseg.data.names import LONGEST, require_apart, require_case_name
from frugalseg.data.readers import read_header
from frugalseg.errors import DataError, UserError, did_you_mean
from frugalseg.geometry import Grid


@dataclass(frozen=True)
class PredictionInput:
    """A case to predict: its name, and one 4D file or one file a channel, in the model's order.

    `missing`: numbers of the channels without a file, which become 0.
    """

    name: str
    files: tuple[Path, ...]
    missing: tuple[int, ...] = ()


def find_inputs(
    paths: Sequence[Path],
    named: Mapping[str, Path],
    channels: Sequence[str],
    case: str | None = None,
    may_miss: bool = False,
) -> list[PredictionInput]:
    """Find the cases to predict.

    Args:
        paths: Files, folders of files, or data sets (with dataset.json, or a CSV), whose test list is taken.
        named: Files of a single case by channel name, instead of `paths`.
        channels: The model's channels.
        case: Name of that single case; by default its folder's.
        may_miss: Whether channels may be missing, because the model was trained so; never all of them.

    Raises:
        UserError: Nothing to predict, a channel that the model does not have, or one that is missing.
        DataError: A file or folder is missing or holds no images, or two files claim the same place.
    """
    if named:
        if paths:
            raise UserError("give either paths or --channel NAME=FILE, not both", "--channel")
        return [_named(named, channels, case, may_miss)]
    if case is not None:
        raise UserError("names the case that --channel gives; other cases are named by their files", "--case")
    if not paths:
        raise UserError("nothing to predict: give files, folders, a data set, or --channel NAME=FILE", "PATHS")
    found: dict[str, PredictionInput] = {}
    for path in paths:
        for item in _from_path(path, channels, may_miss):
            if item.name in found:
                raise DataError(f"case {item.name!r} was already found at {found[item.name].files[0]}", path)
            found[item.name] = item
    for name, item in found.items():
        require_case_name(name, str(item.files[0]))
    require_apart(found, "PATHS")
    return list(found.values())


def read_input(item: PredictionInput, channels: Sequence[str]) -> tuple[Grid, NDArray[np.float32]]:
    """Read a case as (channel, x, y, z) on the grid of its first file.

    Raises:
        DataError: A file cannot be read, the number of channels is wrong, or they lie on different grids.
    """
    return read_channels(item.files, channels, "the model needs", item.missing)


def _named(named: Mapping[str, Path], channels: Sequence[str], case: str | None, may_miss: bool) -> PredictionInput:
    for name in named:
        if name not in channels:
            raise UserError(
                f"the model has no channel {name!r}.{did_you_mean(name, channels)} It has: {', '.join(channels)}",
                "--channel",
            )
    missing = [name for name in channels if name not in named]
    if missing and not may_miss:
        raise UserError(f"channel {', '.join(missing)} is missing; needed: {', '.join(channels)}", "--channel")
    if case is not None and not plain(case):
        raise UserError(f"{case!r} cannot name a file in --out; take a plain name", "--case")
    if case is not None and len(case.encode("utf-8", "replace")) > LONGEST:
        raise UserError(f"has {len(case.encode('utf-8', 'replace'))} bytes, {LONGEST} are the most", "--case")
    files = tuple(named[name] for name in channels if name in named)
    for file in files:
        read_header(file)
    folder = files[0].resolve().parent.name
    gone = tuple(place for place, name in enumerate(channels) if name in missing)
    return PredictionInput(case or (case_name(files[0]) if len(channels) == 1 else folder), files, gone)


def _from_path(path: Path, channels: Sequence[str], may_miss: bool) -> list[PredictionInput]:
    if not path.exists():
        raise DataError("does not exist; give files, folders or a data set that do", path)
    if DataSource(path).is_table or (path / "dataset.json").exists():
        manifest = read_manifest(path)
        if not manifest.test:
            raise DataError("has no test cases; name files or a folder instead", manifest.where)
        places = _places(manifest, channels)
        for item in manifest.test:
            if item.missing and not may_miss:
                names = ", ".join(manifest.channels[channel] for channel in item.missing)
                raise DataError(f"case {item.name!r} has no channel {names}, which the model needs", item.image)
        return [_of_case(item, places) for item in manifest.test]
    if path.is_dir():
        files = list_images(path)
        if not files:
            raise DataError(f"holds no image ({READABLE_WORDS}); export images there, or name another folder", path)
        return _group(files, channels, may_miss)
    if not is_image(path):
        raise DataError(f"is no image of a known type ({READABLE_WORDS}); export it as one", path)
    return _group([path], channels, may_miss)


def _places(manifest: Manifest, channels: Sequence[str]) -> list[int]:
    """Return where each of the model's channels stands among those of a data set, by their names.

    A data set of one channel may call it anything: there is nothing to mistake it for.

    Raises:
        DataError: The names differ, or files with several channels have them in another order.
    """
    own = manifest.channels
    if len(own) == 1:
        return [0]
    one_file = any(len(case.images) == 1 for case in manifest.test)
    if set(own) != set(channels) or (one_file and own != tuple(channels)):
        raise DataError(
            f"names the channels {', '.join(own)}, the model needs {', '.join(channels)}"
            f"{', in this order' if set(own) == set(channels) else ''}; name the same ones alike, or give files",
            manifest.where,
        )
    return [own.index(name) for name in channels]


def _of_case(case: Case, places: Sequence[int]) -> PredictionInput:
    """Return a data set's case as an input, its channels in the model's order."""
    if not case.missing:
        files = tuple(case.images[place] for place in places) if len(case.images) > 1 else case.images
        return PredictionInput(case.name, files)
    there = iter(case.images)
    by_place = {place: next(there) for place in range(len(places)) if place not in case.missing}
    gone = tuple(number for number, place in enumerate(places) if place in case.missing)
    return PredictionInput(case.name, tuple(by_place[place] for place in places if place in by_place), gone)


def _group(files: Sequence[Path], channels: Sequence[str], may_miss: bool) -> list[PredictionInput]:
    """Join files named CASE_0000, CASE_0001, ... where the model has several channels.

    Numbers beyond the model's channels are those of cases (scan_0000 to scan_0012), and so are all of that name.
    """
    groups: dict[str, dict[int, Path]] = {}
    numbered = {
        match["case"]
        for file in files
        if (match := SUFFIX.match(case_name(file))) and int(match["channel"]) >= len(channels)
    }
    for file in files:
        match = SUFFIX.match(case_name(file))
        if match and match["case"] not in numbered:
            name, channel = match["case"], int(match["channel"])
        else:
            name, channel = case_name(file), -1
        parts = groups.setdefault(name, {})
        # A second file for a channel (.nii beside .nii.gz), or a whole image beside its channels.
        rivals = [part for other, part in parts.items() if other == channel or -1 in (other, channel)]
        if rivals:
            raise DataError(f"is case {name!r}, and so is {rivals[0].name}; name the one to take", file)
        parts[channel] = file
    result = []
    for name, parts in groups.items():
        if -1 in parts:
            result.append(PredictionInput(name, (parts[-1],)))
            continue
        missing = tuple(i for i in range(len(channels)) if i not in parts)
        if len(channels) > 1 and all(read_header(file).channels == len(channels) for file in parts.values()):
            # Each file has all channels: the numbers are those of cases.
            result += [PredictionInput(case_name(file), (file,)) for file in parts.values()]
            continue
        if missing and not may_miss:
            words = ", ".join(f"{channels[i]} ({name}_{i:04d})" for i in missing)
            raise DataError(
                f"channel {words} is missing; put it there, or take the case out", parts[min(parts)].parent
            )
        result.append(PredictionInput(name, tuple(parts[i] for i in sorted(parts)), missing))
    return result
