"""Labels of several registered cases, fused into one: a vote in which who looks alike nearby counts more.

Locally weighted voting (Artaechevarria et al. 2009): the weight of a case in a voxel is exp(-d / h), where d is the
mean squared difference of the images over a cube about the voxel, less the smallest of all cases there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from frugalseg.settings import Settings

Floats = NDArray[np.float32]


class FusionSettings(Settings):
    """How labels are fused."""

    radius: Annotated[int, Field(ge=0, le=20)] = 2
    """Voxels from the cube's centre to its faces."""
    decay: Annotated[float, Field(gt=0)] = 0.1
    """h: the difference, in variances of the image, at which a weight falls to 1 / e."""


def fuse(target: Floats, images: Sequence[Floats], labels: Sequence[Floats], settings: FusionSettings) -> Floats:
    """Return the probability of each class, of the labels' shape, adding up to what theirs add up to.

    Args:
        target: (C, x, y, z), the image that is labelled.
        images: Registered images of its shape.
        labels: Their labels as shares (R, K, x, y, z).
        settings: How.
    """
    weights = local_weights(target, images, settings)
    total = np.zeros_like(labels[0])
    for weight, label in zip(weights, labels, strict=True):
        total += weight * label
    return total


def local_weights(target: Floats, images: Sequence[Floats], settings: FusionSettings) -> Floats:
    """Return each image's weights (images, x, y, z), adding up to 1 in every voxel."""
    side = 2 * settings.radius + 1
    apart = np.stack([
        ndimage.uniform_filter(np.square(image - target).mean(axis=0), side, mode="nearest") for image in images
    ])  # fmt: skip
    apart -= apart.min(axis=0)
    weights = np.exp(-apart / settings.decay)
    return np.asarray(weights / weights.sum(axis=0), np.float32)
