"""Deformable registration of one image onto another: an affine start where it helps, then demons.

SimpleITK does the work: symmetric-forces demons (Vercauteren et al. 2009) on a coarse and on the full grid, the
field smoothed after each iteration. Images must have like intensities (z-scores) and show like anatomy, roughly
aligned. Images of more than `voxels` are registered on a coarser grid, and the field, which is smooth, is laid onto
theirs. Across an axis of fewer than 4 voxels the centres are laid onto each other. Several channels are registered
by the mean of those that both images have. One thread, so that a pair has the same field everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frugalseg.data.resample import apply, matrices
from frugalseg.data.warp import Floats, Spacing
from frugalseg.semisup.shown import shown_by_both
from frugalseg.settings import Settings

VOXELS = 2**19
LEAST_SIDE = 4  # voxels; below it an axis counts as flat
NO_MEMORY = ("allocate memory", "bad_alloc")  # what SimpleITK says; it has one class for all errors


class NotRegistered(ValueError):
    """No displacement was found between two images."""


class RegistrationSettings(Settings):
    """How images are registered."""

    start: Literal["centre", "affine"] = "centre"
    """`centre`: the images' centres are laid onto each other; `affine`: then also turned, scaled and sheared to the
    largest correlation."""
    iterations: Annotated[int, Field(ge=1, le=1000)] = 50
    """Of the demons on each of the two grids."""
    smoothing: Annotated[float, Field(gt=0, le=20)] = 1.0
    """Standard deviation, in voxels, by which the field is smoothed after each iteration."""
    voxels: Annotated[int, Field(ge=4096)] = VOXELS
    """Images of more voxels are registered on a coarser grid of about so many."""

    def content(self, larger: bool) -> dict[str, Any]:
        """Return what a displacement depends on; the number of voxels only if one of the two images has more.

        Displacements of smaller images are what they were before there was such a number, and so are their keys.
        """
        return self.model_dump(mode="json", exclude=None if larger else {"voxels"})


def register(
    moving: Floats,
    fixed: Floats,
    moving_spacing: Spacing,
    spacing: Spacing,
    settings: RegistrationSettings,
    every: int = 1,
) -> Floats:
    """Return the displacement (3, x, y, z) in mm that takes each voxel of `fixed` to its place in `moving`.

    What a displacement is stands in `frugalseg.data.warp`.

    Args:
        moving: (C, x, y, z).
        fixed: (C, x, y, z), of its own sides.
        moving_spacing: Of the moving image, in mm.
        spacing: Of the fixed image, in mm.
        settings: How.
        every: One of so many voxels along each axis is told, the first one among them.

    Raises:
        NotRegistered: None was found.
        MemoryError: Memory ran out, which says nothing about the images.
    """
    try:
        found = _registered(moving, fixed, moving_spacing, spacing, settings, every)
    except RuntimeError as error:
        line = " ".join(str(error).split())[-200:]
        if any(sign in str(error) for sign in NO_MEMORY):
            raise MemoryError(line) from error
        raise NotRegistered(line) from error
    if not np.isfinite(found).all():
        raise NotRegistered("the field has values that are no numbers")
    return found


def _registered(
    moving: Floats,
    fixed: Floats,
    moving_spacing: Spacing,
    spacing: Spacing,
    settings: RegistrationSettings,
    every: int,
) -> Floats:
    import SimpleITK as sitk

    sides = fixed.shape[1:]
    shown = shown_by_both(moving, fixed)
    seen, target = mean_of(moving, shown), mean_of(fixed, shown)
    size = max(coarsest(fixed.shape[1:], spacing, settings.voxels),
               coarsest(moving.shape[1:], moving_spacing, settings.voxels))  # fmt: skip
    still = _image(sitk, *coarser(target, spacing, size))
    moved = _image(sitk, *coarser(seen, moving_spacing, size))
    first = _first(sitk, still, moved, settings)
    nearer = sitk.Resample(moved, still, first, sitk.sitkLinear, float(seen.min()))
    field = _demons(sitk, still, nearer, settings)
    whole = sitk.CompositeTransform([first, sitk.DisplacementFieldTransform(field)])
    few = [-(-side // every) for side in sides]
    apart = [every * size for size in spacing]
    told = sitk.TransformToDisplacementField(whole, sitk.sitkVectorFloat32, few, (0.0, 0.0, 0.0), apart)
    found = np.ascontiguousarray(sitk.GetArrayFromImage(told).transpose(3, 2, 1, 0))
    for axis, (own, other) in enumerate(zip(sides, moving.shape[1:], strict=True)):
        if min(own, other) < LEAST_SIDE:  # so few slices show nothing of a displacement across them
            found[axis] = ((other - 1) * moving_spacing[axis] - (own - 1) * spacing[axis]) / 2
    return found


def mean_of(image: Floats, channels: NDArray[np.intp]) -> Floats:
    """Return the mean (x, y, z) of some channels of an image (C, x, y, z), without a copy of all; one is a view."""
    found: Floats = image[channels[0]]
    for channel in channels[1:]:
        found = found + image[channel]
    return found / np.float32(len(channels)) if len(channels) > 1 else found


def _added(sides: tuple[int, ...]) -> list[int]:
    """Return the voxels added at both ends of each axis, so that the centre stays: demons need some along each."""
    return [max(0, LEAST_SIDE - side + 1) // 2 for side in sides]


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the `with` block SimpleITK's filters have a thread each: their callers are many."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def registration_version() -> str:
    """Return the version of what registers: another one may give another field."""
    import SimpleITK as sitk

    return str(sitk.Version.VersionString())


def coarsest(sides: tuple[int, ...], spacing: Spacing, voxels: int) -> float:
    """Return the side in mm that finer voxels are brought to, so that an image has about so many; 0: none is."""
    size = 0.0
    while math.prod(_coarse_sides(sides, spacing, size)) > voxels:
        size = 1.02 * size if size else min(spacing)
    return size


def coarser(array: Floats, spacing: Spacing, size: float) -> tuple[Floats, Spacing, Spacing]:
    """Return an image (x, y, z) in voxels of at least so many mm, their spacing, and where the first one lies.

    Each voxel is the mean of what it covers. The extent stays, to the edges of the outer voxels.
    """
    x, y, z = _coarse_sides(array.shape, spacing, size)
    a, b, c = (side * own / new for side, own, new in zip(array.shape, spacing, (x, y, z), strict=True))
    places = ((a - spacing[0]) / 2, (b - spacing[1]) / 2, (c - spacing[2]) / 2)
    if (x, y, z) == array.shape:
        return array, spacing, (0.0, 0.0, 0.0)
    return apply(array, matrices(array.shape, (x, y, z), ("votes",) * 3)), (a, b, c), places


def _coarse_sides(sides: tuple[int, ...], spacing: Spacing, size: float) -> tuple[int, int, int]:
    x, y, z = (
        side if own >= size or side <= LEAST_SIDE else max(LEAST_SIDE, math.ceil(side * own / size))
        for side, own in zip(sides, spacing, strict=True)
    )
    return x, y, z


def _image(sitk: Any, array: Floats, spacing: Spacing, place: Spacing) -> Any:
    """Return an image (x, y, z) with its first voxel at a place in mm; its flat axes go on as they end."""
    added = _added(array.shape)
    thick = np.pad(array, [(count, count) for count in added], mode="edge")
    image = sitk.GetImageFromArray(np.ascontiguousarray(thick.transpose(2, 1, 0), np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin([first - count * size for first, count, size in zip(place, added, spacing, strict=True)])
    return image


def _first(sitk: Any, fixed: Any, moving: Any, settings: RegistrationSettings) -> Any:
    """Return the transform that the demons begin with."""
    centred = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    if settings.start == "centre":
        return centred
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-2, 40, relaxationFactor=0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([1])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(centred, inPlace=False)
    return method.Execute(fixed, moving)


def _demons(sitk: Any, fixed: Any, moving: Any, settings: RegistrationSettings) -> Any:
    """Return the displacement field in mm, on the fixed image's grid."""
    method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    method.SetNumberOfThreads(1)
    method.SetNumberOfIterations(settings.iterations)
    method.SetSmoothDisplacementField(True)
    method.SetStandardDeviations(settings.smoothing)
    halves = [2 if size >= 8 else 1 for size in fixed.GetSize()]
    small = [sitk.Shrink(_smoothed(sitk, image), halves) for image in (fixed, moving)]
    field = method.Execute(*small)
    field = sitk.Resample(field, fixed, sitk.Transform(), sitk.sitkLinear, 0.0, field.GetPixelID())
    return sitk.Cast(method.Execute(fixed, moving, field), sitk.sitkVectorFloat64)


def _smoothed(sitk: Any, image: Any) -> Any:
    """Return an image smoothed by a voxel along each axis, before every second one is left out."""
    return sitk.DiscreteGaussian(image, [float(step) ** 2 for step in image.GetSpacing()])
