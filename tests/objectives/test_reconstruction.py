"""Masked reconstruction: what is hidden, what is scored, and that encoder and decoder learn from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from frugalseg.networks import BranchInput, MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, MaskedReconstruction, ReconstructionSettings, Shapes
from frugalseg.objectives.base import outputs_of
from frugalseg.objectives.reconstruction import hide

CROP = (16, 24, 16)
SHAPES = Shapes(2, CROP, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 2)


def network(settings: ReconstructionSettings | None = None) -> tuple[MultiTaskNetwork, MaskedReconstruction]:
    torch.manual_seed(2)
    branch = (settings or ReconstructionSettings()).build(SHAPES)
    strides, kernels = PUBLISHED_STRIDES, [(3, 3, 3)] * 4
    return build_network(NetworkSettings(), 2, 2, strides, kernels, {"task": branch}, 8), branch


def batch_of(count: int) -> Batch:
    image = torch.randn(count, 2, *CROP, generator=torch.Generator().manual_seed(1))
    zeros = torch.zeros(count, 1, *CROP, dtype=torch.uint8)
    return Batch(image, zeros, zeros, torch.arange(count) + 5, torch.arange(count), 1)


@pytest.mark.parametrize(("share", "count"), [(0.75, 9), (0.5, 6), (0.01, 1), (0.999, 11)])
def test_so_many_whole_blocks_are_hidden_in_every_crop(share: float, count: int) -> None:
    found = hide(torch.arange(6), (16, 24, 16), (8, 8, 8), share)
    blocks = found.unfold(2, 8, 8).unfold(3, 8, 8).unfold(4, 8, 8).flatten(5)
    assert (blocks.all(dim=-1) == blocks.any(dim=-1)).all()
    assert blocks.any(dim=-1).flatten(1).sum(dim=1).tolist() == [count] * 6
    if 1 < count < 11:
        assert len({tuple(row.tolist()) for row in blocks.any(dim=-1).flatten(1)}) > 1
    assert torch.equal(found[2:4], hide(torch.arange(2, 4), (16, 24, 16), (8, 8, 8), share))


def test_blocks_are_cut_off_at_the_ends_and_a_single_one_is_hidden() -> None:
    assert hide(torch.arange(2), (10, 9, 1), (8, 4, 2), 0.5).shape == (2, 1, 10, 9, 1)
    assert hide(torch.arange(1), (8, 8, 8), (8, 8, 8), 0.5).all()


def test_every_block_is_hidden_as_often_as_the_share_says() -> None:
    often = hide(torch.arange(4000), (4, 4, 4), (2, 2, 2), 0.75).float().mean(dim=0)
    assert torch.all((often - 0.75).abs() < 0.03)


def test_the_trunk_sees_nothing_of_what_is_hidden() -> None:
    _, branch = network()
    seen: list[Tensor] = []

    def encode(image: Tensor, keys: Tensor) -> list[Tensor]:
        seen.append(image)
        return [image.mean(dim=1, keepdim=True).expand(-1, 8, -1, -1, -1)]

    batch = batch_of(3)
    out = branch(BranchInput(batch.image, [], encode, batch.keys, lambda maps: maps[0]))
    hidden = out["hidden"].bool().expand_as(batch.image)
    assert torch.equal(seen[0], torch.where(hidden, 0.0, batch.image))
    assert 0 < hidden.float().mean() < 1


def test_the_loss_by_hand() -> None:
    """Errors of 1 and 3 in two channels: 5, where hidden and inside; samples without such a voxel do not count."""
    _, branch = network()
    image = torch.zeros(3, 2, 4, 4, 4)
    rebuilt = (
        torch.stack([torch.full((4, 4, 4), 1.0), torch.full((4, 4, 4), -3.0)]).expand(3, -1, -1, -1, -1).clone()
    )
    hidden = torch.zeros(3, 1, 4, 4, 4)
    hidden[:2, :, :2] = 1
    rebuilt[:, :, 2:] = 1e6  # visible: not scored
    inside = torch.ones(3, 1, 4, 4, 4, dtype=torch.uint8)
    inside[0, :, 0], rebuilt[0, :, 0] = 0, 1e6  # padding: not scored
    inside[1], rebuilt[1] = (
        0,
        1e6,
    )  # all padding: does not count; nor does the third, with nothing hidden
    zeros = torch.zeros(3, 1, 4, 4, 4, dtype=torch.uint8)
    batch = Batch(image, zeros, zeros, torch.arange(3), torch.arange(3), 1, inside=inside)
    assert float(branch.loss({"image": rebuilt, "hidden": hidden}, batch)["squared_error"]) == pytest.approx(5)
    nothing = replace(batch, inside=torch.zeros_like(inside))
    assert float(branch.loss({"image": rebuilt, "hidden": hidden}, nothing)["squared_error"]) == 0


def test_encoder_decoder_and_head_learn_without_a_label() -> None:
    net, branch = network()
    batch = batch_of(2)
    out = net(batch.image, batch.keys, 1)
    branch.loss(outputs_of("task", out), batch)["squared_error"].backward()
    parts = [*net.encoder.named_parameters(), *net.decoder.named_parameters(), *branch.named_parameters()]
    for name, weight in parts:
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    assert net.head.weight.grad is None


def test_the_gradient_against_finite_differences() -> None:
    net, branch = network()
    net.double().train()
    batch = replace(batch_of(1), image=batch_of(1).image.double())

    def loss() -> Tensor:
        out = net(batch.image, batch.keys, 1)
        return branch.loss(outputs_of("task", out), batch)["squared_error"]

    loss().backward()
    for weight in (net.encoder.init_conv.weight, next(iter(net.decoder.parameters())), branch.head.weight):
        assert weight.grad is not None
        place = int(weight.grad.abs().argmax())
        step = 1e-6
        values = []
        with torch.no_grad():
            for sign in (1, -1):
                weight.view(-1)[place] += sign * step
                values.append(float(loss()))
                weight.view(-1)[place] -= sign * step
        assert float(weight.grad.view(-1)[place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


def test_it_can_be_learnt() -> None:
    """A crop that is the same everywhere is rebuilt within some steps: the error falls far below the image's."""
    net, branch = network()
    batch = replace(batch_of(2), image=torch.full((2, 2, *CROP), 1.5))
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    values = []
    for _ in range(25):
        optimiser.zero_grad()
        value = branch.loss(outputs_of("task", net(batch.image, batch.keys, 1)), batch)["squared_error"]
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.2 * values[0]
