"""Soft Dice, cross-entropy, their mixture and its gradient give the published code's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalseg.data.preprocess import Preparation, preprocess
from frugalseg.geometry import Grid
from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings
from tests.parity.goldens import FEATURES, GRADIENTS, LOSSES, Goldens


def batch_of(target: Tensor) -> Batch:
    """Wrap a target (B, R, x, y, z) with weight 1 everywhere."""
    count = len(target)
    return Batch(
        image=torch.zeros(count, 1, *target.shape[2:]),
        target=target,
        weight=torch.ones(count, 1, *target.shape[2:]),
        keys=torch.arange(count),
        cases=torch.arange(count),
        segmented=count,
    )


def total(loss: SegmentationLoss, logits: Tensor, batch: Batch) -> Tensor:
    parts = loss(logits, batch)
    return torch.stack([loss.weights[name] * value for name, value in parts.items()]).sum()


@pytest.mark.parametrize(
    "case", ["two_class", "three_class_batch2", "all_background", "all_foreground", "large_logits"]
)
def test_dice_cross_entropy_and_mixture(case: str) -> None:
    goldens = Goldens("losses")
    logits = goldens[f"{case}/logits"].requires_grad_()
    label = goldens[f"{case}/labels"]
    batch = batch_of(label.long()[:, None])
    loss = SegmentationLoss(SegmentationSettings(batch_dice=True), 1, logits.shape[1])
    parts = loss(logits, batch)
    torch.testing.assert_close(parts["dice"], goldens[f"{case}/soft_dice"].reshape(()), **LOSSES)
    torch.testing.assert_close(parts["cross_entropy"], goldens[f"{case}/cross_entropy"].reshape(()), **LOSSES)
    mixed = total(loss, logits, batch)
    torch.testing.assert_close(mixed, goldens[f"{case}/dice_ce"].reshape(()), **LOSSES)
    mixed.backward()
    torch.testing.assert_close(logits.grad, goldens[f"{case}/dice_ce_grad"], **GRADIENTS)
    uneven = SegmentationLoss(SegmentationSettings(batch_dice=True, dice_weight=0.3), 1, logits.shape[1])
    torch.testing.assert_close(total(uneven, logits, batch), goldens[f"{case}/dice_ce_w0.3"].reshape(()), **LOSSES)


def test_nested_regions() -> None:
    goldens = Goldens("losses")
    logits = goldens["nested/logits"].requires_grad_()
    masks = goldens["nested/labels"]
    batch = batch_of(masks.long())
    loss = SegmentationLoss(SegmentationSettings(), 3, 2)
    mixed = total(loss, logits, batch)
    torch.testing.assert_close(mixed, goldens["nested/dice_ce_sum"].reshape(()), **LOSSES)
    mixed.backward()
    gradient = goldens["nested/dice_ce_sum_grad"]
    torch.testing.assert_close(logits.grad, gradient, **GRADIENTS)
    for region in range(3):
        alone = SegmentationLoss(SegmentationSettings(), 1, 2)
        own = total(alone, logits[:, 2 * region : 2 * region + 2].detach(), batch_of(masks[:, [region]].long()))
        torch.testing.assert_close(own, goldens["nested/dice_ce_per_region"][region], **LOSSES)


def test_normalisation() -> None:
    goldens = Goldens("preprocess")
    image = np.asarray(goldens["normalize/image"]).astype(np.float32).transpose(3, 0, 1, 2)
    wanted = goldens["normalize/normalized"].permute(3, 0, 1, 2)
    grid = Grid((image.shape[1], image.shape[2], image.shape[3]), np.eye(4))
    prepared = preprocess(grid, image, Preparation(crop_nonzero=False))
    torch.testing.assert_close(torch.from_numpy(prepared.image), wanted.float(), **FEATURES)
