"""Which files make a case to predict. Channels are told by suffix, by a 4D file, or by name; never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.channels import read_channels
from frugalseg.data.manifest import read_manifest
from frugalseg.data.names import LONGEST, require_apart, require_case_name
from frugalseg.data.readers import case_name, is_image, read_header
from frugalseg.errors import DataError, UserError, did_you_mean
from frugalseg.geometry import Grid

_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class PredictionInput:
    """A case to predict: its name, and one 4D file or one file a channel, in the model's order."""

    name: str
    files: tuple[Path, ...]


def find_inputs(
    paths: Sequence[Path], named: Mapping[str, Path], channels: Sequence[str], case: str | None = None
) -> list[PredictionInput]:
    """Find the cases to predict.

    Args:
        paths: Files, folders of files, or data sets (whose test list is taken).
        named: Files of a single case by channel name, instead of `paths`.
        channels: The model's channels.
        case: Name of that single case; by default its folder's.

    Raises:
        UserError: Nothing to predict, a channel that the model does not have, or one that is missing.
        DataError: A file or folder is missing or holds no images, or two files claim the same place.
    """
    if named:
        if paths:
            raise UserError("give either paths or --channel NAME=FILE, not both", "--channel")
        return [_named(named, channels, case)]
    if case is not None:
        raise UserError("names the case that --channel gives; other cases are named by their files", "--case")
    if not paths:
        raise UserError("nothing to predict: give files, folders, a data set, or --channel NAME=FILE", "PATHS")
    found: dict[str, PredictionInput] = {}
    for path in paths:
        for item in _from_path(path, channels):
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
    return read_channels(item.files, channels, "the model needs")


def _named(named: Mapping[str, Path], channels: Sequence[str], case: str | None) -> PredictionInput:
    for name in named:
        if name not in channels:
            raise UserError(
                f"the model has no channel {name!r}.{did_you_mean(name, channels)} It has: {', '.join(channels)}",
                "--channel",
            )
    missing = [name for name in channels if name not in named]
    if missing:
        raise UserError(f"channel {', '.join(missing)} is missing; needed: {', '.join(channels)}", "--channel")
    if case is not None and (case in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", case)):
        raise UserError(f"{case!r} cannot name a file in --out; take a plain name", "--case")
    if case is not None and len(case.encode("utf-8", "replace")) > LONGEST:
        raise UserError(f"has {len(case.encode('utf-8', 'replace'))} bytes, {LONGEST} are the most", "--case")
    files = tuple(named[name] for name in channels)
    for file in files:
        read_header(file)
    folder = files[0].resolve().parent.name
    return PredictionInput(case or (case_name(files[0]) if len(files) == 1 else folder), files)


def _from_path(path: Path, channels: Sequence[str]) -> list[PredictionInput]:
    if not path.exists():
        raise DataError("does not exist; give files, folders or a data set that do", path)
    if (path / "dataset.json").exists():
        manifest = read_manifest(path)
        if not manifest.test:
            raise DataError("its dataset.json has no test cases; name files or a folder instead", path)
        return [PredictionInput(item.name, item.images) for item in manifest.test]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if is_image(file))
        if not files:
            raise DataError(
                "holds no NIfTI image (.nii, .nii.gz); export images there, or name another folder", path
            )
        return _group(files, channels)
    if not is_image(path):
        raise DataError("is no NIfTI image (.nii, .nii.gz); export it as NIfTI", path)
    return _group([path], channels)


def _group(files: Sequence[Path], channels: Sequence[str]) -> list[PredictionInput]:
    """Join files named CASE_0000, CASE_0001, ... where the model has several channels."""
    groups: dict[str, dict[int, Path]] = {}
    for file in files:
        match = _SUFFIX.match(case_name(file))
        # hippocampus_0001 of a one-channel model is a case of its own unless it ends in channel 0's suffix.
        if match and int(match["channel"]) < len(channels):
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
        missing = [f"{channels[i]} ({name}_{i:04d})" for i in range(len(channels)) if i not in parts]
        if missing:
            raise DataError(f"channel {', '.join(missing)} is missing", parts[min(parts)].parent)
        result.append(PredictionInput(name, tuple(parts[i] for i in range(len(channels)))))
    return result
