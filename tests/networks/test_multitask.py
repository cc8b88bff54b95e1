"""The branch contract carries all three kinds of branch, shown with a stub of each."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from frugalseg.networks import Branch, BranchInput, MultiTaskNetwork, NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES

KERNELS = [(3, 3, 3)] * 4


class OnFeatures(Branch):
    """Like a variational auto-encoder: looks at the deepest map of every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        return {"code": self.linear(inputs.features[-1].mean(dim=(2, 3, 4)))}


class OwnInputs(Branch):
    """Like contrastive coding: sends something of its own through the shared encoder."""

    needs_features: ClassVar[bool] = False

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        return {"half": inputs.encode(inputs.image[..., :8], inputs.keys)[-1]}


class FeedsHead(Branch):
    """Like a boundary stream: the segmentation head sees its features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(8, 8, 1)

    @property
    def head_features(self) -> int:
        return 8

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        return {"head": self.conv(inputs.features[0]), "edges": inputs.features[0].mean()}


def network(**branches: Branch) -> MultiTaskNetwork:
    torch.manual_seed(0)
    return build_network(NetworkSettings(), 2, 4, PUBLISHED_STRIDES, KERNELS, branches, 8)


def test_all_three_kinds_of_branch_together() -> None:
    net = network(vae=OnFeatures(), cpc=OwnInputs(), edge=FeedsHead())
    assert net.head.in_channels == 16
    out = net(torch.randn(3, 2, 16, 16, 16), torch.arange(3), segmented=1)
    assert out["logits"].shape == (1, 4, 16, 16, 16)
    assert out["vae.code"].shape == (3, 3)
    assert out["cpc.half"].shape == (3, 64, 2, 2, 1)
    assert set(out) == {"logits", "vae.code", "cpc.half", "edge.head", "edge.edges"}
    # Where the head's features come from, a gradient goes back to.
    out["logits"].sum().backward()
    branch = net.branches["edge"]
    assert isinstance(branch, FeedsHead)
    assert branch.conv.weight.grad is not None
    assert branch.conv.weight.grad.abs().sum() > 0


def test_unlabelled_samples_reach_the_branch_but_not_the_decoder() -> None:
    net = network(vae=OnFeatures())
    image = torch.randn(2, 2, 16, 16, 16, requires_grad=True)
    net(image, torch.arange(2), segmented=1)["logits"].sum().backward()
    assert image.grad is not None
    assert image.grad[1].abs().sum() == 0
    assert image.grad[0].abs().sum() > 0


def test_segment_equals_forward_without_dropout() -> None:
    net = network(cpc=OwnInputs(), edge=FeedsHead()).eval()
    image = torch.randn(2, 2, 16, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(net.segment(image), net(image, torch.arange(2))["logits"])


@pytest.mark.parametrize("side", [(17, 16, 9), (8, 8, 8), (16, 12, 20)])
def test_odd_sizes_come_back_whole(side: tuple[int, int, int]) -> None:
    net = network().eval()
    with torch.no_grad():
        assert net.segment(torch.randn(1, 2, *side)).shape == (1, 4, *side)


def test_flat_axes_are_left_alone() -> None:
    strides = ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 1))
    net = build_network(NetworkSettings(), 1, 2, strides, [(3, 3, 1)] * 4, {}, 8).eval()
    with torch.no_grad():
        assert net.segment(torch.randn(1, 1, 32, 32, 1)).shape == (1, 2, 32, 32, 1)
