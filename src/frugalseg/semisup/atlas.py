"""Labels for a volume without a network: labelled cases are deformed onto it, and vote.

With few labels and images of like anatomy this is hard to beat (docs/decisions/0016), and as a first teacher of a
network it knows more than the network does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frugalseg.data.warp import Floats, Spacing, places_of, sample, within
from frugalseg.semisup.fusion import FusionSettings, vote
from frugalseg.semisup.registration import RegistrationSettings
from frugalseg.settings import Settings

IGNORED = 255


class AtlasSettings(Settings):
    """How labelled cases are laid onto another one."""

    registration: RegistrationSettings = RegistrationSettings()
    fusion: FusionSettings = FusionSettings()
    most: Annotated[int, Field(ge=1)] = 24
    """Labelled cases that are laid onto others, at most; the first of the budget."""
    least: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Mean Dice of labelled cases labelled by the others in this way, below which images count as not alike."""


@dataclass(frozen=True)
class Labelled:
    """A labelled case: image (C, x, y, z), classes (R, x, y, z) with 255 where nothing is known, spacing in mm."""

    image: Floats
    label: NDArray[np.uint8]
    spacing: Spacing


def shares_of(label: NDArray[np.uint8], classes: int) -> Floats:
    """Return class indices (R, x, y, z) as shares (R, K, x, y, z); an ignored voxel has none of any."""
    return np.stack([label == k for k in range(classes)], axis=1).astype(np.float32)


def fused(
    target: Floats,
    spacing: Spacing,
    cases: Sequence[Labelled],
    field: Callable[[int], Floats],
    classes: int,
    settings: FusionSettings,
) -> Floats:
    """Return the probabilities (R, K, x, y, z) of the target's classes, 0 for all where nothing is known.

    Of the cases' warped images and labels one is held at a time. Beyond its image a case knows nothing.

    Args:
        target: (C, x, y, z).
        spacing: Of its grid, in mm.
        cases: The labelled cases.
        field: The displacement of the case of that number onto the target (`registration.register`).
        classes: K.
        settings: How they vote.
    """

    def warped() -> Iterator[tuple[Floats, Floats]]:
        for number, case in enumerate(cases):
            shares = shares_of(case.label, classes)
            both = np.concatenate([case.image, shares.reshape(-1, *shares.shape[2:])])
            places = places_of(field(number), case.spacing, spacing)
            there, channels = sample(both, places), len(case.image)
            there[channels:] *= within(places, case.image.shape[1:])
            yield there[:channels], there[channels:].reshape(*shares.shape[:2], *target.shape[1:])

    return vote(target, spacing, warped(), settings)


def bytes_needed(voxels: int, channels: int, outputs: int, cases: int) -> int:
    """Return what fusing the labels of `cases` cases for a target of so many voxels holds at most, about."""
    return voxels * (cases + 20 * channels + 28 * outputs + 100)


def dice(found: Floats, truth: NDArray[np.uint8]) -> float:
    """Return the mean Dice of the structures that the truth (R, x, y, z) has; found: (R, K, x, y, z).

    NaN where it has none: nothing can be said of such a case.
    """
    best = found.argmax(axis=1)
    scores = []
    for group in range(len(truth)):
        known = truth[group] != IGNORED
        for k in range(1, found.shape[1]):
            a, b = (best[group] == k) & known, truth[group] == k
            if b.any():
                scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return float(np.mean(scores)) if scores else float("nan")
