"""The voxels of a label map: values that are not the scheme's, and structures that look like an accident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.check_image import content
from frugalseg.data.check_report import MEND, CaseRow, Remark
from frugalseg.data.readers import LABEL_TOLERANCE, read_image
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError
from frugalseg.geometry import Grid

TINY_VOXELS = 10
SPECK_SHARE = 0.01
IMAGE_VALUES = 64
_SHOWN = 6


def refused_remark(file: Path, scheme: LabelScheme) -> Remark | None:
    """Say with numbers why `read_label` refuses a label map; None if its voxels cannot even be read as an image."""
    try:
        voxels = read_image(file)[1]
    except (DataError, OSError, MemoryError):
        return None
    if len(voxels) != 1:
        return None
    if bad := int(voxels.size - np.isfinite(voxels).sum()):
        found = f"{bad} of {voxels.size} label voxels are NaN or infinite"
        return Remark("error", "label-not-finite", found, "what they are is not known", "label them anew")
    values, counts = np.unique(voxels, return_counts=True)
    nearest = np.rint(values)
    soft = np.abs(values - nearest) > LABEL_TOLERANCE
    known = ", ".join(map(str, scheme.allowed))
    told = f"{values.size} different values from {values[0]:g} to {values[-1]:g}"
    strange = ~soft & ~np.isin(nearest, scheme.allowed)
    if values.size >= IMAGE_VALUES and values.size > 3 * len(scheme.allowed):
        harm, todo = "grey values would be learnt as structures", "make sure that image and label are not exchanged"
        if soft.any() and values[0] >= 0 and values[-1] <= 1:
            harm, todo = "probabilities are no labels", "threshold them first"
        return Remark("error", "label-like-image", f"looks like an image, not like a label map: {told}", harm, todo)
    if soft.any():
        count = int(counts[soft].sum())
        found = (
            f"label values must be integers; {count} of {voxels.size} voxels are not, such as {values[soft][0]:g}"
        )
        harm = "soft labels cannot be used"
        return Remark("error", "label-soft", found, harm, "threshold them first, and interpolate labels by nearest")
    if not strange.any():
        return None
    listed = [f"{value:g} ({count} voxels)" for value, count in zip(nearest[strange], counts[strange])]
    names = ", ".join(listed[:_SHOWN]) + (" ..." if len(listed) > _SHOWN else "")
    remap = " ".join(f"--remap {value:g}=NEW" for value in nearest[strange][:_SHOWN])
    found = f"label values {names} are not in the scheme ({known})"
    harm = "what they mean is not known"
    return Remark("error", "label-values", found, harm, 'add them to "labels", or remap them', f"{MEND} {remap}")


def rounded_remark(count: int) -> Remark:
    """Say that some label voxels were not quite integers."""
    found = f"{count} label voxels lie within {LABEL_TOLERANCE:g} of an integer and are rounded"
    harm = "other programs may cut them off instead (0.9999 to 0)"
    return Remark("note", "label-rounded", found, harm, "nothing to do; integers would be clearer", MEND)


def label_remarks(grid: Grid, label: NDArray[np.int32], shown: Sequence[str], scheme: LabelScheme) -> list[Remark]:
    """Look at a label map (x, y, z) on `grid`, of which the structures `shown` were annotated."""
    known = label[~scheme.ignored(label)]
    if not known.size:
        found = f"every voxel has the ignored value {scheme.ignore}"
        return [Remark("warning", "label-ignored", found, "it teaches nothing", "take the label out")]
    if not known.any():
        harm = "if the structure is there, its absence is learnt"
        todo = "make sure that the case really has none"
        return [Remark("warning", "label-empty", "holds no structure at all", harm, todo)]
    remarks = [] if len(shown) == len(scheme.structures) else _strays(label, known, shown, scheme)
    for name in shown:
        count = int(scheme.mask(label, name).sum())
        if 0 < count < TINY_VOXELS:
            found = f"{name!r} has {count} voxel{'s' * (count != 1)} ({count * grid.voxel_volume:.3g} mm^3)"
            harm = "it vanishes where the image is resampled, and one voxel decides its Dice"
            remarks.append(Remark("warning", "tiny", found, harm, "make sure that it is no stray click"))
    return remarks


def _strays(
    label: NDArray[np.int32], known: NDArray[np.int32], shown: Sequence[str], scheme: LabelScheme
) -> list[Remark]:
    """Return the values that belong to no structure that was annotated."""
    values = np.unique(known[known != 0])
    meant = np.any([scheme.mask(values, name) for name in shown], axis=0)
    strays = values[~meant]
    if not strays.size:
        return []
    names = {value: name for name, value in scheme.values}
    told = ", ".join(f"{value} ({names[value]})" for value in map(int, strays))
    count = int(np.isin(label, strays).sum())
    found = f"{count} voxels of value {told} belong to no structure that annotated_classes lists for the case"
    todo = "add the structure to annotated_classes if the label shows it all"
    return [Remark("warning", "not-annotated", found, "they are not used as such", todo)]


def with_label(
    row: CaseRow, grid: Grid, label: NDArray[np.int32], shown: Sequence[str], scheme: LabelScheme
) -> CaseRow:
    """Return the row of a case with what its label map (x, y, z) holds."""
    masks = {name: scheme.mask(label, name) for name in scheme.structures if name in shown}
    voxels = {name: int(mask.sum()) for name, mask in masks.items()}
    ml = {name: count * grid.voxel_volume / 1000 for name, count in voxels.items()}
    ignored = scheme.ignored(label)
    known = int(label.size - ignored.sum())
    foreground = float(((label != 0) & ~ignored).sum() / max(known, 1))
    return replace(
        row,
        foreground=foreground,
        voxels=voxels,
        ml=ml,
        ignored=None if scheme.ignore is None else float(ignored.mean()),
        border={name: on_border(mask) for name, mask in masks.items()},
        specks={name: specks(mask) for name, mask in masks.items()},
        label_content=content(grid, label),
    )


def on_border(mask: NDArray[np.bool_]) -> int:
    """Return how many voxels of a mask (x, y, z) lie on a face of the image; an axis of one voxel has no faces."""
    inner = tuple(slice(1, -1) if side > 1 else slice(None) for side in mask.shape)
    return int(mask.sum() - mask[inner].sum())


def specks(mask: NDArray[np.bool_]) -> int:
    """Return how many parts of a mask (x, y, z) are tiny: under 1 % of it, and under 10 voxels.

    Voxels that touch at a corner belong together.
    """
    from scipy import ndimage

    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return 0
    parts, count = ndimage.label(mask[boxes[0]], np.ones((3, 3, 3)))
    if count < 2:
        return 0
    sizes = np.bincount(parts.ravel())[1:]
    return int(((sizes < SPECK_SHARE * sizes.sum()) & (sizes < TINY_VOXELS)).sum())
