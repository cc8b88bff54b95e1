"""How long registering takes on this processor: a small pair is timed, others follow from their voxels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
from scipy import ndimage

from frugalseg.data.warp import Floats
from frugalseg.semisup.registration import NotRegistered, RegistrationSettings, one_thread, register

SIDE = 32  # voxels of the pair that is timed
LAYING = 0.01  # of a voxel's registration: laying its displacement onto the voxel of a larger image; measured
SPACING = (1.0, 1.0, 1.0)


def pair_seconds(
    settings: RegistrationSettings,
    shapes: Sequence[tuple[int, int, int]],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the mean seconds that one processor takes to register a pair of images of these shapes.

    Args:
        settings: How.
        shapes: Of the images onto which others are registered, in voxels.
        clock: Returns seconds.
    """
    one, other = texture(0), texture(1)
    with one_thread():
        begun = clock()
        with suppress(NotRegistered):  # which takes as long
            register(one, other, SPACING, SPACING, settings)
        each = (clock() - begun) / min(SIDE**3, settings.voxels)
    voxels = [math.prod(shape) for shape in shapes]
    work = [min(count, settings.voxels) + LAYING * max(0, count - settings.voxels) for count in voxels]
    return each * float(np.mean(work))


def texture(seed: int) -> Floats:
    """Return a smooth random image (1, x, y, z): two of them are nowhere alike, so that no iteration is spared."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE,) * 3), 2)
    return np.asarray(noise / noise.std(), np.float32)[None]
