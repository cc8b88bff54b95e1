"""How far brightness alone gets on the phantoms: the best cut through one channel, the floor of the demo."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.phantom import CHANNELS
from frugalseg.errors import UserError

_CUTS = np.linspace(-3.0, 5.0, 321)  # in standard deviations

Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


class Threshold(NamedTuple):
    """A cut through one channel, in standard deviations from its mean over the brain, and what it scores."""

    channel: str
    direction: str
    threshold: float
    dice: float


def threshold_baseline(known: Iterable[Pair], scored: Iterable[Pair]) -> Threshold:
    """Find the best cut through one channel on the `known` cases and score the whole tumour with it.

    Every channel is shifted and scaled to mean 0 and deviation 1 over the brain, the voxels that are not 0.

    Args:
        known: (image (4, x, y, z), label (x, y, z)) of the cases that the cut is chosen on.
        scored: The same of the cases that it is scored on.

    Returns:
        The cut, with the mean Dice of the whole tumour over `scored`.

    Raises:
        UserError: There is no case to choose on or to score.
    """
    chosen, scores = _mean_dice(known), _mean_dice(scored)
    return _threshold(scores, *np.unravel_index(chosen.argmax(), chosen.shape))


def threshold_oracle(scored: Iterable[Pair]) -> tuple[Threshold, ...]:
    """Return for every channel the cut that is best on `scored` itself: no cut chosen elsewhere scores more.

    Args:
        scored: As for `threshold_baseline`.

    Raises:
        UserError: There is no case.
    """
    scores = _mean_dice(scored)
    best = [np.unravel_index(dice.argmax(), dice.shape) for dice in scores]
    return tuple(_threshold(scores, channel, below, cut) for channel, (below, cut) in enumerate(best))


def _threshold(scores: NDArray[np.float64], channel: int | np.intp, below: np.intp, cut: np.intp) -> Threshold:
    direction = "below" if below else "above"
    return Threshold(CHANNELS[int(channel)], direction, float(_CUTS[cut]), float(scores[channel, below, cut]))


def _mean_dice(cases: Iterable[Pair]) -> NDArray[np.float64]:
    """Return the mean over cases of `_dice_of_cuts`, with one case in memory at a time."""
    tables = [_dice_of_cuts(image, label) for image, label in cases]
    if not tables:
        raise UserError("a threshold needs at least one case with a label to be chosen on and one to be scored on")
    return np.asarray(np.mean(tables, axis=0))


def _dice_of_cuts(image: NDArray[np.float32], label: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the Dice of every cut (channel, above or below, place in `_CUTS`), reading each voxel once."""
    brain = (image != 0).any(axis=0)
    lesion = label[brain] > 0
    size = np.count_nonzero(label)
    result = np.zeros((len(image), 2, len(_CUTS)))
    for channel, scan in enumerate(image):
        values = scan[brain].astype(np.float64)
        values = (values - values.mean()) / max(float(values.std()), 1e-12)
        place = np.searchsorted(_CUTS, values)  # so many cuts lie below the value
        found, hits = _above_and_below(place), _above_and_below(place[lesion])
        result[channel] = 2.0 * hits / np.maximum(found + size, 1)
    return result


def _above_and_below(place: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return (2, cuts): how many values lie above each cut, and how many do not."""
    below = np.bincount(place, minlength=len(_CUTS) + 1)[:-1].cumsum()
    return np.stack([len(place) - below, below])
