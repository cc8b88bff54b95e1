"""The loss on samples that a teacher segments: the supervised one with probabilities in the label's place, by crop.

Dice of a class is (2 sum(w p q) + s) / (sum(w p p) + sum(w q q) + s), as in `objectives.segmentation`, which it
equals where q is 0 or 1. Cross-entropy is -sum(w q log p) over all of the crop's own voxels, not over those with
weight alone: a teacher that is sure of few voxels says little (Sohn et al. 2020, equation 4).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from frugalseg.objectives.base import Batch, masked_mean, require
from frugalseg.objectives.segmentation import SegmentationSettings

CONSISTENCY = "consistency"


class ConsistencyLoss:
    """Named scalars "dice" and "cross_entropy" for logits (B, R x K, x, y, z); `weights` says how they add up."""

    def __init__(
        self, settings: SegmentationSettings, groups: int, classes: int, dice_weight: float | None = None
    ) -> None:
        self.settings = settings
        self.groups, self.classes = groups, classes
        share = settings.dice_weight if dice_weight is None else dice_weight
        self.weights = {"dice": share, "cross_entropy": 1 - share}

    def __call__(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the samples that `batch.pseudo` has weight for, 0 if there is none."""
        pseudo = batch.pseudo
        require(pseudo is not None and len(logits) == len(batch.image), "no pseudo-labels for these logits")
        assert pseudo is not None
        split = logits.reshape(len(logits), self.groups, self.classes, *logits.shape[2:])
        split = split.to(torch.promote_types(split.dtype, torch.float32))
        log_p = functional.log_softmax(split, dim=2)
        truth, weight = pseudo.truth.to(log_p.dtype), pseudo.weight.to(log_p.dtype)
        dice = soft_dice(log_p.exp(), truth, weight, self.settings.smooth, self.settings.background)
        wrong = -(truth * log_p).sum(dim=2)
        own = batch.image_weight.to(log_p.dtype).sum(dim=(2, 3, 4)).clamp(min=1)
        present = (weight.sum(dim=(2, 3, 4)) > 0).to(log_p.dtype)
        cross_entropy = masked_mean((wrong * weight).sum(dim=(2, 3, 4)) / own, present)
        return {"dice": masked_mean(dice, present).sum(), "cross_entropy": cross_entropy.sum()}

    def share(self, batch: Batch) -> Tensor:
        """Return the mean weight of the own voxels of the samples that have any weight: how much is learnt from."""
        assert batch.pseudo is not None
        weight = batch.pseudo.weight
        own = batch.image_weight.sum(dim=(2, 3, 4)).clamp(min=1)
        present = (weight.sum(dim=(2, 3, 4)) > 0).to(weight.dtype)
        return masked_mean(weight.sum(dim=(2, 3, 4)) / own, present).mean()


def soft_dice(p: Tensor, q: Tensor, weight: Tensor, smooth: float, background: bool) -> Tensor:
    """Return 1 - soft Dice (B, R) of probabilities p and q (B, R, K, x, y, z) with weights (B, R, x, y, z)."""
    first = 0 if background else 1
    p, q, w = p[:, :, first:], q[:, :, first:], weight[:, :, None]
    space = (3, 4, 5)
    overlap = (w * p * q).sum(dim=space)
    sizes = (w * p * p).sum(dim=space) + (w * q * q).sum(dim=space)
    return 1 - ((2 * overlap + smooth) / (sizes + smooth)).mean(dim=-1)
