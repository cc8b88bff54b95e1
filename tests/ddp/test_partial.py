"""Partly annotated samples spread over two processes: loss, Dice and gradient are those of all samples in one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings
from frugalseg.objectives.across import Share, sharing
from frugalseg.objectives.segmentation import hard_dice
from tests.ddp.pool import WORLD, Pool
from tests.ddp.work import seeded

COUNT, K, SIDES = 5, 4, (3, 2, 2)
# Class 2 is known in samples of the second process only, class 3 in one of the first.
ANNOTATED = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [1, 0, 0, 0]]


def everything(batch_dice: bool, share: Share) -> tuple[float, list[float], Tensor]:
    """Return the loss, Dice of the structures, and the gradient of a weight on every sample's logits."""
    mine = torch.arange(share.rank, COUNT, share.world)
    target = (seeded(1, COUNT, 1, *SIDES).abs() * 2).clamp(max=K - 1).to(torch.uint8)[mine]
    weight = (seeded(2, COUNT, 1, *SIDES) > -0.5).double()[mine]
    annotated = torch.tensor(ANNOTATED)[mine]
    count = len(mine)
    image = torch.zeros(count, 1, *SIDES)
    batch = Batch(image, target, weight, mine, mine, count, annotated=annotated)
    scale = torch.ones(K, *SIDES, dtype=torch.float64, requires_grad=True)
    logits = seeded(3, COUNT, K, *SIDES)[mine] * scale
    with sharing(share):
        parts = SegmentationLoss(SegmentationSettings(batch_dice=batch_dice), 1, K)(logits, batch)
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        dice = hard_dice(logits.detach(), batch, 1, K)
    assert scale.grad is not None
    gradient = scale.grad
    if share.world > 1:
        torch.distributed.all_reduce(gradient)
    return float(total.detach()), dice.tolist(), gradient / share.world


def in_the_pool(batch_dice: bool) -> tuple[float, list[float], Tensor]:
    return everything(batch_dice, Share(torch.distributed.get_rank(), WORLD))


@pytest.mark.parametrize("batch_dice", [False, True])
def test_two_processes_and_one_agree(pool: Pool, batch_dice: bool) -> None:
    loss, dice, gradient = everything(batch_dice, Share(0, 1))
    for other_loss, other_dice, other_gradient in pool(in_the_pool, batch_dice):
        assert other_loss == pytest.approx(loss, rel=1e-12)
        assert other_dice == pytest.approx(dice, nan_ok=True)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-10, atol=1e-12)
