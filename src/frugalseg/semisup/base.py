"""What every way of learning from unlabelled volumes through the segmentation itself has in common.

A way prepares a step's batch: it gives the unlabelled samples something to be segmented like (`Pseudo`), made by
a teacher, and may change their images. It reads no label of an unlabelled sample, whose target is 0 everywhere, and
no gradient goes into the teacher. The loss on what it prepares is `objectives.consistency`, the same for all.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from frugalseg.objectives.base import Batch, Pseudo, require
from frugalseg.settings import Settings

Teach = Callable[[Tensor], Tensor]


class SemisupSettings(Settings):
    """Settings that every way has."""

    needs_weak_view: ClassVar[bool] = True
    """Whether the loader has to keep the unlabelled crops as they are before intensities are changed."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the loss on what the teacher says, once the ramp is over."""
    dice_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of Dice in that loss, the rest is cross-entropy; by default that of `segmentation`. With hard labels
    Dice asks for more than is likely, so that a teacher and its student make each other's structures larger."""
    ramp: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps over which that factor rises, as exp(-5 (1 - t)^2), t from 0 to 1 (Laine, Aila 2017); by
    default 0.3, and 0.05 where registered cases or runs teach first, who know as much in the first step as ever."""

    @property
    def rise(self) -> float:
        """Share of the steps over which the factor rises."""
        return self.ramp if self.ramp is not None else 0.3

    @abstractmethod
    def build(self, groups: int, classes: int) -> Semisup:
        """Make what prepares batches of R `groups` with K `classes` each."""


class Semisup(ABC):
    """Prepares batches; see the module."""

    def __init__(self, settings: SemisupSettings, groups: int, classes: int) -> None:
        self.settings = settings
        self.groups, self.classes = groups, classes
        self.most = False

    def assume_most(self) -> None:
        """From now on ask all teachers in every step, to see what a step can need at most."""
        self.most = True

    @abstractmethod
    def prepare(self, batch: Batch, teach: Teach, step: int, steps: int) -> Batch:
        """Return the batch that the network is trained on, with `pseudo`, all of its samples to be segmented.

        Args:
            batch: As it was loaded: labelled samples first, then unlabelled ones, whose weak views are `weak`.
            teach: The teacher: images (n, C, x, y, z) to logits (n, R x K, x, y, z), without gradient.
            step: Number of the step, from 0.
            steps: How many there are.
        """

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the loss in a step."""
        return self.settings.weight * self.risen(step, steps)

    def risen(self, step: int, steps: int) -> float:
        """Return how far the ramp has risen in a step, to 1."""
        length = self.settings.rise * steps
        t = 1.0 if length <= 0 else min(1.0, step / length)
        return math.exp(-5 * (1 - t) ** 2)

    def registered(self, batch: Batch) -> Tensor:
        """Return the probabilities (U, R, K, x, y, z) that registered labelled cases give unlabelled samples."""
        require(batch.guess is not None, "no labels of registered cases")
        assert batch.guess is not None
        split = batch.guess.to(torch.promote_types(batch.image.dtype, torch.float32)) / 255
        return split.reshape(len(split), self.groups, self.classes, *split.shape[2:])

    def teacher_says(self, batch: Batch, teach: Teach) -> Tensor:
        """Return the teacher's probabilities (U, R, K, x, y, z) of the batch's U unlabelled samples."""
        unlabelled = batch.weak
        sides = batch.image.shape[2:]
        if unlabelled is None or not len(unlabelled):
            return torch.zeros(0, self.groups, self.classes, *sides, device=batch.image.device)
        with torch.no_grad():
            logits = teach(unlabelled)
            split = logits.reshape(len(unlabelled), self.groups, self.classes, *sides)
            return split.to(torch.promote_types(split.dtype, torch.float32)).softmax(dim=2)

    def with_pseudo(self, batch: Batch, truth: Tensor, weight: Tensor, factor: float) -> Batch:
        """Return the batch with what its last samples are to be segmented like; nothing for those before them.

        Args:
            batch: The batch.
            truth: (U, R, K, x, y, z) for its U last samples.
            weight: (U, R, x, y, z), 0 where nothing is to be learnt.
            factor: Of the loss on them.
        """
        before = len(batch.image) - len(truth)
        pseudo = Pseudo(
            truth=torch.cat([truth.new_zeros(before, *truth.shape[1:]), truth]),
            weight=torch.cat([weight.new_zeros(before, *weight.shape[1:]), weight]),
            factor=factor,
            labelled=batch.segmented,
        )
        return replace(batch, pseudo=pseudo, segmented=len(batch.image))
