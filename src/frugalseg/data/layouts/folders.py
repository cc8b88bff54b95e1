"""A folder of images and a folder of label maps, named on the command line; a JSON may say what they mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from frugalseg.data.imagetypes import READABLE_WORDS, case_name
from frugalseg.data.layouts.description import read_description
from frugalseg.data.layouts.listing import (
    MAX_CHANNELS,
    SUFFIX,
    Cases,
    Listing,
    by_channel,
    channel_names,
    images_by_name,
    labels_by_case,
    list_images,
    patients,
)
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError


def read(source: DataSource) -> Listing:
    """Take each image of a folder as a case, and the label map of its name, if there is one, as its label.

    Images are joined to cases by channel where all of them end in a channel's number (`_0000`, `_0001`, ...).

    Raises:
        DataError: There is no such folder, it holds no image, channels are missing, or a label belongs to no case.
    """
    assert source.label_maps is not None
    for folder in (source.path, source.label_maps):
        if not folder.is_dir():
            raise DataError("is not a folder", folder)
    content = read_description(source.describe)
    where = source.describe or source.path
    files = list_images(source.path)
    if not files:
        raise DataError(f"holds no image ({READABLE_WORDS})", source.path)
    groups = patients(content, where)
    labelled = set(images_by_name(source.label_maps))
    channels, cases = _cases(source.path, files, labelled, channel_names(content, where), where)
    labels = labels_by_case(source.label_maps, cases)
    training = Cases(source.path, groups)
    for name, images in cases.items():
        training.add(name, images, labels.get(name))
    return Listing(source.path, where, content, channels, training.sorted(), (), groups=groups)


def _cases(
    folder: Path, files: Sequence[Path], labelled: Collection[str], channels: tuple[str, ...] | None, where: Path
) -> tuple[tuple[str, ...], dict[str, tuple[Path | None, ...]]]:
    """Return the channels' names and the files of each case.

    Where nothing is said of channels and each file has a label of its own name, the numbers are those of cases.
    """
    numbers = [int(match["channel"]) for file in files if (match := SUFFIX.match(case_name(file)))]
    of_cases = channels is None and all(case_name(file) in labelled for file in files)
    numbered = len(numbers) == len(files) and 0 in numbers and not of_cases
    if numbered and channels is None:
        if max(numbers) >= MAX_CHANNELS:
            raise DataError(
                f"its images' names end in _0000 to _{max(numbers):04d}, which are the numbers of channels; if "
                'they are those of cases, say so with --describe and {"channel_names": {"0": "MRI"}, ...}',
                where,
            )
        channels = tuple(f"channel {number}" for number in range(max(numbers) + 1))
    if numbered and channels is not None and max(numbers) < len(channels):
        return channels, by_channel(files, channels)
    return channels or ("image",), {name: (file,) for name, file in images_by_name(folder).items()}
