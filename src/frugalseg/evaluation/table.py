"""One row per case and structure: what was found, how well, and what an empty mask costs.

The rule: a structure that is in the truth but not in the prediction is *missed*, one only in the prediction is
*spurious*; both get Dice 0, surface Dice 0 and, for every distance, the image's diagonal, and they count. A
structure that is in neither has no value: it stays outside every mean and is counted apart. Leaving the first two
out of the mean, or giving them distance 0, would make a model better by finding less.

What the truth does not know is not scored. A structure that was *not annotated* in a case has no value either, and
is counted apart from those that are in neither. *Ignored* voxels are taken out of truth and prediction before all
else: a mask that reaches into them ends at their border.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from frugalseg.errors import DataError
from frugalseg.evaluation.box import joint_box
from frugalseg.evaluation.overlap import Mask, confusion, volume_ml
from frugalseg.evaluation.surface import surface_scores
from frugalseg.geometry import Grid

Status = Literal["scored", "missed", "spurious", "both_empty", "not_annotated"]
WITHOUT_VALUES: tuple[Status, ...] = ("both_empty", "not_annotated")
ANY_FOREGROUND = "any_foreground"
METRICS = ("dice", "hd95_mm", "surface_dice", "assd_mm")


@dataclass(frozen=True)
class CaseRow:
    """The scores of one structure of one case.

    Attributes:
        case: Name of the case.
        structure: Name of the structure, or `ANY_FOREGROUND`: the union of all of them, an extra that never enters
            the case's mean.
        status: "scored": in truth and prediction; the others: see the module.
        dice: Dice overlap, 0 to 1. None, like the next three, exactly where the status is one of `WITHOUT_VALUES`.
        hd95_mm: 95th percentile of the Hausdorff distance, the larger of both directions.
        surface_dice: Share of the surface voxels within `tolerance_mm` of the other surface, 0 to 1.
        assd_mm: Average symmetric surface distance.
        tolerance_mm: The tolerance of `surface_dice`.
        voxels_truth: Size of the truth in voxels; None exactly where it was not annotated.
        voxels_prediction: Size of the prediction in voxels.
        volume_truth_ml: Size of the truth in millilitres; None exactly where it was not annotated.
        volume_prediction_ml: Size of the prediction in millilitres.
        voxels_ignored: Voxels of the image that the truth knows nothing of: in no size above, and not scored.
    """

    case: str
    structure: str
    status: Status
    dice: float | None
    hd95_mm: float | None
    surface_dice: float | None
    assd_mm: float | None
    tolerance_mm: float
    voxels_truth: int | None
    voxels_prediction: int
    volume_truth_ml: float | None
    volume_prediction_ml: float
    voxels_ignored: int = 0

    @property
    def counted(self) -> bool:
        """Whether the row has values, and so enters means."""
        return self.status not in WITHOUT_VALUES

    @property
    def extra(self) -> bool:
        """Whether the row is beside the structures, and so never enters a case's mean."""
        return self.structure == ANY_FOREGROUND


def score_case(
    case: str,
    truth: Mapping[str, Mask],
    prediction: Mapping[str, Mask] | None,
    grid: Grid,
    tolerance_mm: float,
    annotated: Collection[str] | None = None,
    ignored: Mask | None = None,
    diagonal_mm: float | None = None,
) -> list[CaseRow]:
    """Score the prediction of one case: a row per structure, then the row of any foreground.

    Args:
        case: Name of the case.
        truth: Boolean mask (x, y, z) of every structure, by name; they may nest or overlap.
        prediction: The same of the prediction, or None for a case without one: every structure of the truth is
            then missed.
        grid: The image's grid, or that of a part with all that is in any mask: it gives spacing and voxel volume.
        tolerance_mm: Tolerance of the surface Dice in millimetres.
        annotated: Structures that the truth knows; None: all. The others' masks are not looked at, and where there
            are such the union of all is not known.
        ignored: Boolean mask (x, y, z) of the voxels that count for nothing, or None.
        diagonal_mm: Of the whole image, charged for a missed structure; by default the grid's.

    Raises:
        DataError: No structure, other structures in the prediction, a structure named like the extra row, an
            annotated structure that does not exist, a mask that is not boolean or not of the grid's shape, a
            tolerance that is not a length, or a name that a table cannot hold. The case is named.
    """
    if prediction is None:
        prediction = {name: np.zeros(grid.shape, dtype=np.bool_) for name in truth}
    _check(case, truth, prediction, grid, tolerance_mm)
    known = set(truth if annotated is None else annotated)
    if not known <= set(truth):
        raise DataError(f"{sorted(known - set(truth))[0]!r} was annotated, but is no structure of the truth", case)
    if ignored is not None:
        _check(case, {"ignored": ignored}, {"ignored": ignored}, grid, tolerance_mm)
        truth = {name: mask & ~ignored for name, mask in truth.items()}
        prediction = {name: mask & ~ignored for name, mask in prediction.items()}
    rows = _rows(case, truth, prediction, grid, tolerance_mm, known, diagonal_mm or grid.diagonal)
    count = 0 if ignored is None else int(np.count_nonzero(ignored))
    return [replace(row, voxels_ignored=count) for row in rows] if count else rows


def _rows(
    case: str,
    truth: Mapping[str, Mask],
    prediction: Mapping[str, Mask],
    grid: Grid,
    tolerance_mm: float,
    known: Collection[str],
    diagonal: float,
) -> list[CaseRow]:
    box = joint_box([*truth.values(), *prediction.values()])
    truth = {name: np.ascontiguousarray(mask[box]) for name, mask in truth.items()}
    prediction = {name: np.ascontiguousarray(mask[box]) for name, mask in prediction.items()}
    rows = [
        _row(case, name, truth[name], prediction[name], grid, tolerance_mm, diagonal)
        if name in known
        else _unknown(case, name, prediction[name], grid, tolerance_mm)
        for name in truth
    ]
    if len(known) < len(truth):
        return [*rows, _unknown(case, ANY_FOREGROUND, _union(prediction), grid, tolerance_mm)]
    both = _union(truth), _union(prediction)
    sizes = int(np.count_nonzero(both[0])), int(np.count_nonzero(both[1]))
    for row in rows:  # a structure as large as the union is the union: regions that nest are scored once
        if (row.voxels_truth, row.voxels_prediction) == sizes:
            return [*rows, replace(row, structure=ANY_FOREGROUND)]
    return [*rows, _row(case, ANY_FOREGROUND, *both, grid, tolerance_mm, diagonal)]


def check_names(*names: str) -> None:
    """Refuse what a line of UTF-8 text cannot hold: line breaks, undecodable bytes of a file name, or nothing.

    Raises:
        DataError: The name is such a one.
    """
    for name in names:
        if not name or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise DataError("the name must be plain text without control characters; rename it", repr(name))


def _row(
    case: str, name: str, truth: Mask, prediction: Mask, grid: Grid, tolerance_mm: float, diagonal: float
) -> CaseRow:
    counts = confusion(truth, prediction)
    status: Status
    overlap: float | None = 0.0
    distance: float | None = diagonal
    within, average = overlap, distance
    if counts.truth and counts.prediction:
        surface = surface_scores(truth, prediction, grid.spacing, tolerance_mm)
        status, overlap, distance = "scored", counts.dice, surface.hd95_mm
        within, average = surface.surface_dice, surface.assd_mm
    elif counts.truth or counts.prediction:
        status = "missed" if counts.truth else "spurious"
    else:
        status = "both_empty"
        overlap = distance = within = average = None
    return CaseRow(
        case=case,
        structure=name,
        status=status,
        dice=overlap,
        hd95_mm=distance,
        surface_dice=within,
        assd_mm=average,
        tolerance_mm=float(tolerance_mm),
        voxels_truth=counts.truth,
        voxels_prediction=counts.prediction,
        volume_truth_ml=volume_ml(counts.truth, grid.voxel_volume),
        volume_prediction_ml=volume_ml(counts.prediction, grid.voxel_volume),
    )


def _unknown(case: str, name: str, prediction: Mask, grid: Grid, tolerance_mm: float) -> CaseRow:
    voxels = int(np.count_nonzero(prediction))
    return CaseRow(
        case=case,
        structure=name,
        status="not_annotated",
        dice=None,
        hd95_mm=None,
        surface_dice=None,
        assd_mm=None,
        tolerance_mm=float(tolerance_mm),
        voxels_truth=None,
        voxels_prediction=voxels,
        volume_truth_ml=None,
        volume_prediction_ml=volume_ml(voxels, grid.voxel_volume),
    )


def _union(masks: Mapping[str, Mask]) -> Mask:
    first, *others = masks.values()
    union = first.copy()
    for mask in others:
        union |= mask
    return union


def _check(
    case: str, truth: Mapping[str, Mask], prediction: Mapping[str, Mask], grid: Grid, tolerance_mm: float
) -> None:
    check_names(case, *truth)
    if not truth or set(truth) != set(prediction):
        found = f"{', '.join(truth) or 'none'} in the truth, {', '.join(prediction) or 'none'} in the prediction"
        raise DataError(f"the same structures, at least one, are needed in both; there are {found}", case)
    if ANY_FOREGROUND in truth:
        raise DataError(f"{ANY_FOREGROUND!r} is the union of all structures; rename the structure", case)
    for kind, masks in (("truth", truth), ("prediction", prediction)):
        for name, mask in masks.items():
            if mask.dtype != np.bool_ or mask.shape != grid.shape:
                found = f"{mask.dtype} of shape {mask.shape}"
                raise DataError(f"{kind} of {name!r} is {found}; expected bool of shape {grid.shape}", case)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise DataError(f"the tolerance is {tolerance_mm}; expected millimetres, 0 or more", case)
