"""Labels for a volume without a network: labelled cases are deformed onto it, and vote.

With few labels and images of like anatomy this is hard to beat (docs/decisions/0016), and as a first teacher of a
network it knows more than the network does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frugalseg.semisup.fusion import FusionSettings, fuse
from frugalseg.semisup.registration import Floats, RegistrationSettings, Spacing, warp
from frugalseg.settings import Settings


class AtlasSettings(Settings):
    """How labelled cases are laid onto another one."""

    registration: RegistrationSettings = RegistrationSettings()
    fusion: FusionSettings = FusionSettings()


@dataclass(frozen=True)
class Labelled:
    """A labelled case: its image (C, x, y, z), its classes as shares (R, K, x, y, z), 0 where nothing is known."""

    image: Floats
    shares: Floats


def shares_of(label: NDArray[np.uint8], classes: int) -> Floats:
    """Return class indices (R, x, y, z) as shares (R, K, x, y, z); an ignored voxel has none of any."""
    return np.stack([label == k for k in range(classes)], axis=1).astype(np.float32)


def fused(
    target: Floats,
    cases: Sequence[Labelled],
    displacements: Sequence[Floats],
    spacing: Spacing,
    settings: FusionSettings,
) -> Floats:
    """Return the probabilities (R, K, x, y, z) of the target's classes.

    Args:
        target: (C, x, y, z).
        cases: The labelled cases.
        displacements: Of each, onto the target; see `registration.register`.
        spacing: Of all grids, in mm.
        settings: How they vote.
    """
    images = [warp(case.image, field, spacing) for case, field in zip(cases, displacements, strict=True)]
    labels = []
    for case, field in zip(cases, displacements, strict=True):
        flat = case.shares.reshape(-1, *case.shares.shape[2:])
        labels.append(warp(flat, field, spacing).reshape(*case.shares.shape[:2], *field.shape[1:]))
    return fuse(target, images, labels, settings)


def dice(found: Floats, truth: NDArray[np.uint8]) -> float:
    """Return the mean Dice of the structures that the truth (R, x, y, z) has; found: (R, K, x, y, z)."""
    best = found.argmax(axis=1)
    scores = []
    for group in range(len(truth)):
        for k in range(1, found.shape[1]):
            a, b = best[group] == k, truth[group] == k
            if b.any():
                scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(scores)) if scores else 0.0
