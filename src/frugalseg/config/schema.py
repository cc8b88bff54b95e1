"""All settings of a run. Each part's settings are defined beside what they are for; this file only joins them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from frugalseg.data.augment import AugmentSettings
from frugalseg.data.patches import SamplingSettings
from frugalseg.data.preprocess import PreprocessSettings
from frugalseg.inference.settings import InferenceSettings
from frugalseg.networks.multitask import NetworkSettings
from frugalseg.objectives import AnyTask, SegmentationSettings
from frugalseg.settings import Settings
from frugalseg.training.settings import TrainingSettings

Side = Annotated[int, Field(ge=1, le=1024)]


class Config(Settings):
    """The configuration of a run, saved as config.yaml in its folder."""

    method: str
    """Name of the recipe."""
    about: str = ""
    """What the recipe is, in a sentence."""
    crop: tuple[Side, Side, Side] | None = None
    """Sides of a training crop in voxels; by default chosen from the data."""
    mirror_axes: tuple[Literal["x", "y", "z"], ...] | None = None
    """Axes (x to the right, y to the front, z upwards) along which crops may be flipped, in training and for
    test-time flips; by default x alone, the body's one near-symmetry, and none if a label's name has a side."""
    preprocess: PreprocessSettings = PreprocessSettings()
    sampling: SamplingSettings = SamplingSettings()
    augment: AugmentSettings = AugmentSettings()
    network: NetworkSettings = NetworkSettings()
    segmentation: SegmentationSettings = SegmentationSettings()
    auxiliary: dict[str, AnyTask] = Field(default_factory=dict)
    """Auxiliary tasks by name; the name is used in logs."""
    training: TrainingSettings = TrainingSettings()
    inference: InferenceSettings = InferenceSettings()

    @field_validator("auxiliary")
    @classmethod
    def _names(cls, tasks: dict[str, AnyTask]) -> dict[str, AnyTask]:
        for name in tasks:
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
                raise ValueError(f"{name!r} must be a short lower-case word")
        return tasks
