"""The building blocks that every part of the network shares (Iwasawa et al. 2020; Myronenko 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from frugalseg.networks.dense import dense_convolution, pays
from frugalseg.networks.normalisation import normalisation

TINY = 3  # voxels a side below which bf16 is not trusted on a CPU
ONE_DNN_ELEMENTS = 20480  # of channels x first axis x second axis, up to which PyTorch does without oneDNN

Triple = tuple[int, int, int]


class Convolution(nn.Conv3d):
    """A 3D convolution that is right and fast on a CPU where PyTorch's choice of kernel is not.

    oneDNN's bf16 kernels leave parts of the weight's gradient unwritten, or write it wrong, where an axis that is
    filtered or strided has fewer than 3 voxels (docs/decisions/0005). These maps cost next to nothing: they are
    done in float32, many samples of the smallest as one matrix product. And PyTorch gives a small map of a single
    sample in float32 to a kernel of its own, not to oneDNN, which is 8 times faster on it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, x, y, z) to (B, outputs, x / stride, y / stride, z / stride), rounded up."""
        if x.device.type != "cpu":
            return super().forward(x)
        if self._tiny(x):
            with torch.autocast("cpu", enabled=False):
                x = x.to(self.weight.dtype)
                if pays(x) and not isinstance(self.padding, str):
                    return dense_convolution(x, self.weight, self.bias, self.stride, self.padding)
                return self._float32(x)
        return super().forward(x) if torch.is_autocast_enabled("cpu") else self._float32(x)

    def _tiny(self, x: Tensor) -> bool:
        sides = zip(x.shape[2:], self.kernel_size, self.stride)
        return any(side < TINY and (kernel > 1 or stride > 1) for side, kernel, stride in sides)

    def _float32(self, x: Tensor) -> Tensor:
        """Convolve with oneDNN what PyTorch would not: it asks for 2 samples, or for more elements in 3 axes."""
        small = len(x) == 1 and x[0, ..., 0].numel() <= ONE_DNN_ELEMENTS and x.dtype == torch.float32
        if not small or not torch.backends.mkldnn.is_available():
            return super().forward(x)
        if torch.is_grad_enabled():  # it has no backward pass of its own
            return super().forward(x.expand(2, -1, -1, -1, -1))[:1]
        out: Tensor = torch.ops.aten.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )
        return out


def convolution(inputs: int, outputs: int, kernel: Triple = (3, 3, 3), stride: Triple = (1, 1, 1)) -> Convolution:
    """Return a convolution with bias whose padding keeps the size at stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return Convolution(inputs, outputs, kernel, stride, padding)


class ResidualBlock(nn.Module):
    """x + Conv(ReLU(GN(Conv(ReLU(GN(x)))))), the number of channels unchanged."""

    def __init__(self, channels: int, kernel: Triple = (3, 3, 3)) -> None:
        super().__init__()
        self.norm1 = normalisation(channels)
        self.conv1 = convolution(channels, channels, kernel)
        self.norm2 = normalisation(channels)
        self.conv2 = convolution(channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, x, y, z) to the same shape."""
        inner: Tensor = self.conv1(self.norm1(x))
        inner = self.conv2(self.norm2(inner))
        return inner.add_(x)  # nobody else has seen it


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, x, y, z) trilinearly to `size`; corner voxels keep their places (aligned corners)."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="trilinear", align_corners=True)
