"""A crop's image, label and mask looked up at other places: the label by votes of the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.scheme import IGNORED

Floats = NDArray[np.float32]
LookUp = Callable[[Floats], Floats]
"""Takes a box (C, ...) to a crop (C, x, y, z) by linear interpolation."""


def moved(
    image: Floats,
    label: NDArray[np.uint8] | None,
    inside: NDArray[np.bool_],
    look_up: LookUp,
    groups: int,
    classes: int,
) -> tuple[Floats, NDArray[np.uint8] | None, NDArray[np.bool_]]:
    """Resample image, label and mask in one go. Labels by linear votes of the classes, not by neighbours.

    A voxel is ignored in all groups where more than half of what it is made of is; otherwise the rest votes.

    Args:
        image: (C, ...).
        label: Class indices (R, ...), 255 where nothing is known; None if there is none.
        inside: (1, ...), True on the volume's own voxels.
        look_up: Gives the crop.
        groups: R.
        classes: K.
    """
    parts = [image, inside.astype(np.float32)]
    if label is not None:
        parts += [(label == k).astype(np.float32) for k in range(1, classes)]
        unknown = label[:1] == IGNORED
        parts += [unknown.astype(np.float32)] if unknown.any() else []
    found = look_up(np.concatenate(parts))
    channels = len(image)
    new_image, new_inside = found[:channels], found[channels : channels + 1] > 0.5
    if label is None:
        return new_image, None, new_inside
    last = channels + 1 + (classes - 1) * groups
    votes = found[channels + 1 : last].reshape(classes - 1, groups, *found.shape[1:])
    ignored = found[last:].sum(axis=0)  # one channel, or none
    rest = 1.0 - votes.sum(axis=0, keepdims=True) - ignored
    new_label = np.concatenate([rest, votes]).argmax(axis=0).astype(np.uint8)
    new_label[:, ignored > 0.5] = IGNORED
    return new_image, new_label, new_inside
