"""A teacher's labels for unlabelled crops: weak view to the teacher, strong view to the student.

The teacher is a running mean of the student's weights (mean teacher, Tarvainen and Valpola 2017). It looks at the
crop as it is, the student at the same crop with changed intensities, and is to say what the teacher says, where the
teacher is sure (FixMatch, Sohn et al. 2020: hard labels above a confidence; `soft`: its probabilities).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from frugalseg.objectives.base import Batch
from frugalseg.semisup.base import Semisup, SemisupSettings, Teach


class PseudoLabelSettings(SemisupSettings):
    """A teacher's labels."""

    kind: Literal["teacher"] = "teacher"
    """`teacher`: weak view to the teacher, strong view to the student."""
    labels: Literal["hard", "soft"] = "hard"
    """`hard`: the class that the teacher finds most probable; `soft`: its probabilities."""
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Voxels count where the teacher's largest probability is at least this (FixMatch: 0.95)."""

    def build(self, groups: int, classes: int) -> PseudoLabels:
        """Make what prepares batches."""
        return PseudoLabels(self, groups, classes)


class PseudoLabels(Semisup):
    """Gives the unlabelled samples the teacher's labels."""

    settings: PseudoLabelSettings

    def prepare(self, batch: Batch, teach: Teach, step: int, steps: int) -> Batch:
        """Return the batch with the teacher's labels of the unlabelled samples, on their own voxels."""
        says = self.teacher_says(batch, teach)
        truth, sure = self.labels(says)
        own = batch.image_weight[len(batch.image) - len(says) :].to(truth.dtype)
        return self.with_pseudo(batch, truth, sure * own, step, steps)

    def labels(self, says: Tensor) -> tuple[Tensor, Tensor]:
        """Turn probabilities (U, R, K, x, y, z) into what is learnt, and where (U, R, x, y, z): 0 or 1."""
        largest, best = says.max(dim=2)
        sure = (largest >= self.settings.confidence).to(says.dtype)
        if self.settings.labels == "soft":
            return says, sure
        hard = functional.one_hot(best, self.classes).movedim(-1, 2)
        return hard.to(says.dtype), sure


def known(target: Tensor, classes: int) -> Tensor:
    """Return class indices (n, R, x, y, z) as probabilities (n, R, K, x, y, z) of 0 and 1."""
    return functional.one_hot(target.long(), classes).movedim(-1, 2).to(torch.float32)
