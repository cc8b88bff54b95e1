"""Labels of several registered cases, fused into one: a vote in which patches that look alike count more.

Non-local means (Coupé et al. 2011; Rousseau et al. 2011): in a voxel each registered case votes with the labels of
the voxels around it, too, because registration is a voxel or so off. The weight of a vote is exp(-(d - m) / h):
d is the mean squared difference of the patches, weighted by a Gaussian about their centres, and m the smallest d of
all votes in that voxel. Without a search it is locally weighted voting (Artaechevarria et al. 2009).

What differs from those papers: one h for all voxels, and a Gaussian window instead of a cube.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frugalseg.data.warp import Floats, Sides, Spacing
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


@dataclass(frozen=True)
class Ballot:
    """A registered case on the target's grid.

    `channels`: those that both it and the target show something in; `image` (C, x, y, z) has these alone. `shares`
    (R, K, x, y, z) of the classes are 0 for all where the case knows nothing.
    """

    channels: NDArray[np.intp]
    image: Floats
    shares: Floats


def steps_within(search: float, spacing: Spacing, sides: tuple[int, ...]) -> list[Sides]:
    """Return the steps in voxels, not longer than `search` voxels of the finest axis and none along flat ones."""
    finest = min((size for size, side in zip(spacing, sides, strict=True) if side > 1), default=min(spacing))
    sizes = np.array(spacing) / finest
    most = [int(search / size) if side > 1 else 0 for size, side in zip(sizes, sides, strict=True)]
    every = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
    near = every[np.linalg.norm(every * sizes, axis=1) <= search + 1e-9]
    return [(int(x), int(y), int(z)) for x, y, z in near]


def difference(target: Floats, image: Floats, window: float) -> Floats:
    """Return the patches' mean squared difference (x, y, z) about each voxel, also the mean over the channels."""
    return smoothed(np.square(image - target).mean(axis=0), window)


def smoothed(values: Floats, sigma: float) -> Floats:
    """Return values (x, y, z) smoothed by a Gaussian; beyond the edge it is the edge.

    What `scipy.ndimage.gaussian_filter` gives, in single precision and 2.5 times as fast: most of a vote was it.
    """
    far = window_reach(sigma)
    taps = np.exp(-0.5 * np.square(np.arange(far + 1) / sigma))
    taps = (taps / (2 * taps.sum() - 1)).astype(np.float32)
    for axis, side in enumerate(values.shape):
        border = [(far, far) if other == axis else (0, 0) for other in range(3)]
        lines = np.moveaxis(np.pad(values, border, mode="edge"), axis, 0)
        found = taps[0] * lines[far : far + side]
        for step in range(1, far + 1):
            both = lines[far - step : far - step + side] + lines[far + step : far + step + side]
            both *= taps[step]
            found += both
        values = np.moveaxis(found, 0, axis)
    return values


def window_reach(sigma: float) -> int:
    """Return how many voxels the window reaches to each side."""
    return int(TRUNCATED * sigma + 0.5)


def reach(steps: list[Sides], window: float) -> Sides:
    """Return how far a vote of these steps and this window looks along each axis, in voxels."""
    x, y, z = np.abs(np.array(steps)).max(axis=0) + window_reach(window)
    return int(x), int(y), int(z)


def vote(target: Floats, steps: list[Sides], ballots: Iterable[Ballot], settings: FusionSettings) -> Floats:
    """Return the probability of each class (R, K, x, y, z).

    Who knows nothing of a voxel does not vote there; where those who do have less than half of the weight, nothing
    is known: 0 for every class. One case is held at a time.

    Args:
        target: Image (C, x, y, z).
        steps: By which a patch may be off, in voxels: `steps_within`.
        ballots: Of the registered cases.
        settings: How.

    Raises:
        ValueError: There is none.
    """
    least = np.full(target.shape[1:], np.inf, np.float32)
    total = np.zeros(target.shape[1:], np.float32)
    votes: Floats | None = None
    for channels, image, shares in _shifted(ballots, steps):
        apart = difference(target[channels], image, settings.window)
        # Weights are over the smallest difference so far; when it falls, those that were given shrink with it.
        nearer = apart < least
        fall = np.exp(-np.abs(apart - least) / np.float32(settings.decay))
        shrink, weight = np.where(nearer, fall, np.float32(1)), np.where(nearer, np.float32(1), fall)
        least = np.minimum(least, apart)
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


def _shifted(ballots: Iterable[Ballot], steps: list[Sides]) -> Iterator[tuple[NDArray[np.intp], Floats, Floats]]:
    """Yield every ballot as often as there are steps, moved by them; beyond its edge, its edge."""
    most = np.abs(np.array(steps)).max(axis=0)
    for ballot in ballots:
        sides = ballot.image.shape[1:]
        border = [(int(m), int(m)) for m in most]
        wide = np.pad(ballot.image, [(0, 0), *border], mode="edge")
        wide_shares = np.pad(ballot.shares, [(0, 0), (0, 0), *border], mode="edge")
        for step in steps:
            box = tuple(slice(int(m) + s, int(m) + s + side) for m, s, side in zip(most, step, sides, strict=True))
            yield ballot.channels, wide[:, *box], wide_shares[:, :, *box]
