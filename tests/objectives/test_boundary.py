"""The boundary branch: edges against loops, hand-worked losses, gradients, masks, gates, groups of classes."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from frugalseg.networks import BranchInput, Encoder, MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.blocks import Triple
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import (
    Batch,
    BoundarySettings,
    BoundaryStream,
    SegmentationLoss,
    SegmentationSettings,
    Shapes,
)
from frugalseg.objectives.base import outputs_of
from frugalseg.objectives.boundary import balanced_cross_entropy, find_edges, gated, surrounded
from frugalseg.training.total import Objectives
from tests.evaluation.naive import surface

CROP = (8, 16, 8)
NEIGHBOURS = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))


def shapes(groups: int = 1, classes: int = 3) -> Shapes:
    return Shapes(2, CROP, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, groups, classes)


def network(groups: int = 1, classes: int = 3) -> tuple[MultiTaskNetwork, BoundaryStream]:
    torch.manual_seed(5)
    branch = BoundarySettings().build(shapes(groups, classes))
    kernels = [(3, 3, 3)] * 4
    outputs = groups * classes
    return build_network(NetworkSettings(), 2, outputs, PUBLISHED_STRIDES, kernels, {"edge": branch}, 8), branch


def batch_of(branch: BoundaryStream, count: int, labelled: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, 2, *CROP, generator=generator)
    target = torch.randint(0, branch.shapes.classes, (count, branch.shapes.groups, 4, 8, 4), generator=generator)
    target = target.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4).to(torch.uint8)
    weight = torch.zeros(count, 1, *CROP, dtype=torch.uint8)
    weight[:labelled] = 1
    edges = [torch.from_numpy(branch.target(label.numpy(), (1.0, 1.0, 1.0))["edges"]) for label in target]
    numbers = torch.arange(count)
    return Batch(image, target, weight, numbers, numbers, count, {"edge.edges": torch.stack(edges)})


def own(batch: Batch) -> Batch:
    return replace(batch, extra=outputs_of("edge", batch.extra))


def masks_of(
    seed: int, count: int = 3, sides: Triple = (5, 6, 4)
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.random.default_rng(seed).random((count, *sides)) < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_edges_equal_loops_over_voxels(seed: int) -> None:
    masks = masks_of(seed)
    outside, unknown = find_edges(masks, beyond=False), find_edges(masks)
    for mask, edge, open_edge in zip(masks, outside, unknown, strict=True):
        assert sorted(map(tuple, np.argwhere(edge).tolist())) == surface(mask)
        # Beyond the crop inside: as if every mask went on in all directions.
        wide = np.pad(mask, 1, constant_values=True)
        wanted = [(x - 1, y - 1, z - 1) for x, y, z in surface(wide)]
        inner = [v for v in wanted if all(0 <= place < side for place, side in zip(v, mask.shape, strict=True))]
        assert sorted(map(tuple, np.argwhere(open_edge).tolist())) == inner


def test_edges_by_hand() -> None:
    block = np.zeros((1, 7, 7, 7), bool)
    block[0, 1:6, 1:6, 1:6] = True
    edges = find_edges(block)
    assert edges.sum() == 5**3 - 3**3
    assert not edges[0, 2:5, 2:5, 2:5].any()
    whole = np.ones((1, 4, 4, 4), bool)
    assert not find_edges(whole).any()
    assert find_edges(whole, beyond=False).sum() == 4**3 - 2**3
    assert not find_edges(np.zeros((1, 4, 4, 4), bool), beyond=False).any()
    assert block.sum() == 125  # the input is left alone


def test_edges_of_one_slice_are_those_of_four_neighbours() -> None:
    flat = np.zeros((1, 6, 6, 1), bool)
    flat[0, 1:5, 1:5] = True
    for beyond in (True, False):
        assert find_edges(flat, beyond).sum() == 12


def test_a_target_for_each_foreground_structure() -> None:
    label = np.zeros((1, *CROP), np.uint8)
    label[0, 1:6, 2:9, 1:6] = 1
    label[0, 3:5, 4:7, 2:5] = 2
    branch = BoundarySettings().build(shapes())
    edges = branch.target(label, (1.0, 1.0, 1.0))["edges"]
    assert edges.shape == (2, *CROP)
    assert edges.dtype == np.uint8
    for index in (1, 2):
        found = sorted(map(tuple, np.argwhere(edges[index - 1]).tolist()))
        assert found == surface(label[0] == index)
    regions = BoundarySettings().build(shapes(2, 2))
    nested = np.concatenate([label > 0, label == 2]).astype(np.uint8)
    edges = regions.target(nested, (1.0, 1.0, 1.0))["edges"]
    for region, edge in zip(nested, edges, strict=True):
        assert sorted(map(tuple, np.argwhere(edge).tolist())) == surface(region > 0)


def test_what_lies_beyond_the_crop() -> None:
    label = np.zeros((1, *CROP), np.uint8)
    label[0, :4] = 1
    spacing = (1.0, 1.0, 1.0)
    cut = BoundarySettings().build(shapes(1, 2)).target(label, spacing)["edges"]
    assert cut[0, 3].all()
    assert cut.sum() == 16 * 8
    outside = BoundarySettings(beyond="published").build(shapes(1, 2)).target(label, spacing)["edges"]
    assert outside[0, 0].all()
    assert outside.sum() == 4 * 16 * 8 - 2 * 14 * 6


@pytest.mark.parametrize("balance", ["rare", "published"])
def test_cross_entropy_by_hand(balance: Literal["rare", "published"]) -> None:
    # Four voxels count, one of them is an edge: f = 1/4. The fifth, an edge far off, has weight 0.
    p_edge = torch.tensor([0.9, 0.2, 0.2, 0.5, 1e-6])
    log_p = torch.stack([1 - p_edge, p_edge]).log().reshape(1, 1, 2, 1, 1, 5)
    edges = torch.tensor([1, 0, 0, 0, 1]).reshape(1, 1, 1, 1, 5)
    weight = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 1, 1, 5)
    on, off = (0.75, 0.25) if balance == "rare" else (0.25, 0.75)
    wanted = (-on * math.log(0.9) - off * (2 * math.log(0.8) + math.log(0.5))) / 4
    torch.testing.assert_close(balanced_cross_entropy(log_p, edges, weight, balance), torch.tensor([wanted]))


def test_each_class_has_the_same_total_weight_however_rare_edges_are() -> None:
    log_p = torch.zeros(1, 1, 2, 10, 10, 10, requires_grad=True)
    edges = torch.zeros(1, 1, 10, 10, 10, dtype=torch.long)
    edges[0, 0, 0, 0, :7] = 1
    balanced_cross_entropy(log_p, edges, torch.ones(1, 1, 10, 10, 10)).sum().backward()
    assert log_p.grad is not None
    torch.testing.assert_close(log_p.grad[:, :, 0].sum(), log_p.grad[:, :, 1].sum())


@pytest.mark.parametrize(("groups", "classes"), [(1, 3), (2, 2)])
@pytest.mark.parametrize("balance", ["rare", "published"])
def test_gradient_against_finite_differences(
    groups: int, classes: int, balance: Literal["rare", "published"]
) -> None:
    branch = BoundarySettings(balance=balance).build(shapes(groups, classes))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    edges = torch.randint(0, 2, (2, 2, 3, 2, 2), generator=generator).to(torch.uint8)
    weight = torch.rand(2, groups, 3, 2, 2, generator=generator, dtype=torch.float64)
    numbers = torch.arange(2)
    batch = Batch(weight, edges, weight, numbers, numbers, 2, {"edges": edges})

    def loss(values: Tensor) -> Tensor:
        terms = branch.loss({"edge_logits": values}, batch)
        return terms["edge_dice"] + 2 * terms["edge_cross_entropy"]

    assert torch.autograd.gradcheck(loss, (logits,), eps=1e-6, atol=1e-7, rtol=1e-4)


def test_weight_of_each_group_goes_to_its_structures() -> None:
    branch = BoundarySettings().build(shapes(2, 3))
    logits = torch.randn(1, 8, *CROP, requires_grad=True)
    edges = torch.randint(0, 2, (1, 4, *CROP))
    weight = torch.ones(1, 2, *CROP)
    weight[:, 1] = 0
    numbers = torch.arange(1)
    batch = Batch(logits.detach(), edges, weight, numbers, numbers, 1, {"edges": edges})
    sum(branch.loss({"edge_logits": logits}, batch).values(), torch.zeros(())).backward()
    assert logits.grad is not None
    assert logits.grad[:, :4].abs().min() > 0
    assert logits.grad[:, 4:].abs().max() == 0


def test_unlabelled_samples_change_nothing_and_give_no_gradient() -> None:
    net, branch = network()
    net.eval()
    batch = batch_of(branch, 3, labelled=2)
    image = batch.image.clone().requires_grad_()
    terms = branch.loss(outputs_of("edge", net(image, batch.keys, 3)), own(batch))
    fewer = replace(batch, image=batch.image[:2], segmented=2)
    alone = branch.loss(outputs_of("edge", net(fewer.image, batch.keys[:2], 2)), own(fewer))
    for name, value in terms.items():
        torch.testing.assert_close(value, alone[name])
        assert float(value.detach()) > 0
    sum(terms.values(), torch.zeros(())).backward()
    assert image.grad is not None
    assert image.grad[2].abs().sum() == 0
    assert image.grad[:2].abs().sum(dim=(1, 2, 3, 4)).min() > 0


def test_unlabelled_samples_are_not_even_encoded() -> None:
    net, branch = network()
    batch = batch_of(branch, 3, labelled=1)
    out = net(batch.image, batch.keys, 1)
    assert len(out["edge.head"]) == len(out["edge.edge_logits"]) == len(out["logits"]) == 1
    terms = branch.loss(outputs_of("edge", out), own(replace(batch, segmented=1)))
    assert all(float(value.detach()) > 0 for value in terms.values())


def test_filling_has_no_part() -> None:
    _, branch = network()
    batch = batch_of(branch, 1, labelled=1)
    weight = batch.weight.clone()
    weight[..., 5:] = 0
    logits = torch.randn(1, 4, *CROP, requires_grad=True)
    masked = own(replace(batch, weight=weight))
    terms = branch.loss({"edge_logits": logits}, masked)
    sum(terms.values(), torch.zeros(())).backward()
    assert logits.grad is not None
    assert logits.grad[..., 5:].abs().sum() == 0
    noise = logits.detach().clone()
    noise[..., 5:] = 50
    for name, value in branch.loss({"edge_logits": noise}, masked).items():
        torch.testing.assert_close(value, terms[name])


def test_nothing_labelled_is_zero_with_zero_gradient_everywhere() -> None:
    net, branch = network()
    batch = batch_of(branch, 2, labelled=0)
    before = copy.deepcopy(net.state_dict())
    sums = Objectives(SegmentationLoss(SegmentationSettings(), 1, 3), {"edge": branch}, {"edge": 1.0})
    terms = sums(net(batch.image, batch.keys, 2), batch)
    assert all(float(value.detach()) == 0 for value in terms.totals.values())
    torch.stack(list(terms.totals.values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in net.parameters())
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_perfect_logits_reach_zero() -> None:
    _, branch = network()
    batch = own(batch_of(branch, 2, labelled=2))
    edges = batch.extra["edges"].float()
    logits = torch.stack([1 - edges, edges], dim=2).flatten(1, 2) * 60
    for value in branch.loss({"edge_logits": logits}, batch).values():
        assert float(value) < 1e-5


def test_gates_are_maps_between_0_and_1_that_multiply_the_stream() -> None:
    _, branch = network()
    features = [torch.randn(2, 8 * 2**i, *(side // 2**i for side in CROP)) for i in range(4)]
    seen = []
    for gate in (branch.att_in, *branch.gates):
        gate.register_forward_hook(lambda module, args, out: seen.append((args[0].shape, out.shape)))
    branch(BranchInput(torch.zeros(2, 2, *CROP), features, lambda x, k: [], torch.arange(2)))
    assert seen == [
        ((2, 32 + 64, 1, 2, 1), (2, 1, 1, 2, 1)),
        ((2, 32 + 32, 2, 4, 2), (2, 1, 2, 4, 2)),
        ((2, 16 + 16, 4, 8, 4), (2, 1, 4, 8, 4)),
        ((2, 8 + 8, 8, 16, 8), (2, 1, 8, 16, 8)),
    ]
    stream = torch.randn(1, 3, 2, 2, 2)
    gate = torch.nn.Conv3d(5, 1, 1)
    torch.nn.init.zeros_(gate.weight)
    for bias, factor in ((0.0, 0.5), (50.0, 1.0), (-50.0, 0.0)):
        torch.nn.init.constant_(gate.bias, bias)  # type: ignore[arg-type]
        torch.testing.assert_close(gated(gate, stream, torch.randn(1, 2, 2, 2, 2)), factor * stream)


def test_the_head_sees_the_stream_in_training_and_prediction() -> None:
    net, branch = network()
    net.eval()
    assert branch.head_features == 8
    assert net.head.in_channels == 16
    image = torch.randn(1, 2, *CROP)
    with torch.no_grad():
        whole = net(image, torch.zeros(1).long())["logits"]
        torch.testing.assert_close(net.segment(image), whole)
        dict(branch.named_parameters())["levels.2.res.conv2.bias"].add_(1)
        assert (net.segment(image) - whole).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("crop", "strides", "kernel"),
    [
        ((24, 32, 1), ((1, 1, 1), (2, 2, 1), (2, 2, 1)), (3, 3, 1)),
        ((9, 17, 12), PUBLISHED_STRIDES, (3, 3, 3)),
        ((16, 12, 5), ((1, 1, 1), (2, 2, 1)), (3, 3, 3)),
    ],
)
def test_any_levels_strides_and_sides(crop: Triple, strides: tuple[Triple, ...], kernel: Triple) -> None:
    widths = tuple(8 * 2**level for level in range(len(strides)))
    kernels = (kernel,) * len(strides)
    branch = BoundarySettings().build(Shapes(1, crop, strides, widths, 8, 1, 4, kernels))
    image = torch.randn(2, 1, *crop)
    features = Encoder(1, 8, strides, kernels, (1,) * len(strides))(image)
    out = branch(BranchInput(image, features, lambda x, k: [], torch.arange(2)))
    assert out["edge_logits"].shape == (2, 6, *crop)
    assert out["head"].shape == (2, 8, *crop)
    weights = [weight for name, weight in branch.named_parameters() if ".conv" in name and weight.ndim == 5]
    assert len(weights) == 2 * len(strides)
    assert all(weight.shape[2:] == kernel for weight in weights)


def test_training_finds_edges() -> None:
    net, branch = network(1, 2)
    label = np.zeros((1, *CROP), np.uint8)
    label[0, 2:7, 3:12, 2:7] = 1
    image = torch.from_numpy(label)[None].float().repeat(1, 2, 1, 1, 1) + 0.1 * torch.randn(1, 2, *CROP)
    edges = torch.from_numpy(branch.target(label, (1.0, 1.0, 1.0))["edges"])[None]
    first = torch.zeros(1).long()
    batch = Batch(image, torch.from_numpy(label)[None], torch.ones(1, 1, *CROP), first, first, 1, {"edges": edges})
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(25):
        optimiser.zero_grad()
        terms = branch.loss(outputs_of("edge", net(image, first, 1)), batch)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
    net.eval()
    logits = net(image, first)["edge.edge_logits"]
    found = logits.argmax(dim=1)
    overlap = 2 * (found & edges[0]).sum() / (found.sum() + edges.sum())
    assert float(overlap) > 0.7


def test_beside_what_is_not_known_there_may_be_no_edge() -> None:
    """One annotated slice of ten: its neighbours are ignored, and the structure in it is not all edge."""
    weight = torch.zeros(1, 2, 6, 5, 4)
    weight[:, :, :, :, 2] = 1
    assert surrounded(weight).sum() == 0
    weight[:] = 1
    assert torch.equal(surrounded(weight), weight), "the crop's own border is the target's matter"
    weight[0, 0, 2, 2, 2] = 0
    found = surrounded(weight)
    naive = weight.clone()
    for x, y, z in np.ndindex(6, 5, 4):
        beside = [(x + a, y + b, z + c) for a, b, c in NEIGHBOURS]
        inside = [p for p in beside if all(0 <= side < most for side, most in zip(p, (6, 5, 4), strict=True))]
        naive[0, :, x, y, z] = torch.stack([weight[0, :, *p] for p in [(x, y, z), *inside]]).amin(dim=0)
    assert torch.equal(found, naive)
    assert int((1 - found[0, 0]).sum()) == 7
    assert torch.equal(found[0, 1], weight[0, 1])
    flat = torch.ones(1, 1, 5, 5, 1)
    assert torch.equal(surrounded(flat), flat)


def test_a_label_of_which_a_part_is_ignored_teaches_no_edge_at_its_end() -> None:
    _, branch = network()
    batch = batch_of(branch, 1, labelled=1)
    known = batch.weight.clone()
    known[..., 5:] = 0  # the last slice that is known has the first one that is not beside it
    logits = torch.randn(1, 4, *CROP, requires_grad=True)
    terms = branch.loss({"edge_logits": logits}, own(replace(batch, weight=known)))
    (gradient,) = torch.autograd.grad(sum(terms.values(), torch.zeros(())), logits)
    assert gradient[..., 4:].abs().sum() == 0
    assert gradient[..., :4].abs().sum() > 0
