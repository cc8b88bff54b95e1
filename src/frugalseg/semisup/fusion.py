"""Labels of several registered cases, fused into one: a vote in which patches that look alike count more.

Non-local means (Coupé et al. 2011; Rousseau et al. 2011): in a voxel each registered case votes with the labels of
the voxels around it, too, because registration is a voxel or so off. The weight of a vote is exp(-(d - m) / h):
d is the mean squared difference of the patches, weighted by a Gaussian about their centres, and m the smallest d of
all votes in that voxel. Without a search it is locally weighted voting (Artaechevarria et al. 2009).

What differs from those papers: one h for all voxels, and a Gaussian window instead of a cube.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from frugalseg.data.warp import Floats, Spacing
from frugalseg.semisup.shown import shown_by_both
from frugalseg.settings import Settings

LEAST_KNOWN = 0.5  # share of the votes in a voxel that must know something
TRUNCATED = 3.0  # standard deviations at which the window ends


class FusionSettings(Settings):
    """How labels are fused."""

    window: Annotated[float, Field(gt=0, le=20)] = 1.0
    """Standard deviation, in voxels, of the Gaussian window of a patch."""
    search: Annotated[float, Field(ge=0, le=5)] = 1.5
    """How far off a patch may lie, in voxels of the finest axis; 0: registration is believed to the voxel."""
    decay: Annotated[float, Field(gt=0)] = 0.1
    """h: the difference, in variances of the image, at which a weight falls to 1 / e."""


def steps_within(search: float, spacing: Spacing, sides: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the steps in voxels, not longer than `search` voxels of the finest axis and none along flat ones."""
    finest = min((size for size, side in zip(spacing, sides, strict=True) if side > 1), default=min(spacing))
    sizes = np.array(spacing) / finest
    most = [int(search / size) if side > 1 else 0 for size, side in zip(sizes, sides, strict=True)]
    every = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
    near = every[np.linalg.norm(every * sizes, axis=1) <= search + 1e-9]
    return [(int(x), int(y), int(z)) for x, y, z in near]


def difference(target: Floats, image: Floats, window: float) -> Floats:
    """Return the patches' mean squared difference (x, y, z) about each voxel, also the mean over the channels."""
    apart = np.square(image - target).mean(axis=0)
    return np.asarray(ndimage.gaussian_filter(apart, window, mode="nearest", truncate=TRUNCATED), np.float32)


def vote(
    target: Floats, spacing: Spacing, cases: Iterable[tuple[Floats, Floats]], settings: FusionSettings
) -> Floats:
    """Return the probability of each class (R, K, x, y, z).

    Who knows nothing of a voxel does not vote there; where those who do have less than half of the weight, nothing
    is known: 0 for every class. One case is held at a time.

    Args:
        target: Image (C, x, y, z).
        spacing: Of its voxels, in mm.
        cases: On the target's grid: image (C, x, y, z) and shares of the classes (R, K, x, y, z), which are 0 for
            all where a case knows nothing.
        settings: How.

    Raises:
        ValueError: There is no case.
    """
    least = np.full(target.shape[1:], np.inf, np.float32)
    total = np.zeros(target.shape[1:], np.float32)
    votes: Floats | None = None
    steps = steps_within(settings.search, spacing, target.shape[1:])
    for shown, image, shares in _shifted(target, cases, steps):
        apart = difference(target[shown], image, settings.window)
        # Weights are over the smallest difference so far; when it falls, those that were given shrink with it.
        nearest = np.minimum(least, apart)
        shrink, weight = np.exp((nearest - least) / settings.decay), np.exp((nearest - apart) / settings.decay)
        least = nearest
        total *= shrink
        total += weight
        if votes is None:
            votes = weight * shares
        else:
            votes *= shrink
            votes += weight * shares
    if votes is None:
        raise ValueError("nobody to vote")
    votes /= total
    mass = votes.sum(axis=1, keepdims=True)
    return np.where(mass >= LEAST_KNOWN, votes / np.maximum(mass, LEAST_KNOWN), 0).astype(np.float32)


def _shifted(
    target: Floats, cases: Iterable[tuple[Floats, Floats]], steps: list[tuple[int, int, int]]
) -> Iterator[tuple[NDArray[np.intp], Floats, Floats]]:
    """Yield every case as often as there are steps, moved by them; beyond its edge, its edge.

    Before it, the channels that both it and the target have; its image has these alone.
    """
    most = np.abs(np.array(steps)).max(axis=0)
    for image, shares in cases:
        sides = image.shape[1:]
        shown = shown_by_both(target, image)
        border = [(int(m), int(m)) for m in most]
        wide = np.pad(image[shown], [(0, 0), *border], mode="edge")
        wide_shares = np.pad(shares, [(0, 0), (0, 0), *border], mode="edge")
        for step in steps:
            box = tuple(slice(int(m) + s, int(m) + s + side) for m, s, side in zip(most, step, sides, strict=True))
            yield shown, wide[:, *box], wide_shares[:, :, *box]
