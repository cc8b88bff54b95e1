"""Labels for a volume without a network: labelled cases are deformed onto it, and vote.

With few labels and images of like anatomy this is hard to beat (docs/decisions/0016), and as a first teacher of a
network it knows more than the network does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frugalseg.data.warp import Box, Floats, Spacing, around, box_of, column, corner, places_of, sample, within
from frugalseg.semisup.fusion import LEAST_KNOWN, Ballot, FusionSettings, reach, steps_within, vote
from frugalseg.semisup.registration import RegistrationSettings
from frugalseg.semisup.shown import shown_by_both
from frugalseg.semisup.undecided import Part, among_background, block_side, blocks, parts, widened
from frugalseg.semisup.votes import Votes, Weighed
from frugalseg.settings import Settings

IGNORED = 255
Displacements = Callable[[int, Box], Floats]
"""A box (3, x, y, z) of the displacement, in mm, of the case of that number onto the target."""


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
    field: Displacements,
    classes: int,
    settings: FusionSettings,
    threads: int = 1,
) -> Votes:
    """Return what labelled cases that are registered onto a target say about its classes.

    Images are compared in the channels in which both show anything. Beyond its image a case knows nothing.
    Votes are weighed about every voxel that some case is not sure about or has such a one in reach (`undecided`), a
    block at a time. All others are background where at least half of the cases know something.

    Args:
        target: (C, x, y, z).
        spacing: Of its grid, in mm.
        cases: The labelled cases, at least one.
        field: A box of the displacement of the case of that number onto the target (`registration.register`).
        classes: K.
        settings: How they vote.
        threads: Blocks at a time.
    """
    x, y, z = target.shape[1:]
    steps = steps_within(settings.search, spacing, (x, y, z))
    channels = [shown_by_both(target, case.image) for case in cases]
    far = reach(steps, settings.window)
    side = block_side(far)
    undecided, known = np.zeros((x, y, z), np.bool_), np.zeros((x, y, z), np.bool_)

    def places(number: int, box: Box) -> Floats:
        return places_of(field(number, box), cases[number].spacing, spacing, corner(box))

    def look(block: Box) -> None:
        knowing = np.zeros(undecided[block].shape, np.uint32)
        for number, case in enumerate(cases):
            there = places(number, block)
            inside = within(there, case.label.shape[1:])
            knowing += inside
            undecided[block] |= inside & ~among_background(case.label, there)
        known[block] = knowing >= LEAST_KNOWN * len(cases)

    def count(part: Part) -> Weighed:
        def ballots() -> Iterator[Ballot]:
            for number, case in enumerate(cases):
                yield ballot(case, places(number, part.wide), channels[number], classes)

        votes = vote(target[:, *part.wide], steps, ballots(), settings)
        # The part also holds voxels that are decided: they stay as they are. Copies let go of what is around it.
        return Weighed(part.own, wanted[part.own].copy(), votes[:, :, *part.within].copy())

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(look, blocks((x, y, z), side)):
            pass
        wanted = widened(undecided, steps)
        weighed = tuple(pool.map(count, parts(wanted, far, side)))
    return Votes(known, weighed, (len(cases[0].label), classes))


def ballot(case: Labelled, places: Floats, channels: NDArray[np.intp], classes: int) -> Ballot:
    """Return what a labelled case shows at places (3, x, y, z) in its voxels; only the box around them is read."""
    first, sides = around(places, case.label.shape[1:])
    box = box_of(first, sides)
    shares = shares_of(case.label[:, *box], classes)
    both = np.concatenate([case.image[:, *box][channels], shares.reshape(-1, *sides)])
    there = sample(both, places - column(first))
    there[len(channels) :] *= within(places, case.label.shape[1:])
    return Ballot(channels, there[: len(channels)], there[len(channels) :].reshape(-1, classes, *places.shape[1:]))


def finer(spacing: Spacing, cases: Sequence[Labelled]) -> float:
    """Return how many voxels a case has in one of the target's, at most, and at least 1."""
    return max(
        math.prod(max(1.0, own / its) for own, its in zip(spacing, case.spacing, strict=True)) for case in cases
    )


def dice(found: Floats | NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
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
