"""The voxels of an image: what cannot be used, what holds nothing, and what looks like something else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.channels import is_ct
from frugalseg.data.check_report import MEND, Remark
from frugalseg.geometry import Grid, Reorder

EMPTY_SHARE = 0.001
FEW_VALUES = 8
AIR_HU = -800  # air has -1000 Hounsfield units; few other images are stored with values so far below 0
_SAMPLE = 20_000


def image_remarks(image: NDArray[np.float32], names: Sequence[str], first: int = 0) -> list[Remark]:
    """Look at an image (channel, x, y, z); `names` of all channels, of which it holds those from `first` on."""
    remarks: list[Remark] = []
    unusable = sum(int(channel.size - np.isfinite(channel).sum()) for channel in image)
    if unusable:
        nan = sum(int(np.isnan(channel).sum()) for channel in image)
        found = f"{unusable} of {image.size} voxels are NaN ({nan}) or infinite ({unusable - nan})"
        harm = "one such voxel turns the whole training into NaN"
        todo = "mend the image, or take the case out of the data set"
        remarks.append(Remark("error", "not-finite", found, harm, todo, f"{MEND} --nan-to-zero"))
    for index, channel in enumerate(image, start=first):
        name = f"channel {index}" + (f" ({names[index]})" if index < len(names) else "")
        remark = _channel(channel, name) or _unnamed_ct(channel, name, index, names)
        if remark is not None:
            remarks.append(remark)
    return remarks


def _unnamed_ct(channel: NDArray[np.float32], name: str, index: int, names: Sequence[str]) -> Remark | None:
    """Return that a channel looks like CT and is not called so: its Hounsfield units would be lost."""
    low, word = channel.min(), names[index] if index < len(names) else ""
    if is_ct(word) or not np.isfinite(low) or low > AIR_HU:
        return None
    kinds = ["ct" if is_ct(one) or place == index else "zscore" for place, one in enumerate(names)]
    setting = "ct" if len(kinds) < 2 else f"[{','.join(kinds)}]"
    return Remark(
        "warning",
        "like-ct",
        f"{name} looks like CT (lowest value {low:g}, air in Hounsfield units) but is not named CT",
        "it is scaled image by image, so that what a Hounsfield unit tells is lost",
        f'if it is CT, name it: "channel_names": {{"{index}": "CT"}} ("modality" in the Decathlon layout, or '
        f"--describe), or train with --set preprocess.normalise={setting}",
    )


def _channel(channel: NDArray[np.float32], name: str) -> Remark | None:
    """Return the first thing that is odd about a channel (x, y, z)."""
    low = channel.min()
    if not np.isfinite(low):
        return None
    high = channel.max()
    if low == high:
        found = f"{name} is constant ({low:g}), a varying image was expected"
        return Remark(
            "warning", "constant", found, "nothing can be learnt from it", "make sure that this is the right file"
        )
    inside = channel[channel != low]
    if inside.size < EMPTY_SHARE * channel.size:
        found = (
            f"{name} is almost empty: {inside.size} of {channel.size} voxels differ from its lowest value ({low:g})"
        )
        return Remark(
            "warning",
            "almost-empty",
            found,
            "there is next to nothing to learn from",
            "make sure that it is no mask or failed export",
        )
    # A sample first: to sort all values of a large volume takes longer than to read it.
    if np.unique(inside[:: max(1, inside.size // _SAMPLE)]).size < FEW_VALUES:
        values = np.unique(inside)
        if values.size < FEW_VALUES and (values == np.rint(values)).all():
            told = ", ".join(f"{value:g}" for value in (low, *values))
            found = f"{name} looks like a label map: its only values are {told}"
            return Remark(
                "warning",
                "image-like-label",
                found,
                "the answer itself would be learnt from, or nothing",
                "make sure that image and label are not exchanged",
            )
    return None


def content(grid: Grid, channel: NDArray[np.float32] | NDArray[np.int32]) -> str:
    """Return a hash of the voxels (x, y, z) in canonical orientation, "" where all are equal.

    Compression, data type, header and the order of the axes make no difference; equal hashes are equal images.
    """
    if (channel == channel.flat[0]).all():
        return ""
    canonical = np.ascontiguousarray(Reorder.to_canonical(grid).apply(channel), np.float32) + np.float32(0)
    digest = hashlib.sha256(repr(canonical.shape).encode())
    digest.update(canonical.data)
    return digest.hexdigest()[:32]
