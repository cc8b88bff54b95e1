"""Bidirectional copy-paste (BCP, Bai et al. 2023): labelled and unlabelled crops in one image.

A box with two thirds of the crop's sides is cut from a labelled crop and put into an unlabelled one, and the other
way round in the next sample. The student segments the mixture: the labelled part has its label, the other part the
teacher's, which counts half. So both kinds of crops are seen in each other's surroundings and share their features.

What differs from the paper: the labelled crops are trained on by themselves, too, in the place of a training on
mixtures of labelled crops that comes first there; so the teacher's part of a mixture, not the labelled one, counts
less at first (`ramp`). The views differ in intensities (`pseudo_labels`); the teacher's largest component is not
taken alone; both parts share one Dice and one cross-entropy, in which each voxel has its weight, where the paper
takes a mean over each part's voxels and weighs the means.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from frugalseg.objectives.across import row_numbers
from frugalseg.objectives.base import Batch
from frugalseg.semisup.base import Teach
from frugalseg.semisup.pseudo_labels import PseudoLabels, PseudoLabelSettings, known


class CopyPasteSettings(PseudoLabelSettings):
    """Bidirectional copy-paste."""

    kind: Literal["copy_paste"] = "copy_paste"  # type: ignore[assignment]
    """`copy_paste`: the same on mixtures of labelled and unlabelled crops."""
    box: Annotated[float, Field(gt=0, lt=1)] = 2 / 3
    """The box's sides over the crop's."""
    teacher_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Weight of a voxel with the teacher's label beside 1 for one with a known label."""

    def build(self, groups: int, classes: int) -> CopyPaste:
        """Make what prepares batches."""
        return CopyPaste(self, groups, classes)


class CopyPaste(PseudoLabels):
    """Mixes every unlabelled sample with a labelled one."""

    settings: CopyPasteSettings

    def prepare(self, batch: Batch, teach: Teach, step: int, steps: int) -> Batch:
        """Return the batch with mixed unlabelled samples; their auxiliary targets and weights stay as they are."""
        says = self.says(batch, teach, step, steps)
        truth, sure = self.labels(says)
        first = len(batch.image) - len(says)
        own = batch.image_weight.to(truth.dtype)
        weight = self.settings.teacher_weight * self.risen(step, steps) * sure * own[first:]
        if first == 0 or not len(says):  # a process of several may have the one kind alone
            return self.with_pseudo(batch, truth, weight, self.settings.weight)
        images, inside = batch.image.clone(), None if batch.inside is None else batch.inside.clone()
        keys, rows = batch.keys.tolist(), row_numbers(len(batch.image), torch.device("cpu")).tolist()
        for number in range(len(says)):
            partner, here = number % first, first + number
            mask = self.mask(keys[here], batch.image.shape[2:]).to(batch.image.device)
            if (step + rows[here]) % 2:  # the sample's number in the whole step, on however many processes
                mask = ~mask
            images[here] = torch.where(mask, batch.image[partner], batch.image[here])
            if inside is not None:
                inside[here] = torch.where(mask, inside[partner], inside[here])
            label = known(batch.target[partner : partner + 1], self.classes)[0]
            truth[number] = torch.where(mask, label, truth[number])
            weight[number] = torch.where(mask, batch.weight[partner].to(weight.dtype), weight[number])
        mixed = replace(batch, image=images, inside=inside)
        return self.with_pseudo(mixed, truth, weight, self.settings.weight)

    def mask(self, key: int, sides: torch.Size) -> Tensor:
        """Return the box (x, y, z) of a sample, True inside; where it lies is drawn from the sample's key."""
        generator = np.random.Generator(np.random.Philox(key=[key, 7]))
        mask = torch.zeros(tuple(sides), dtype=torch.bool)
        lengths = [max(1, round(self.settings.box * side)) for side in sides]
        starts = [int(generator.integers(side - length + 1)) for side, length in zip(sides, lengths, strict=True)]
        x, y, z = (slice(start, start + length) for start, length in zip(starts, lengths, strict=True))
        mask[x, y, z] = True
        return mask
