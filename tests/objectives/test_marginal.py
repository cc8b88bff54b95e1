"""Partly annotated samples: the marginal loss by hand, against loops, its limits, and what it must not look at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings
from frugalseg.objectives.marginal import merge_unknown
from frugalseg.objectives.segmentation import hard_dice

SIDES = (3, 4, 2)
K = 4
SETTINGS = [
    SegmentationSettings(background=background, batch_dice=batch, dice_weight=0.4)
    for background in (True, False)
    for batch in (True, False)
]


def make(target: Tensor, annotated: Tensor | None, weight: Tensor | None = None) -> Batch:
    count, sides = len(target), target.shape[2:]
    whole = torch.ones(count, 1, *sides) if weight is None else weight
    numbers = torch.arange(count)
    image = torch.zeros(count, 1, *sides)
    return Batch(image, target, whole, numbers, numbers, count, annotated=annotated)


def total(settings: SegmentationSettings, logits: Tensor, batch: Batch, groups: int = 1) -> Tensor:
    loss = SegmentationLoss(settings, groups, logits.shape[1] // groups)
    return torch.stack([loss.weights[name] * value for name, value in loss(logits, batch).items()]).sum()


def random_case(seed: int = 0, count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, K, *SIDES, generator=generator, dtype=torch.float64)
    target = torch.randint(0, K, (count, 1, *SIDES), generator=generator).to(torch.uint8)
    weight = (torch.rand(count, 1, *SIDES, generator=generator) > 0.3).double()
    return logits, target, weight


def test_by_hand() -> None:
    p = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]], dtype=torch.float64)  # two voxels, three classes
    logits = p.log().T.reshape(1, 3, 2, 1, 1)
    target = torch.tensor([0, 1], dtype=torch.uint8).reshape(1, 1, 2, 1, 1)
    loss = SegmentationLoss(SegmentationSettings(smooth=1e-12), 1, 3)
    parts = loss(logits, make(target, torch.tensor([[1, 1, 0]])))
    # The third class joins the background: 0.8 and 0.2 in the first voxel, 0.4 and 0.6 in the second.
    assert float(parts["cross_entropy"]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    background, first = 2 * 0.8 / (0.8**2 + 0.4**2 + 1), 2 * 0.6 / (0.2**2 + 0.6**2 + 1)
    assert float(parts["dice"]) == pytest.approx(1 - (background + first) / 2)
    without = SegmentationLoss(SegmentationSettings(smooth=1e-12, background=False), 1, 3)
    parts = without(logits, make(target, torch.tensor([[1, 1, 0]])))
    assert float(parts["dice"]) == pytest.approx(1 - first)


def naive(
    settings: SegmentationSettings, logits: Tensor, target: Tensor, weight: Tensor, annotated: Tensor
) -> tuple[float, float]:
    """Both losses in plain loops: dictionaries of merged probabilities, one a voxel."""
    samples = []
    for b in range(len(logits)):
        kept = [k for k in range(K) if k == 0 or annotated[b, k]]
        z = logits[b].numpy().reshape(K, -1)
        t, w = target[b, 0].numpy().ravel(), weight[b, 0].numpy().ravel()
        voxels = []
        for i in range(z.shape[1]):
            p = np.exp(z[:, i]) / np.exp(z[:, i]).sum()
            q = {k: p[k] for k in kept}
            q[0] += sum(p[k] for k in range(K) if k not in kept)
            voxels.append((q, int(t[i]) if t[i] in kept else 0, w[i]))
        if len(kept) > 1 and w.sum() > 0:
            samples.append((kept, voxels))
    entropies = [
        sum(-w * math.log(q[t]) for q, t, w in voxels) / sum(w for _, _, w in voxels) for _, voxels in samples
    ]

    def dice(some: list[tuple[list[int], list[tuple[dict[int, float], int, float]]]]) -> float:
        scores = []
        for k in range(0 if settings.background else 1, K):
            mine = [voxels for kept, voxels in some if k in kept]
            if mine:
                flat = [voxel for voxels in mine for voxel in voxels]
                up = sum(2 * w * q[k] * (t == k) for q, t, w in flat) + settings.smooth
                down = sum(w * (q[k] ** 2 + (t == k)) for q, t, w in flat) + settings.smooth
                scores.append(up / down)
        return 1 - float(np.mean(scores))

    losses = [dice(samples)] if settings.batch_dice else [dice([sample]) for sample in samples]
    return float(np.mean(losses)), float(np.mean(entropies))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_loops(settings: SegmentationSettings, seed: int) -> None:
    logits, target, weight = random_case(seed, 4)
    annotated = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0]])[
        torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    ]
    if seed % 2:
        weight[annotated.all(dim=1)] = 0  # class 2 then counts nowhere
    parts = SegmentationLoss(settings, 1, K)(logits, make(target, annotated, weight))
    dice, entropy = naive(settings, logits, target, weight, annotated)
    assert float(parts["dice"]) == pytest.approx(dice, abs=1e-9)
    assert float(parts["cross_entropy"]) == pytest.approx(entropy, abs=1e-9)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_annotated_is_the_ordinary_loss_to_the_last_bit(
    settings: SegmentationSettings, dtype: torch.dtype
) -> None:
    logits, target, weight = random_case()
    results = []
    for annotated in (None, torch.ones(3, K, dtype=torch.uint8)):
        leaf = logits.to(dtype).requires_grad_()
        value = total(settings, leaf, make(target, annotated, weight))
        value.backward()
        results.append((value.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] is not None
    assert results[1][1] is not None
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("settings", SETTINGS)
def test_nothing_annotated_is_unlabelled(settings: SegmentationSettings) -> None:
    logits, target, weight = random_case()
    annotated = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]])
    hidden = weight.clone()
    hidden[1] = 0
    values, gradients = [], []
    for flags, weights in ((annotated, weight), (annotated.clone(), hidden)):
        leaf = logits.clone().requires_grad_()
        value = total(settings, leaf, make(target, flags, weights))
        value.backward()
        assert leaf.grad is not None
        values.append(value.detach())
        gradients.append(leaf.grad)
    assert torch.equal(values[0], values[1])
    assert torch.equal(gradients[0], gradients[1])
    assert not gradients[0][1].any()
    nobody = torch.tensor([[1, 0, 0, 0]] * 3)
    leaf = logits.clone().requires_grad_()
    value = total(settings, leaf, make(target, nobody, weight))
    value.backward()
    assert float(value.detach()) == 0
    assert leaf.grad is not None
    assert not leaf.grad.any()


@pytest.mark.parametrize("settings", SETTINGS)
def test_background_and_unknown_classes_are_not_told_apart(settings: SegmentationSettings) -> None:
    """Neither by the network's probabilities nor by the label: what was not annotated gives no gradient."""
    logits, target, weight = random_case()
    annotated = torch.tensor([[1, 0, 0, 1]] * 3)  # 0, 1 and 2 are one class
    batch = make(target, annotated, weight)
    leaf = logits.clone().requires_grad_()
    value = total(settings, leaf, batch)
    value.backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0.01
    p = logits.softmax(dim=1)
    for unknown in (1, 2):
        # Moving probability between background and the class, their sum held, is the direction (p_u, -p_0).
        along = leaf.grad[:, 0] * p[:, unknown] - leaf.grad[:, unknown] * p[:, 0]
        assert along.abs().max() < 1e-12
    # A known class has a gradient against the background.
    assert (leaf.grad[:, 0] * p[:, 3] - leaf.grad[:, 3] * p[:, 0]).abs().max() > 1e-4
    # By any amount: shares drawn anew within the merged set.
    generator = torch.Generator().manual_seed(1)
    shares = torch.rand(3, 3, *SIDES, generator=generator, dtype=torch.float64)
    moved = logits.clone()
    moved[:, :3] = (p[:, :3].sum(dim=1, keepdim=True) * shares / shares.sum(dim=1, keepdim=True)).log()
    moved[:, 3] = p[:, 3].log()
    torch.testing.assert_close(total(settings, moved, batch), value.detach())
    # And by the label: voxels of 1 and 2 may be called background.
    merged = torch.where(target < 3, torch.zeros_like(target), target)
    torch.testing.assert_close(total(settings, logits, make(merged, annotated, weight)), value.detach())


def test_order_of_samples_and_of_unknown_classes_does_not_matter() -> None:
    logits, target, weight = random_case()
    annotated = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 1]])
    settings = SegmentationSettings()
    value = total(settings, logits, make(target, annotated, weight))
    turn = torch.tensor([2, 0, 1])
    again = total(settings, logits[turn], make(target[turn], annotated[turn], weight[turn]))
    torch.testing.assert_close(again, value)
    one = torch.tensor([[1, 1, 0, 0]])
    first = total(settings, logits[:1], make(target[:1], one, weight[:1]))
    swapped = total(settings, logits[:1, [0, 1, 3, 2]], make(target[:1], one, weight[:1]))
    torch.testing.assert_close(swapped, first)


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradient_against_finite_differences(settings: SegmentationSettings) -> None:
    logits, target, weight = random_case(count=4)
    annotated = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0]])
    batch = make(target, annotated, weight)
    assert torch.autograd.gradcheck(lambda z: total(settings, z, batch), logits.clone().requires_grad_())


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([300.0, -300.0, 0.0, 200.0]).reshape(1, K, 1, 1, 1).repeat(1, 1, *SIDES)
    for target in range(K):
        leaf = logits.clone().requires_grad_()
        labels = torch.full((1, 1, *SIDES), target, dtype=torch.uint8)
        value = total(SegmentationSettings(), leaf, make(labels, torch.tensor([[1, 1, 0, 1]])))
        value.backward()
        assert torch.isfinite(value)
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_a_region_that_was_not_annotated_gets_no_gradient_and_does_not_dilute_the_others() -> None:
    logits, _, _ = random_case()
    target = torch.randint(0, 2, (3, 2, *SIDES), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    weight = torch.ones(3, 2, *SIDES, dtype=torch.uint8)
    weight[1, 0] = 0
    leaf = logits.clone().requires_grad_()
    loss = SegmentationLoss(SegmentationSettings(), 2, 2)
    parts = loss(leaf, make(target, None, weight))
    torch.stack(list(parts.values())).sum().backward()
    assert leaf.grad is not None
    assert not leaf.grad[1, :2].any()
    assert (leaf.grad[1, 2:] != 0).all()
    assert (leaf.grad[0] != 0).all()
    # Each region's mean is over the samples that show it: region by region, the sum of two ordinary losses.
    alone = [(logits[[0, 2], :2], target[[0, 2], :1]), (logits[:, 2:], target[:, 1:])]
    single = SegmentationLoss(SegmentationSettings(), 1, 2)
    wanted = [single(z, make(t, None)) for z, t in alone]
    for name in ("dice", "cross_entropy"):
        torch.testing.assert_close(parts[name].detach(), wanted[0][name] + wanted[1][name])


def test_weight_of_a_structure_by_hand() -> None:
    target = torch.zeros(2, 1, 2, 1, 1, dtype=torch.uint8)
    weight = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1).repeat(2, 1, 1, 1, 1)
    exclusive = make(target, torch.tensor([[1, 0, 1], [1, 1, 1]], dtype=torch.uint8), weight)
    assert exclusive.structure_weight(1, 3)[..., 0, 0].tolist() == [[[0, 0], [1, 0]], [[1, 0], [1, 0]]]
    both = torch.cat([weight, 1 - weight], dim=1)
    regions = make(target.repeat(1, 2, 1, 1, 1), None, both)
    assert regions.structure_weight(2, 2)[..., 0, 0].tolist() == [[[1, 0], [0, 1]]] * 2
    assert make(target, None, weight).structure_weight(3, 2).shape == (2, 3, 2, 1, 1)


def test_hard_dice_leaves_out_what_is_not_known() -> None:
    target = torch.zeros(2, 1, 4, 1, 1, dtype=torch.uint8)
    target[0, 0, :2] = 1
    target[1, 0, :2] = 2
    found = torch.tensor([[1, 0, 2, 0], [1, 2, 0, 0]])
    logits = torch.nn.functional.one_hot(found, 3).movedim(-1, 1)[..., None, None].float()
    whole = hard_dice(logits, make(target, None), 1, 3)
    assert whole.tolist() == pytest.approx([2 / (2 + 2), 2 / (2 + 2)])
    annotated = torch.tensor([[1, 1, 0], [1, 0, 1]])
    part = hard_dice(logits, make(target, annotated), 1, 3)
    # Class 1 in the first sample only: 1 of 2 found; class 2 in the second only.
    assert part.tolist() == pytest.approx([2 / 3, 2 / 3])
    nobody = hard_dice(logits, make(target, torch.tensor([[1, 0, 1]] * 2)), 1, 3)
    assert math.isnan(nobody[0])


def test_wrong_shapes_are_refused() -> None:
    log_p = torch.zeros(1, 2, 2, *SIDES)
    target, weight = torch.zeros(1, 2, *SIDES, dtype=torch.int64), torch.ones(1, 2, *SIDES)
    with pytest.raises(ValueError, match="one group"):
        merge_unknown(log_p, target, weight, torch.ones(1, 2))
    with pytest.raises(ValueError, match="each sample and class"):
        merge_unknown(log_p[:, :1], target[:, :1], weight[:, :1], torch.ones(1, 3))
