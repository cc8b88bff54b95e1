"""Keep the largest connected part of a structure, where that was seen to help.

Many anatomical structures are one piece, and a second piece far off is a mistake; many lesions are not. So nothing
is removed by default: training with folds looks at predictions of cases that the model had not seen, and names the
structures whose Dice it raises (`worth_it`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.scheme import LabelScheme


def largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest 26-connected part of a mask (x, y, z); of equal ones the first in memory order."""
    from scipy import ndimage

    parts, count = ndimage.label(mask, structure=np.ones((3, 3, 3), np.uint8))
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def keep_largest(label: NDArray[Any], scheme: LabelScheme, structures: Collection[str]) -> NDArray[Any]:
    """Return a label map (x, y, z, original values) without the smaller parts of some structures.

    What is taken from a class becomes background; what is taken from a region is taken from the regions inside it,
    too, and keeps the value of those around it.
    """
    if not structures:
        return label
    if scheme.exclusive:
        cleaned = label.copy()
        for name, value in scheme.values:
            if name in structures:
                mask = label == value
                cleaned[mask & ~largest_component(mask)] = 0
        return cleaned
    masks = {name: scheme.mask(label, name) for name in scheme.structures}
    values = dict(scheme.regions)
    for outer in scheme.structures:
        if outer not in structures:
            continue
        gone = masks[outer] & ~largest_component(masks[outer])
        for inner in scheme.structures:
            if set(values[inner]) <= set(values[outer]):
                masks[inner] = masks[inner] & ~gone
    target = np.stack([masks[name] for name in scheme.structures]).astype(np.uint8)
    return scheme.decode(target).astype(label.dtype)


def worth_it(before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return the structures whose mean Dice over held-out cases is higher with the largest part alone.

    Args:
        before: Dice of each structure in each held-out case, as predicted.
        after: The same with only the largest part, case by case.
    """
    return tuple(
        name for name, values in before.items() if values and float(np.mean(after[name])) > float(np.mean(values))
    )
