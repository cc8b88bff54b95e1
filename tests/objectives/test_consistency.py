"""The loss on what a teacher says: hand-worked, equal to the supervised loss where it must be, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings
from frugalseg.objectives.base import Pseudo
from frugalseg.objectives.consistency import ConsistencyLoss, soft_dice

SIDES = (3, 4, 2)


def make(logits: Tensor, truth: Tensor, weight: Tensor, inside: Tensor | None = None) -> Batch:
    count, sides = len(logits), logits.shape[2:]
    image = torch.zeros(count, 1, *sides, dtype=logits.dtype)
    zeros = torch.zeros(count, 1, *sides, dtype=torch.uint8)
    numbers = torch.zeros(count, dtype=torch.int64)
    pseudo = Pseudo(truth, weight, 1.0, count)
    return Batch(image, zeros, zeros, numbers, numbers, count, inside=inside, pseudo=pseudo)


def random(groups: int, classes: int, count: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, groups * classes, *SIDES, dtype=torch.float64, generator=generator)
    says = torch.randn(count, groups, classes, *SIDES, dtype=torch.float64, generator=generator).softmax(dim=2)
    weight = torch.rand(count, groups, *SIDES, dtype=torch.float64, generator=generator)
    return logits, says, weight


def test_its_share_of_dice_is_that_of_segmentation_or_its_own() -> None:
    settings = SegmentationSettings(dice_weight=0.25)
    assert ConsistencyLoss(settings, 1, 2).weights == {"dice": 0.25, "cross_entropy": 0.75}
    assert ConsistencyLoss(settings, 1, 2, 0.0).weights == {"dice": 0.0, "cross_entropy": 1.0}


@pytest.mark.parametrize(
    ("labels", "dice_weight", "more"), [("hard", 1.0, True), ("hard", 0.0, False), ("soft", 1.0, False)]
)
def test_hard_labels_and_dice_ask_for_more_than_is_likely(labels: str, dice_weight: float, more: bool) -> None:
    """Why a teacher's hard labels make structures larger: Dice is best at p = a / Dice, a the labels' mean."""
    truth = torch.zeros(1, 1, 2, *SIDES, dtype=torch.float64)
    truth[:, :, 1, 0] = 1  # 8 voxels that the structure has for sure
    doubtful = truth[0, 0, 1, 1:].reshape(-1)
    doubtful[:6] = 1  # it has 6 of 16 others, and nothing tells which
    if labels == "soft":
        doubtful[:] = 6 / 16
    truth[:, :, 0] = 1 - truth[:, :, 1]
    way = ConsistencyLoss(SegmentationSettings(background=False, smooth=1e-6), 1, 2, dice_weight)

    def loss(p: float) -> float:
        logits = torch.full((1, 2, *SIDES), 0.0, dtype=torch.float64)
        logits[:, 1, 0], logits[:, 1, 1:] = 9.0, math.log(p / (1 - p))
        batch = make(logits, truth, torch.ones(1, 1, *SIDES, dtype=torch.float64))
        return float(sum(way.weights[name] * value for name, value in way(logits, batch).items()))

    best = min((loss(p / 100), p / 100) for p in range(1, 100))[1]
    assert best > 0.42 if more else best == pytest.approx(6 / 16, abs=0.011)


def test_one_voxel_by_hand() -> None:
    """p = (1/4, 3/4), q = (0, 1), weight 1/2 in one voxel of two."""
    logits = torch.tensor([[[[[0.0, 5.0]]], [[[math.log(3.0), 1.0]]]]], dtype=torch.float64)
    truth = torch.zeros(1, 1, 2, 1, 1, 2, dtype=torch.float64)
    truth[0, 0, 1] = 1
    weight = torch.tensor([[[[[0.5, 0.0]]]]], dtype=torch.float64)
    found = ConsistencyLoss(SegmentationSettings(smooth=1e-12), 1, 2)(logits, make(logits, truth, weight))
    # Background: no overlap, Dice 0. Foreground: 2 (3/4) / (9/16 + 1) = 24/25. Cross-entropy over both voxels.
    assert float(found["dice"]) == pytest.approx(1 - (0 + 24 / 25) / 2, abs=1e-9)
    assert float(found["cross_entropy"]) == pytest.approx(0.5 * -math.log(0.75) / 2)


@pytest.mark.parametrize(("groups", "classes"), [(1, 3), (3, 2)])
@pytest.mark.parametrize("background", [True, False])
def test_with_certain_labels_and_full_weight_it_is_the_supervised_loss(
    groups: int, classes: int, background: bool
) -> None:
    logits, says, _ = random(groups, classes)
    target = says.argmax(dim=2)
    truth = torch.nn.functional.one_hot(target, classes).movedim(-1, 2).double()
    ones = torch.ones(2, groups, *SIDES, dtype=torch.float64)
    settings = SegmentationSettings(background=background)
    batch = make(logits, truth, ones)
    found = ConsistencyLoss(settings, groups, classes)(logits, batch)
    numbers = torch.zeros(2, dtype=torch.int64)
    supervised = Batch(batch.image, target.to(torch.uint8), ones, numbers, numbers, 2)
    wanted = SegmentationLoss(settings, groups, classes)(logits, supervised)
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(float(value)), name


def test_it_equals_a_naive_sum() -> None:
    groups, classes = 2, 3
    logits, says, weight = random(groups, classes)
    inside = torch.ones(2, 1, *SIDES, dtype=torch.uint8)
    inside[0, 0, 0] = 0
    weight = weight * inside
    found = ConsistencyLoss(SegmentationSettings(), groups, classes)(logits, make(logits, says, weight, inside))
    p = logits.reshape(2, groups, classes, *SIDES).softmax(dim=2)
    dice = entropy = 0.0
    for b in range(2):
        for r in range(groups):
            for k in range(classes):
                w, a, q = weight[b, r].flatten(), p[b, r, k].flatten(), says[b, r, k].flatten()
                sizes = sum(float(w[v] * (a[v] ** 2 + q[v] ** 2)) for v in range(len(w)))
                dice += (1 - 2 * float((w * a * q).sum()) / sizes) / classes / 2
                entropy += float(-(w * q * a.log()).sum()) / float(inside[b].sum()) / 2
    assert float(found["dice"]) == pytest.approx(dice, rel=1e-6)
    assert float(found["cross_entropy"]) == pytest.approx(entropy)


def test_a_sample_without_weight_changes_nothing_and_none_at_all_is_zero() -> None:
    logits, says, weight = random(1, 3)
    loss = ConsistencyLoss(SegmentationSettings(), 1, 3)
    weight[1] = 0
    both = loss(logits, make(logits, says, weight))
    alone = loss(logits[:1], make(logits[:1], says[:1], weight[:1]))
    assert {k: float(v) for k, v in both.items()} == pytest.approx({k: float(v) for k, v in alone.items()})
    nothing = loss(logits, make(logits, says, torch.zeros_like(weight)))
    assert [float(value) for value in nothing.values()] == [0.0, 0.0]
    batch = make(logits, says, weight)
    assert float(loss.share(batch)) == pytest.approx(float(weight[0].mean()))


def test_agreement_is_the_least_and_its_gradient_is_right() -> None:
    logits, says, weight = random(1, 3)
    p = logits.reshape(2, 1, 3, *SIDES).softmax(dim=2)
    assert float(soft_dice(p, p, weight, 1e-12, True).abs().max()) < 1e-9
    loss = ConsistencyLoss(SegmentationSettings(), 1, 3)

    def total(x: Tensor) -> Tensor:
        return torch.stack(list(loss(x, make(x, says, weight)).values())).sum()

    assert torch.autograd.gradcheck(total, logits.clone().requires_grad_(True))
