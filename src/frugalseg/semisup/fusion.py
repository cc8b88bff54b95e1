"""Labels of several registered cases, fused into one: a vote in which who looks alike nearby counts more.

Locally weighted voting (Artaechevarria et al. 2009): the weight of a case in a voxel is exp(-d / h), where d is the
mean squared difference of the images over a cube about the voxel, less the smallest of all cases there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from frugalseg.settings import Settings

Floats = NDArray[np.float32]
LEAST_KNOWN = 0.5  # share of the votes in a voxel that must know something


class FusionSettings(Settings):
    """How labels are fused."""

    radius: Annotated[int, Field(ge=0, le=20)] = 2
    """Voxels from the cube's centre to its faces."""
    decay: Annotated[float, Field(gt=0)] = 0.1
    """h: the difference, in variances of the image, at which a weight falls to 1 / e."""


def difference(target: Floats, image: Floats, radius: int) -> Floats:
    """Return the images' mean squared difference (x, y, z) over a cube about each voxel, and over the channels."""
    apart = np.square(image - target).mean(axis=0)
    return np.asarray(ndimage.uniform_filter(apart, 2 * radius + 1, mode="nearest"), np.float32)


def local_weights(differences: Sequence[Floats], decay: float) -> Floats:
    """Return each image's weights (images, x, y, z), adding up to 1 in every voxel."""
    apart = np.stack(differences)
    apart -= apart.min(axis=0)
    np.exp(-apart / decay, out=apart)
    apart /= apart.sum(axis=0)
    return apart


def vote(weights: Floats, labels: Iterable[Floats]) -> Floats:
    """Return the probability of each class (R, K, x, y, z).

    Who knows nothing of a voxel does not vote there; where those who do have less than half of the weight, nothing
    is known: 0 for every class.

    Args:
        weights: (cases, x, y, z).
        labels: Shares of the classes (R, K, x, y, z) of one case after the other, 0 for all where it knows nothing.
    """
    total: Floats | None = None
    for weight, label in zip(weights, labels, strict=True):
        total = weight * label if total is None else total + weight * label
    if total is None:
        raise ValueError("nobody to vote")
    mass = total.sum(axis=1, keepdims=True)
    return np.where(mass >= LEAST_KNOWN, total / np.maximum(mass, LEAST_KNOWN), 0).astype(np.float32)
