"""Settings of prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from frugalseg.settings import Settings

PASS_VOXELS = 2**18  # of the windows of a pass: from there on more at a time are no faster


class InferenceSettings(Settings):
    """How a volume is predicted."""

    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    """Share of a window that the next one covers again, at least."""
    flips: bool = False
    """Whether to average over mirrored copies (the axes that training mirrored); takes 2 to 8 times as long."""
    registration: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of what labelled cases say that are registered onto the image, as `atlas` says; the rest is the
    network's. `predict` then needs the data set that the run was trained on."""
    batch: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Windows at a time; by default as many as have 2^18 voxels together, at least one."""

    def windows(self, crop: Sequence[int]) -> int:
        """Return how many windows of these sides are predicted at a time."""
        return self.batch or max(1, PASS_VOXELS // math.prod(crop))
