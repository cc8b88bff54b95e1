"""The raw layout of nnU-Net v2: a file per channel (case_0000.ext), labels under the case's name, one file type.

Labelled cases are those with a label map in labelsTr, or those that "dataset" in dataset.json names with their
files; every other case of imagesTr or imagesUn is unlabelled; all cases of imagesTs are test cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg.data.imagetypes import READABLE, READABLE_WORDS, image_suffix
from frugalseg.data.layouts.listing import (
    MAX_CASES,
    Cases,
    Listing,
    by_channel,
    channel_names,
    inside,
    labels_by_case,
    list_images,
    patients,
)
from frugalseg.errors import DataError, did_you_mean


def read(folder: Path, content: dict[str, Any], where: Path) -> Listing:
    """Read dataset.json, and find the images and labels beside it.

    Raises:
        DataError: It is malformed; a file has another type than "file_ending" or a name that says no channel; a
            channel is missing; a label belongs to no case; or cases are missing by "numTraining".
    """
    channels = channel_names(content, where)
    if channels is None:
        raise DataError('has no "channel_names", an object such as {"0": "T1w"}', where)
    ending = content.get("file_ending")
    if not isinstance(ending, str) or ending.lower() not in READABLE:
        near = did_you_mean(str(ending), READABLE)
        raise DataError(
            f'"file_ending" is {str(ending)[:40]!r}, one of {READABLE_WORDS} was expected.{near}', where
        )
    groups = patients(content, where)
    training, test = Cases(where, groups), Cases(where, groups)
    listed = content.get("dataset")
    if listed is not None:
        _add_listed(training, folder, listed, channels, where)
    found = {
        sub: by_channel(_files(folder / sub, ending, training.used), channels) for sub in ("imagesTr", "imagesUn")
    }
    labels = labels_by_case(folder / "labelsTr", found["imagesTr"]) if listed is None else {}
    for file in labels.values():
        _require_ending(file, ending)
    for sub, cases in found.items():
        for name, images in cases.items():
            training.add(name, images, labels.get(name) if sub == "imagesTr" else None)
    for name, images in by_channel(_files(folder / "imagesTs", ending, set()), channels).items():
        test.add(name, images, None)
    listing = Listing(folder, where, content, channels, training.sorted(), test.sorted(), groups=groups)
    _require_count(content, listing)
    return listing


def _files(folder: Path, ending: str, used: set[Path]) -> list[Path]:
    files = [file for file in list_images(folder) if file not in used]
    for file in files:
        _require_ending(file, ending)
    return files


def _require_ending(file: Path, ending: str) -> None:
    if image_suffix(file).lower() != ending.lower():
        raise DataError(
            f'ends otherwise than the "file_ending" {ending!r} of dataset.json; convert or remove it', file
        )


def _add_listed(training: Cases, folder: Path, listed: Any, channels: tuple[str, ...], where: Path) -> None:
    """Add the cases under "dataset": {"case": {"images": [a file a channel], "label": ...}}."""
    if not isinstance(listed, dict) or len(listed) > MAX_CASES:
        raise DataError(f'"dataset" must be an object of at most {MAX_CASES} cases', where)
    for name, entry in listed.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or not entry["images"]:
            raise DataError(
                f'"dataset" of case {name[:60]!r} needs "images", a list, and a "label" if it has one', where
            )
        images = [inside(folder, image, where) for image in entry["images"]]
        if len(images) != len(channels):
            raise DataError(
                f'"dataset" gives {len(images)} images for case {name[:60]!r}, a file for each of '
                f"{', '.join(channels)} was expected",
                where,
            )
        training.add(name, images, inside(folder, entry["label"], where) if entry.get("label") else None)


def _require_count(content: dict[str, Any], listing: Listing) -> None:
    """Hold the number of training cases to "numTraining": a copy that was cut short has fewer."""
    told = content.get("numTraining")
    labelled = sum(case.label is not None for case in listing.training)
    if told is not None and told not in (labelled, len(listing.training)):
        raise DataError(
            f'"numTraining" is {str(told)[:20]}, but {labelled} labelled cases were found, {len(listing.training)} '
            "with the unlabelled ones; copy the missing ones, or correct the number",
            listing.where,
        )
