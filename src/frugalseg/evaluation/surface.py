"""Distances between the surfaces of two masks, in millimetres, each computed once and exactly.

A surface voxel is a mask voxel with a 6-neighbour outside the mask; beyond the image counts as outside. (So in
an image of one slice every mask voxel is a surface voxel.) Distances run between the centres of surface voxels.
Libraries disagree on what they call the 95th percentile of the Hausdorff distance; the names here tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from frugalseg.evaluation.box import joint_box
from frugalseg.evaluation.overlap import Mask, check_shapes

# How far, in voxels of the finest axis, nearest neighbours are looked up before the k-d tree is asked.
REACH = 4
# Rounding of a sum of squares must not decide whether a distance equals the tolerance.
ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class SurfaceScores:
    """How far two surfaces lie apart.

    Attributes:
        hd95_mm: The larger of the two directed 95th percentiles (linear interpolation) of the distances.
        hd95_pooled_mm: The 95th percentile of the distances of both directions in one list, as MedPy defines it.
        hd100_mm: The Hausdorff distance, the largest distance of all.
        assd_mm: Average symmetric surface distance, the mean over the surface voxels of both masks
            (Heimann et al. 2009, IEEE TMI 28).
        surface_dice: Share of the surface voxels of both masks that lie within the tolerance of the other surface.
    """

    hd95_mm: float
    hd95_pooled_mm: float
    hd100_mm: float
    assd_mm: float
    surface_dice: float


def surface_scores(truth: Mask, prediction: Mask, spacing: Sequence[float], tolerance_mm: float) -> SurfaceScores:
    """Compare the surfaces of two masks (x, y, z) of an image with voxels of `spacing` millimetres.

    The axes of the image are taken to be at right angles.

    Raises:
        ValueError: The shapes differ, a mask is empty (no distance is defined; what that costs is a rule of the
            table, not of this function), or spacing or tolerance is not a length.
    """
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"the tolerance must be a length in millimetres, not {tolerance_mm}")
    from_truth, from_prediction = surface_distances(truth, prediction, spacing)
    pooled = np.concatenate([from_truth, from_prediction])
    return SurfaceScores(
        hd95_mm=float(max(np.percentile(from_truth, 95), np.percentile(from_prediction, 95))),
        hd95_pooled_mm=float(np.percentile(pooled, 95)),
        hd100_mm=float(pooled.max()),
        assd_mm=float(pooled.mean()),
        surface_dice=float(np.count_nonzero(pooled <= tolerance_mm + ROUNDING_MM) / pooled.size),
    )


def surface_distances(
    truth: Mask, prediction: Mask, spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance in millimetres of every surface voxel of one mask to the other's surface, both ways.

    Returns:
        Distances from the truth's surface voxels to the prediction's surface, and the other way round, each in the
        order of the voxels in memory (C order).

    Raises:
        ValueError: As `surface_scores`.
    """
    check_shapes(truth, prediction)
    if truth.ndim != 3 or len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"needs masks of three axes and three positive spacings, not {truth.ndim}, {spacing}")
    if not truth.any() or not prediction.any():
        raise ValueError("an empty mask has no surface, so no distance is defined")
    box = joint_box((truth, prediction))  # nothing outside can be a surface voxel, or hide one
    first = _Surface(surface_voxels(truth[box]), spacing)
    second = _Surface(surface_voxels(prediction[box]), spacing)
    return first.distances_to(second), second.distances_to(first)


def surface_voxels(mask: Mask) -> Mask:
    """Return the voxels of `mask` (x, y, z) with a 6-neighbour outside it, or outside the array."""
    padded = np.pad(mask, 1)
    core = padded[1:-1, 1:-1, 1:-1]
    inside = padded[:-2, 1:-1, 1:-1] & padded[2:, 1:-1, 1:-1]
    inside &= padded[1:-1, :-2, 1:-1]
    inside &= padded[1:-1, 2:, 1:-1]
    inside &= padded[1:-1, 1:-1, :-2]
    inside &= padded[1:-1, 1:-1, 2:]
    return np.asarray(core & ~inside)


class _Surface:
    """Surface voxels in a padded array, where stepping by a short offset never leaves the array."""

    def __init__(self, voxels: Mask, spacing: Sequence[float]) -> None:
        self.spacing = np.asarray(spacing, dtype=np.float64)
        self.reach = [int(REACH * self.spacing.min() / length) for length in self.spacing]
        padded = np.pad(voxels, [(pad, pad) for pad in self.reach])
        self.shape = padded.shape
        self.inside = padded.ravel()
        self.places = np.flatnonzero(self.inside)

    def distances_to(self, other: _Surface) -> NDArray[np.float64]:
        """Return the exact distance in millimetres of each surface voxel to the nearest one of `other`.

        Most voxels have a neighbour within a few voxels, so offsets are tried from the nearest outwards (the first
        hit is the nearest voxel, because the offsets fill a ball), and a k-d tree answers for the rest.
        Milliseconds for both directions on one core, crop and surfaces included, of

        ======================================================= ==== ======== ==================
        masks (surface voxels of each)                          this k-d tree distance transform
        ======================================================= ==== ======== ==================
        tumour (14 000) at Dice 0.95                              23       52                136
        the same with a far false positive                        27       70                284
        liver (155 000)                                          445      628                911
        half of all voxels at random (106 000)                    10      262                 43
        two balls far apart (9 000)                              143      190                506
        ball in a ball, 10 voxels from surface to surface        562      386                382
        ======================================================= ==== ======== ==================

        where "k-d tree" is one for all voxels and the distance transform is that of `edt` in the joint box.
        """
        result = np.empty(self.places.size)
        waiting = np.arange(self.places.size)
        places = self.places
        for distance, steps in self._shells():
            hit = other.inside[places + steps[0]]
            for step in steps[1:]:
                hit |= other.inside[places + step]
            result[waiting[hit]] = distance
            waiting, places = waiting[~hit], places[~hit]
            if not waiting.size:
                return result
        # An unbalanced tree with loose nodes is built faster and is no slower to ask on such points.
        tree = cKDTree(other._millimetres(other.places), balanced_tree=False, compact_nodes=False)
        result[waiting] = tree.query(self._millimetres(places))[0]
        return result

    def _millimetres(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.stack(np.unravel_index(places, self.shape), axis=1) * self.spacing

    def _shells(self) -> Iterator[tuple[float, NDArray[np.intp]]]:
        """Yield each distance up to REACH finest voxels with the steps in the flat array that span it, in order."""
        ranges = np.meshgrid(*(np.arange(-pad, pad + 1) for pad in self.reach), indexing="ij")
        offsets = np.stack([axis.ravel() for axis in ranges], axis=1)
        lengths = np.linalg.norm(offsets * self.spacing, axis=1)
        steps = offsets @ np.array([self.shape[1] * self.shape[2], self.shape[2], 1])
        for length in np.unique(lengths[lengths <= REACH * self.spacing.min()]):
            yield float(length), steps[lengths == length]
