"""Normalisation and ReLU in one: both ways are PyTorch's own pair, forward and backward, in every precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from frugalseg.networks import normalisation as module
from frugalseg.networks.normalisation import CHANNELS_LAST, LARGE, Normalisation, normalisation

SHAPES = [(2, 16, 5, 6, 4), (1, 8, 3, 3, 3), (3, 24, 4, 2, 7), (1, 128, 2, 2, 2)]
WAYS: list[Any] = [module._Reordered, module._Streamed]
TOLERANCES = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 1e-2}


def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.relu(functional.group_norm(x, 8, weight, bias, 1e-5))


def results(way: Any, x: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor) -> list[Tensor]:
    leaves = [value.detach().clone().requires_grad_() for value in (x, weight, bias)]
    out = way(*leaves)
    out.backward(gradient)
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("kind", TOLERANCES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", [torch.contiguous_format, CHANNELS_LAST])
def test_both_ways_are_the_plain_pair(
    way: Any, shape: tuple[int, ...], kind: torch.dtype, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    # Means far from 0, as large as in a map that no one has centred.
    x = (3 * torch.randn(shape, dtype=kind) + 5).contiguous(memory_format=order)
    parameters = torch.float64 if kind == torch.float64 else torch.float32
    weight, bias = torch.randn(2, shape[1], dtype=parameters)
    gradient = torch.randn(shape, dtype=kind).contiguous(memory_format=order)
    found = results(lambda *a: way.apply(*a, 8, 1e-5), x, weight, bias, gradient)
    expected = results(plain, x.double(), weight.double(), bias.double(), gradient.double())
    assert len(found) == len(expected) == 4
    for one, other in zip(found, expected, strict=True):
        assert (one.double() - other).abs().max() <= TOLERANCES[kind] * other.abs().max()
    assert found[0].is_contiguous(memory_format=CHANNELS_LAST)
    assert torch.equal(way.compute(x, weight, bias, 8, 1e-5)[0], found[0])


@pytest.mark.parametrize("way", WAYS)
def test_gradient_against_finite_differences(way: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(16, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda *a: way.apply(*a, 8, 1e-5), (x, weight, bias))


def test_samples_in_parts_are_the_plain_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 2 * 16 * 64 + 5)
    torch.manual_seed(0)
    x = torch.randn(5, 16, 4, 4, 4, dtype=torch.float64).contiguous(memory_format=CHANNELS_LAST)
    weight, bias = torch.randn(2, 16, dtype=torch.float64)
    gradient = torch.randn_like(x)
    assert [len(part) for part in module._parts(x)] == [2, 2, 1]
    found = results(lambda *a: module._Reordered.apply(*a, 8, 1e-5), x, weight, bias, gradient)  # type: ignore[no-untyped-call]
    for one, other in zip(found, results(plain, x, weight, bias, gradient), strict=True):
        torch.testing.assert_close(one, other)


def test_large_maps_are_streamed_and_small_ones_reordered(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    for way in WAYS:

        def note(*arguments: Any, way: Any = way, own: Any = way.compute, **options: Any) -> Any:
            used.append(way.__name__)
            return own(*arguments, **options)

        monkeypatch.setattr(way, "compute", staticmethod(note))
    layer = normalisation(16)
    large, small = torch.randn(1, 16, 64, 32, 32), torch.randn(8, 16, 32, 32, 32)
    assert large[0].numel() == LARGE
    for x in (large, small):
        torch.testing.assert_close(layer(x), plain(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        layer(large)
    assert used == ["_Streamed", "_Reordered", "_Streamed"]


def test_under_autocast_the_type_stays() -> None:
    layer = Normalisation(8, 16)
    x = torch.randn(1, 16, 64, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        for part in (x, x[:, :, :8]):
            assert layer(part).dtype == torch.float32
            assert layer(part.bfloat16()).dtype == torch.bfloat16
