"""Settings of prediction."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from frugalseg.settings import Settings


class InferenceSettings(Settings):
    """How a volume is predicted."""

    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.5
    """Share of a window that the next one covers again, at least."""
    flips: bool = False
    """Whether to average over mirrored copies (the axes that training mirrored); takes 2 to 8 times as long."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 1
    """Windows at a time."""
