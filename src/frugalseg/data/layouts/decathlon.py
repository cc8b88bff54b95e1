"""The layout of the Medical Segmentation Decathlon: "training" and "test" list images, 3D or 4D with channels last.

A training entry with a label is labelled; every other image in imagesTr or imagesUn is unlabelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg.data.imagetypes import case_name
from frugalseg.data.layouts.listing import MAX_CASES, Cases, Listing, channel_names, inside, list_images, patients
from frugalseg.data.names import kind_of
from frugalseg.errors import DataError


def read(folder: Path, content: dict[str, Any], where: Path) -> Listing:
    """Read what dataset.json lists, and find the images beside it.

    Raises:
        DataError: It is malformed, names the same case twice or a file outside the folder.
    """
    channels = channel_names(content, where)
    if channels is None:
        raise DataError('has no "modality", an object such as {"0": "MRI"}', where)
    groups = patients(content, where)
    training, test = Cases(where, groups), Cases(where, groups)
    for entry in _entries(content, "training", where):
        pair = {"image": entry} if isinstance(entry, str) else entry
        if not isinstance(pair, dict) or "image" not in pair:
            raise DataError(
                'an entry of "training" has no "image" or is no object; name its "image", and its '
                '"label" if it has '
                "one",
                where,
            )
        if pair.get("label") is not None and not isinstance(pair["label"], str):
            told = f"the label of {str(pair['image'])[:60]!r} is {kind_of(pair['label'])}, a file name was expected"
            raise DataError(told, where)
        image = inside(folder, pair["image"], where)
        training.add(case_name(image), [image], inside(folder, pair["label"], where) if pair.get("label") else None)
    for sub in ("imagesTr", "imagesUn"):
        for image in list_images(folder / sub):
            if image not in training.used:
                training.add(case_name(image), [image], None)
    for entry in _entries(content, "test", where):
        image = inside(folder, entry.get("image") if isinstance(entry, dict) else entry, where)
        test.add(case_name(image), [image], None)
    return Listing(folder, where, content, channels, training.sorted(), test.sorted(), groups=groups)


def _entries(content: dict[str, Any], key: str, where: Path) -> list[Any]:
    entries = content.get(key) or []
    if not isinstance(entries, list) or len(entries) > MAX_CASES:
        raise DataError(f'"{key}" must be a list of at most {MAX_CASES} entries, not {kind_of(entries)}', where)
    return entries
