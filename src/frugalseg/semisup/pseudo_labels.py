"""A teacher's labels for unlabelled crops: weak view to the teacher, strong view to the student.

The teacher is a running mean of the student's weights (mean teacher, Tarvainen and Valpola 2017). It looks at the
crop as it is, the student at the same crop with changed intensities, and is to say what the teacher says, where the
teacher is sure (FixMatch, Sohn et al. 2020: hard labels above a confidence; `soft`: its probabilities).

A network that knows six cases is a poor teacher at first. With `first: registration` it is taught by the labelled
cases deformed onto the unlabelled one and fused (`frugalseg.semisup.atlas`), before its own mean takes over; with
`first: runs` by networks that were trained before (`frugalseg.jobs.taught`).

What differs from Tarvainen and Valpola: the loss is Dice and cross-entropy to the teacher's labels, on unlabelled
crops alone, not the squared difference of probabilities on all; the teacher has neither dropout nor a changed view.
From Sohn et al.: a running mean teaches, not the network itself, and by default all voxels count (`confidence` 0).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from frugalseg.objectives.base import Batch
from frugalseg.semisup.base import Semisup, SemisupSettings, Teach

LEAST = 1e-6


class PseudoLabelSettings(SemisupSettings):
    """A teacher's labels."""

    kind: Literal["teacher"] = "teacher"
    """`teacher`: weak view to the teacher, strong view to the student."""
    labels: Literal["hard", "soft"] = "hard"
    """`hard`: the class that the teacher finds most probable; `soft`: its probabilities."""
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Voxels count where the teacher's largest probability is at least this (FixMatch: 0.95)."""
    first: Literal["network", "registration", "runs"] = "network"
    """The first teacher: the network's own running mean; registered labelled cases, as `atlas` says; or finished
    runs (`train --teacher RUN`)."""
    hand_over: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] | None = (0.3, 0.7)
    """Shares of the steps between which the network's running mean takes over from them; None: it never does."""
    taken_over: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The network's share in what is taught from then on; the rest stays with the first teacher. It says
    nothing where that is the network, or `hand_over` is null."""

    @property
    def rise(self) -> float:
        """Share of the steps over which the factor rises."""
        return 0.05 if self.ramp is None and self.first != "network" else super().rise

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.hand_over is not None and self.hand_over[0] > self.hand_over[1]:
            raise ValueError(f"hand_over: {self.hand_over[0]:g} is after {self.hand_over[1]:g}")
        return self

    def build(self, groups: int, classes: int) -> PseudoLabels:
        """Make what prepares batches."""
        return PseudoLabels(self, groups, classes)


class PseudoLabels(Semisup):
    """Gives the unlabelled samples the teacher's labels."""

    settings: PseudoLabelSettings

    def prepare(self, batch: Batch, teach: Teach, step: int, steps: int) -> Batch:
        """Return the batch with the teacher's labels of the unlabelled samples, on their own voxels."""
        says = self.says(batch, teach, step, steps)
        truth, sure = self.labels(says)
        own = batch.image_weight[len(batch.image) - len(says) :].to(truth.dtype)
        return self.with_pseudo(batch, truth, sure * own, self.factor(step, steps))

    def says(self, batch: Batch, teach: Teach, step: int, steps: int) -> Tensor:
        """Return the teachers' probabilities (U, R, K, x, y, z), the atlas's and the network's by their shares."""
        share = self.share_of_the_network(step, steps)
        if share == 1 or batch.weak is None:
            return self.teacher_says(batch, teach)
        known = self.registered(batch)
        if share > 0:
            known = torch.lerp(known, self.teacher_says(batch, teach), share)
        # Registered cases may know nothing of a voxel, or, at a volume's edge, a part of it.
        total = known.sum(dim=2, keepdim=True)
        return torch.where(total > 0, known / total.clamp(min=LEAST), known)

    def share_of_the_network(self, step: int, steps: int) -> float:
        """Return how much the network's running mean has taken over from the atlas, 0 to 1."""
        if self.settings.first == "network":
            return 1.0
        if self.most:
            return 0.5
        if self.settings.hand_over is None:
            return 0.0
        first, last = (share * steps for share in self.settings.hand_over)
        if step < first:
            return 0.0
        risen = 1.0 if step >= last else (step - first) / (last - first)
        return risen * self.settings.taken_over

    def labels(self, says: Tensor) -> tuple[Tensor, Tensor]:
        """Turn probabilities (U, R, K, x, y, z) into what is learnt, and where (U, R, x, y, z): 0 or 1."""
        largest, best = says.max(dim=2)
        # All probabilities are 0 where registered cases know nothing.
        sure = ((largest >= self.settings.confidence) & (largest > 0)).to(says.dtype)
        if self.settings.labels == "soft":
            return says, sure
        hard = functional.one_hot(best, self.classes).movedim(-1, 2)
        return hard.to(says.dtype), sure


def known(target: Tensor, classes: int) -> Tensor:
    """Return class indices (n, R, x, y, z) as probabilities (n, R, K, x, y, z) of 0 and 1."""
    return functional.one_hot(target.long(), classes).movedim(-1, 2).to(torch.float32)
