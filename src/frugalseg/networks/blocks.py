"""The building blocks that every part of the network shares (Iwasawa et al. 2020; Myronenko 2018)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

NORM_GROUPS = 8
NORM_EPS = 1e-5

Triple = tuple[int, int, int]


def normalisation(channels: int) -> nn.GroupNorm:
    """Return group normalisation with 8 groups."""
    return nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPS)


def convolution(inputs: int, outputs: int, kernel: Triple = (3, 3, 3), stride: Triple = (1, 1, 1)) -> nn.Conv3d:
    """Return a convolution with bias whose padding keeps the size at stride 1."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding)


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
        inner: Tensor = self.conv1(functional.relu(self.norm1(x)))
        inner = self.conv2(functional.relu(self.norm2(inner)))
        return x + inner


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, x, y, z) trilinearly to `size`; corner voxels keep their places (aligned corners)."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="trilinear", align_corners=True)
