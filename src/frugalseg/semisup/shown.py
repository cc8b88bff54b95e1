"""Which channels two images can be compared in: a channel that one of them lacks is the same everywhere in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.warp import Floats


def shown_by_both(one: Floats, other: Floats) -> NDArray[np.intp]:
    """Return the channels in which both images (C, x, y, z) show something; all channels where there is none."""
    shows = [np.ptp(image.reshape(len(image), -1), axis=1) > 0 for image in (one, other)]
    both = np.flatnonzero(shows[0] & shows[1])
    return both if len(both) else np.arange(len(one))
