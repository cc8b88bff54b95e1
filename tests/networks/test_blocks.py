"""Convolutions in bf16 on the CPU: gradients near float32's at every size, whatever lay in the memory before."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from frugalseg.networks.blocks import Convolution, ResidualBlock, Triple, convolution

SIZES = list(itertools.product((1, 2, 3, 5), (1, 2, 4), (1, 2, 3)))


def gradients(layer: Convolution, image: Tensor, bf16: bool) -> list[Tensor]:
    layer.zero_grad()
    image = image.clone().requires_grad_()
    # Kernels that leave parts of their result unwritten show what was freed last: make that NaN.
    for size in (64, 1024, layer.weight.numel(), layer.weight[0].numel(), 2**16):
        torch.full((size,), float("nan"))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = layer(image)
    out.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert image.grad is not None
    return [out.detach().float(), layer.weight.grad.clone(), layer.bias.grad.clone(), image.grad]


@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((1,) * 3, (1,) * 3)],
)
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (8, 16), (1, 8)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
def test_bf16_gradients_are_near_those_of_float32(
    inputs: int, outputs: int, kernel: Triple, stride: Triple, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = convolution(inputs, outputs, kernel, stride)
    layer.to(memory_format=order)  # type: ignore[call-overload]
    for size in SIZES:
        image = torch.randn(3, inputs, *size).bfloat16().float()
        for mine, exact in zip(gradients(layer, image, True), gradients(layer, image, False), strict=True):
            assert (mine - exact).abs().max() <= 0.05 * exact.abs().max() + 1e-3, (size, mine.shape)


def test_large_maps_stay_in_bf16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(8, 8)(torch.randn(1, 8, 4, 4, 4)).dtype == torch.bfloat16
        assert convolution(8, 8)(torch.randn(1, 8, 2, 4, 4)).dtype == torch.float32
        assert convolution(8, 8, (1, 3, 3))(torch.randn(1, 8, 1, 4, 4)).dtype == torch.bfloat16


def test_the_order_of_the_weights_changes_nothing_but_speed() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8).double()
    image = torch.randn(2, 8, 6, 5, 4, dtype=torch.float64)
    before = block(image)
    block.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    assert block.conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(block(image), before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((1,) * 3, (1,) * 3)],
)
def test_a_small_map_of_one_sample_is_convolved_as_one_of_two(
    kernel: Triple, stride: Triple, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = convolution(8, 16, kernel, stride)
    layer.to(memory_format=order)  # type: ignore[call-overload]
    two = torch.randn(2, 8, 12, 10, 9)
    results = []
    for image in (two, two[:1]):
        layer.zero_grad()
        leaf = image.clone().requires_grad_()
        out = layer(leaf)
        out[:1].square().sum().backward()
        assert leaf.grad is not None
        assert layer.weight.grad is not None
        with torch.no_grad():
            torch.testing.assert_close(layer(image), out, rtol=1e-4, atol=1e-5)
        results.append((out.detach()[:1], leaf.grad[:1], layer.weight.grad.clone()))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_which_kernel_takes_a_small_map_of_one_sample() -> None:
    layer = convolution(8, 8)
    with torch.no_grad(), torch.profiler.profile() as seen:
        layer(torch.randn(1, 8, 12, 12, 12))
    names = {event.key for event in seen.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert "aten::slow_conv3d_forward" not in names
