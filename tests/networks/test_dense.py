"""Tiny maps by a matrix product: PyTorch's convolution, forwards and backwards, for every small geometry."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from frugalseg.networks.blocks import Convolution, convolution
from frugalseg.networks.dense import FEWEST, dense_convolution, pays, taps

SIDES = [(1, 1, 1), (2, 2, 2), (1, 2, 4), (8, 1, 1), (3, 2, 1)]
KERNELS = [(3, 3, 3), (1, 3, 3), (3, 3, 1), (1, 1, 1)]
STRIDES = [(1, 1, 1), (2, 2, 2), (1, 2, 2)]


@pytest.mark.parametrize(("sides", "kernel", "stride"), list(product(SIDES, KERNELS, STRIDES)))
def test_equals_a_convolution(
    sides: tuple[int, int, int], kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, *sides, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, *kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    padding = [side // 2 for side in kernel]
    plain = functional.conv3d(x, weight, bias, stride, padding)
    fast = dense_convolution(x, weight, bias, stride, padding)
    torch.testing.assert_close(fast, plain)
    towards = torch.randn_like(plain)
    for one, two in zip(
        torch.autograd.grad(fast, (x, weight, bias), towards),
        torch.autograd.grad(plain, (x, weight, bias), towards),
    ):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(
        dense_convolution(x, weight, None, stride, padding), functional.conv3d(x, weight, None, stride, padding)
    )


def test_taps_by_hand() -> None:
    """Two voxels in a row under a filter of three: tap 1 is the voxel itself, 0 its left, 2 its right neighbour."""
    found = taps((2, 1, 1), (3, 1, 1), (1, 1, 1), (1, 0, 0))
    assert found.argmax(axis=2).tolist() == [[1, 0], [2, 1]]
    assert found.sum(axis=2).tolist() == [[1, 1], [1, 1]]


def test_it_is_taken_for_many_samples_of_a_tiny_map(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = convolution(8, 8)
    assert isinstance(layer, Convolution)
    few, many, wide = torch.randn(2, 8, 2, 2, 2), torch.randn(FEWEST, 8, 2, 2, 2), torch.randn(FEWEST, 8, 3, 3, 3)
    assert (pays(few), pays(many), pays(wide)) == (False, True, False)
    calls: list[int] = []

    def counted(*arguments: object) -> torch.Tensor:
        calls.append(1)
        return dense_convolution(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("frugalseg.networks.blocks.dense_convolution", counted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for x in (few, many, wide):
            layer(x)
    assert len(calls) == 1


def test_the_table_outlives_the_mode_in_which_it_is_made() -> None:
    x = torch.randn(FEWEST, 2, 2, 2, 1)
    layer = convolution(2, 2)
    taps.cache_clear()
    fake = FakeTensorMode()
    weight = fake.from_tensor(layer.weight.detach())
    numbers = fake.from_tensor(x)
    with fake:
        dense_convolution(numbers, weight, None, (1, 1, 1), (1, 1, 1))
    with torch.inference_mode():
        first = layer(x)
    second = layer(x)
    second.sum().backward()
    assert torch.equal(first, second.detach())
