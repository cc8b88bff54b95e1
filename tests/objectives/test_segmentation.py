"""The supervised loss against loops, limits, masks and finite differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings
from frugalseg.objectives.segmentation import hard_dice

SIDES = (3, 4, 2)


def batch_of(target: Tensor, weight: Tensor | None = None) -> Batch:
    count = len(target)
    whole = torch.ones(count, 1, *SIDES) if weight is None else weight
    return Batch(torch.zeros(count, 1, *SIDES), target, whole, torch.arange(count), torch.arange(count), count)


def naive(logits: Tensor, target: Tensor, weight: Tensor, groups: int, classes: int) -> tuple[float, float]:
    """Dice and cross-entropy in plain loops, with the definitions of the paper."""
    dice_total, entropy_total = 0.0, 0.0
    for group in range(groups):
        dices, entropies = [], []
        for sample in range(len(logits)):
            w = weight[sample, 0].numpy().ravel()
            if w.sum() == 0:
                continue
            z = logits[sample, group * classes : (group + 1) * classes].numpy().reshape(classes, -1)
            p = np.exp(z) / np.exp(z).sum(axis=0)
            t = target[sample, group].numpy().ravel()
            scores = []
            for cls in range(classes):
                own = (t == cls).astype(float)
                up = 2 * (w * p[cls] * own).sum() + 1e-7
                scores.append(up / ((w * p[cls] ** 2).sum() + (w * own).sum() + 1e-7))
            dices.append(1 - np.mean(scores))
            entropies.append(sum(-w[i] * np.log(p[t[i], i]) for i in range(len(t))) / w.sum())
        dice_total += float(np.mean(dices))
        entropy_total += float(np.mean(entropies))
    return dice_total, entropy_total


def test_equal_to_loops_with_masks_and_regions() -> None:
    generator = torch.Generator().manual_seed(0)
    for groups, classes in ((1, 3), (3, 2)):
        logits = torch.randn(3, groups * classes, *SIDES, generator=generator).double()
        target = torch.randint(0, classes, (3, groups, *SIDES), generator=generator).to(torch.uint8)
        weight = (torch.rand(3, 1, *SIDES, generator=generator) > 0.4).double()
        weight[1] = 0
        loss = SegmentationLoss(SegmentationSettings(), groups, classes)
        parts = loss(logits.float(), batch_of(target, weight))
        wanted = naive(logits, target, weight, groups, classes)
        assert abs(float(parts["dice"]) - wanted[0]) < 1e-5
        assert abs(float(parts["cross_entropy"]) - wanted[1]) < 1e-5


def test_unlabelled_samples_change_nothing_and_give_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, *SIDES, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (2, 1, *SIDES), generator=generator).to(torch.uint8)
    weight = torch.ones(2, 1, *SIDES)
    weight[1] = 0
    loss = SegmentationLoss(SegmentationSettings(), 1, 3)
    parts = loss(logits, batch_of(target, weight))
    alone = loss(logits[:1], batch_of(target[:1]))
    torch.testing.assert_close(parts["dice"], alone["dice"])
    torch.testing.assert_close(parts["cross_entropy"], alone["cross_entropy"])
    (parts["dice"] + parts["cross_entropy"]).backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().sum() == 0


def test_nothing_labelled_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(2, 2, *SIDES, requires_grad=True)
    loss = SegmentationLoss(SegmentationSettings(), 1, 2)
    parts = loss(logits, batch_of(torch.zeros(2, 1, *SIDES, dtype=torch.uint8), torch.zeros(2, 1, *SIDES)))
    total = parts["dice"] + parts["cross_entropy"]
    assert float(total.detach()) == 0
    total.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits.grad))


def test_perfect_logits_reach_zero() -> None:
    target = torch.randint(0, 2, (1, 1, *SIDES)).to(torch.uint8)
    logits = torch.cat([1 - target.float(), target.float()], dim=1) * 60
    parts = SegmentationLoss(SegmentationSettings(), 1, 2)(logits, batch_of(target))
    assert float(parts["dice"]) < 1e-6
    assert float(parts["cross_entropy"]) < 1e-6


def test_hard_dice_by_hand_and_empty() -> None:
    target = torch.zeros(1, 1, *SIDES, dtype=torch.uint8)
    target[0, 0, 0, 0] = 1  # two voxels
    logits = torch.zeros(1, 3, *SIDES)
    logits[:, 0] = 1
    logits[0, 1, 0, 0, 0] = 2  # one of them found
    scores = hard_dice(logits, batch_of(target), 1, 3)
    assert abs(float(scores[0]) - 2 / 3) < 1e-6
    assert torch.isnan(scores[1])
