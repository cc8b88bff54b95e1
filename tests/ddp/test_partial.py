"""Dice over the classes that each sample's label shows, with three samples on two processes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from frugalseg.objectives.across import Share, sharing
from frugalseg.objectives.segmentation import soft_dice_loss
from tests.ddp.pool import WORLD, Pool
from tests.ddp.work import seeded

SAMPLES = 3
KNOWN = torch.tensor([[[1.0, 1.0, 0.0]], [[1.0, 0.0, 1.0]], [[1.0, 1.0, 1.0]]])


def dice(scale: Tensor, rank: int, world: int, batch: bool) -> Tensor:
    """Return the loss of a process's share; `scale` stands for the network's weights."""
    own = torch.arange(rank, SAMPLES, world)
    p = (scale * seeded(0, SAMPLES, 1, 3, 4, 4, 4)).softmax(dim=2)[own]
    target = (seeded(1, SAMPLES, 1, 4, 4, 4) > 0.5).long()[own]
    known = KNOWN[own].double()
    weight = torch.ones(len(own), 1, 4, 4, 4, dtype=torch.float64)
    return soft_dice_loss(p * known[..., None, None, None], target, weight, batch=batch, known=known).sum()


def share_of_dice(batch: bool) -> tuple[float, float]:
    rank = torch.distributed.get_rank()
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    with sharing(Share(rank, WORLD)):
        loss = dice(scale, rank, WORLD, batch)
        loss.backward()
    assert scale.grad is not None
    torch.distributed.all_reduce(scale.grad)
    return float(loss.detach()), float(scale.grad) / WORLD


@pytest.mark.parametrize("batch", [False, True])
def test_classes_are_averaged_in_each_sample_and_samples_over_the_processes(pool: Pool, batch: bool) -> None:
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    loss = dice(scale, 0, 1, batch)
    loss.backward()
    assert scale.grad is not None
    assert abs(float(scale.grad)) > 1e-3
    for found in pool(share_of_dice, batch):
        assert found == pytest.approx((float(loss.detach()), float(scale.grad)), rel=1e-12)
