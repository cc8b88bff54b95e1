"""All settings of a run. Each part's settings are defined beside what they are for; this file only joins them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from torch import nn

from frugalseg.data.augment import AugmentSettings
from frugalseg.data.patches import SamplingSettings
from frugalseg.data.preprocess import PreprocessSettings
from frugalseg.errors import ConfigError
from frugalseg.inference.settings import InferenceSettings
from frugalseg.networks.multitask import NetworkSettings
from frugalseg.objectives import AnyTask, SegmentationSettings
from frugalseg.semisup import AnySemisup, AtlasSettings
from frugalseg.settings import Settings, Side
from frugalseg.training.settings import TrainingSettings


class PretrainSettings(Settings):
    """Training before training: auxiliary tasks alone, on every training volume, without a label."""

    steps: Annotated[int, Field(ge=1)] = 1000
    """Optimiser steps; they come on top of the training's."""
    crops: Annotated[int, Field(ge=1, le=4096)] = 2
    """Crops in a step, from labelled and unlabelled volumes alike."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Learning rate at the start; by default the training's."""
    auxiliary: Annotated[dict[str, AnyTask], Field(min_length=1)]
    """The tasks by name. One that the training has, too, under the same name goes on with its own weights."""

    @field_validator("auxiliary")
    @classmethod
    def _without_labels(cls, tasks: dict[str, AnyTask]) -> dict[str, AnyTask]:
        for name, task in tasks.items():
            if task.needs_labels:
                raise ValueError(f"{name!r} learns from labels, of which a pre-training reads none")
        return _named(tasks)


TAKEN = ("segmentation", "consistency", "dice", "learning_rate", "gradient_norm", "total", "step", "seconds")
"""Names of other losses and columns of a run, which a task of that name would replace without a word."""


def _named(tasks: dict[str, AnyTask]) -> dict[str, AnyTask]:
    for name in tasks:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
            raise ValueError(f"{name!r} must be a short lower-case word")
        if name in TAKEN or hasattr(nn.ModuleDict, name):
            raise ValueError(f"{name!r} is a name that is taken; call the task something else")
    return tasks


class Config(Settings):
    """The configuration of a run, saved as config.yaml in its folder."""

    method: str
    """Name of the recipe."""
    about: str = ""
    """What the recipe is, in a sentence."""
    trained: bool = True
    """Whether a network is trained. If not, `atlas` says how labelled cases are registered onto others,
    which `frugalseg register` and studies do."""
    adapt: bool = False
    """Leave out, and say so, what the data does not allow, instead of refusing it: unlabelled crops where every
    volume is labelled, registration where images are not alike."""
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
    atlas: AtlasSettings | None = None
    """How labelled cases are registered onto others, for `semisup.first`, `augment.deform` and
    `inference.registration`; None: not at all."""
    semisup: AnySemisup | None = None
    """How unlabelled crops are used through the segmentation itself; None for not at all."""
    pretrain: PretrainSettings | None = None
    """What is trained first; None for nothing."""
    training: TrainingSettings = TrainingSettings()
    inference: InferenceSettings = InferenceSettings()

    @field_validator("auxiliary")
    @classmethod
    def _names(cls, tasks: dict[str, AnyTask]) -> dict[str, AnyTask]:
        return _named(tasks)

    @model_validator(mode="after")
    def _some_crops(self) -> Self:
        if self.sampling.labelled == 0 and (self.sampling.unlabelled == 0 or self.sampling.mix == "published"):
            raise ValueError(
                "sampling.labelled=0 leaves nothing to train on; a pre-training needs unlabelled crops"
            )
        return self

    @model_validator(mode="after")
    def _something_without_training(self) -> Self:
        if not self.trained and self.atlas is None:
            raise ValueError("trained=false leaves nothing but registration; set atlas")
        return self

    @model_validator(mode="after")
    def _an_atlas_and_its_use(self) -> Self:
        users = ["semisup.first=registration"] if self.semisup and self.semisup.first == "registration" else []
        users += ["augment.deform"] if self.augment.deform else []
        users += ["inference.registration"] if self.inference.registration else []
        if users and self.atlas is None:
            raise ValueError(f"{' and '.join(users)} needs registration; set atlas, e.g. atlas={{}}")
        if self.atlas is not None and self.trained and not users:
            raise ValueError(
                "atlas is set and nothing uses it; set semisup.first=registration, augment.deform or "
                "inference.registration, or atlas=null"
            )
        return self

    @model_validator(mode="after")
    def _a_teacher_and_its_class(self) -> Self:
        if self.semisup is None:
            return self
        if self.training.average is None:
            raise ValueError(
                "semisup needs a teacher, which is the running mean of the weights; set training.average, e.g. 0.99"
            )
        if self.sampling.unlabelled == 0 or self.sampling.labelled == 0 or self.sampling.mix == "published":
            raise ValueError(
                "semisup needs labelled and unlabelled crops in every step: sampling.labelled and "
                "sampling.unlabelled of 1 or more, and sampling.mix=fixed"
            )
        return self

    def without_atlas(self) -> Config:
        """Return the configuration without registration, whatever uses it."""
        content = self.model_dump(mode="json")
        content["augment"]["deform"] = content["inference"]["registration"] = 0.0
        if self.semisup is not None:
            content["semisup"]["first"] = "runs" if self.semisup.first == "runs" else "network"
        return Config.model_validate({**content, "atlas": None})

    def taught_by_runs(self) -> Config:
        """Return the configuration with finished runs as the first teacher, and registration for its other uses."""
        content = self.model_dump(mode="json")
        content["semisup"]["first"] = "runs"
        if not self.augment.deform and not self.inference.registration:
            content["atlas"] = None
        return Config.model_validate(content)

    def without_unlabelled(self) -> Config:
        """Return the configuration without unlabelled crops; what learns from all learns from labelled ones."""
        content = self.model_dump(mode="json")
        content["sampling"]["unlabelled"], content["semisup"] = 0, None
        if not self.augment.deform and not self.inference.registration:
            content["atlas"] = None
        return Config.model_validate(content)

    def of_pretraining(self) -> Config:
        """Return the configuration of the pre-training that this one begins with.

        Raises:
            ConfigError: It has none.
        """
        before = self.pretrain
        if before is None:
            raise ConfigError(
                f"{self.method!r} has no pre-training; choose a recipe with a part `pretrain`, or set "
                "pretrain.steps and pretrain.auxiliary",
                "pretrain",
            )
        content = self.model_dump(mode="json")
        content["sampling"] |= {"labelled": 0, "unlabelled": before.crops, "mix": "fixed"}
        content["auxiliary"], content["semisup"] = content["pretrain"]["auxiliary"], None
        content["atlas"], content["augment"]["deform"], content["inference"]["registration"] = None, 0.0, 0.0
        # The width is that of the training that follows, which takes it over.
        usual = self.training.minutes or self.training.usual_minutes
        content["training"] |= {"steps": before.steps, "minutes": None, "epochs": None, "schedule_unit": "step"}
        content["training"]["usual_minutes"] = usual
        if before.learning_rate is not None:
            content["training"]["learning_rate"] = before.learning_rate
        return Config.model_validate({**content, "pretrain": None})
