"""The supervised loss: soft Dice and cross-entropy, summed over regions (Iwasawa et al. 2020, section 2.2).

With exclusive classes there is one group with all classes; with regions one group of two classes each. The
published form has the background among the classes, squares in Dice's denominator, and takes Dice over one crop.
Exclusive classes that were not annotated in a sample are merged with its background (`objectives.marginal`).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from frugalseg.objectives.across import all_sum
from frugalseg.objectives.base import Batch, masked_mean, require
from frugalseg.objectives.marginal import merge_unknown
from frugalseg.settings import Settings


class SegmentationSettings(Settings):
    """The supervised loss."""

    dice_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of soft Dice; the rest is cross-entropy."""
    background: bool = True
    """Whether soft Dice counts the background class, as published."""
    batch_dice: bool = False
    """Whether Dice's sums run over the whole batch instead of each crop."""
    smooth: Annotated[float, Field(gt=0)] = 1e-7
    """Added to Dice's numerator and denominator."""


class SegmentationLoss:
    """Named scalars "dice" and "cross_entropy" for logits (B, R x K, x, y, z); `weights` says how they add up."""

    def __init__(self, settings: SegmentationSettings, groups: int, classes: int) -> None:
        self.settings = settings
        self.groups, self.classes = groups, classes
        self.weights = {"dice": settings.dice_weight, "cross_entropy": 1 - settings.dice_weight}

    def __call__(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the segmented samples, 0 where `batch.weight` leaves nothing to learn."""
        count = len(logits)
        require(logits.shape[1] == self.groups * self.classes, "wrong number of logits", logits.shape)
        split = logits.reshape(count, self.groups, self.classes, *logits.shape[2:])
        split = split.to(torch.promote_types(split.dtype, torch.float32))
        target = batch.target[:count].long()
        weight = batch.weight[:count].to(split.dtype).expand(target.shape)
        log_p = functional.log_softmax(split, dim=2)
        p, known = log_p.exp(), None
        if batch.annotated is not None:  # decided by the data set, for all batches of a run
            p, log_p, target, weight, known = merge_unknown(log_p, target, weight, batch.annotated[:count])
        settings = self.settings
        dice = soft_dice_loss(p, target, weight, settings.smooth, settings.background, settings.batch_dice, known)
        return {"dice": dice.sum(), "cross_entropy": cross_entropy(log_p, target, weight).sum()}


def soft_dice_loss(
    p: Tensor,
    target: Tensor,
    weight: Tensor,
    smooth: float = 1e-7,
    background: bool = True,
    batch: bool = False,
    known: Tensor | None = None,
) -> Tensor:
    """Return 1 - soft Dice of each group (R,), mean over known classes and over the samples with any weight.

    Dice of a class is (2 sum(p t) + s) / (sum(p p) + sum(t t) + s) over voxels, each counted `weight` times.

    Args:
        p: Probabilities (B, R, K, x, y, z).
        target: Class indices (B, R, x, y, z).
        weight: (B, R, x, y, z).
        smooth: s above.
        background: Whether class 0 is among the classes.
        batch: Whether the sums run over the batch, too (of all processes). A class then counts if it is known in a
            sample with weight.
        known: (B, R, K), 0 for classes that do not count in a sample (their `p` is 0 there); None: all count.
    """
    first = 0 if background else 1
    truth = functional.one_hot(target, p.shape[2]).movedim(-1, 2).to(p.dtype)[:, :, first:]
    p = p[:, :, first:]
    w = weight[:, :, None]
    space = (0, 3, 4, 5) if batch else (3, 4, 5)
    overlap = (w * p * truth).sum(dim=space)
    sizes = (w * p * p).sum(dim=space) + (w * truth).sum(dim=space)
    if batch:
        overlap, sizes = all_sum(overlap), all_sum(sizes)
    scores = (2 * overlap + smooth) / (sizes + smooth)
    with_weight = (weight.sum(dim=(2, 3, 4)) > 0).to(p.dtype)
    if known is None:
        loss = 1 - scores.mean(dim=-1)
    else:
        counts = known[:, :, first:]
        if batch:
            counts = (all_sum((counts * with_weight[:, :, None]).sum(dim=0)) > 0).to(p.dtype)
        # A mean over classes: `masked_mean` is for samples, which other processes have more of.
        loss = 1 - (scores * counts).sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)
    if batch:
        return loss * (all_sum(weight.sum(dim=(0, 2, 3, 4))) > 0)
    return masked_mean(loss, with_weight)


def cross_entropy(log_p: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return each group's cross-entropy (R,): weighted mean over a sample's voxels, mean over samples with any.

    Arguments as in `soft_dice_loss`, with log-probabilities.
    """
    picked = -log_p.gather(2, target[:, :, None])[:, :, 0]
    total = weight.sum(dim=(2, 3, 4))
    mean = (picked * weight).sum(dim=(2, 3, 4)) / total.clamp(min=1e-12)
    return masked_mean(mean, (total > 0).to(log_p.dtype))


@torch.no_grad()
def hard_dice(logits: Tensor, batch: Batch, groups: int, classes: int) -> Tensor:
    """Return the Dice of every structure over the voxels that count for it; NaN where both sides are empty.

    Samples in which the structure was not annotated do not count for it.
    """
    count = len(logits)
    split = logits.reshape(count, groups, classes, *logits.shape[2:])
    found, truth = split.argmax(dim=2), batch.target[:count]
    known = batch.structure_weight(groups, classes)[:count] > 0
    counts: list[Tensor] = []
    for group in range(groups):
        for cls in range(1, classes):
            where = known[:, len(counts)]
            a, b = (found[:, group] == cls) & where, (truth[:, group] == cls) & where
            counts.append(torch.stack([(a & b).sum(), a.sum() + b.sum()]))
    overlap, sizes = all_sum(torch.stack(counts)).unbind(dim=1)
    return 2 * overlap / sizes
