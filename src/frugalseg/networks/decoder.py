"""The segmentation decoder: back to full resolution, each level joined with the encoder's map of its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from frugalseg.networks.blocks import ResidualBlock, Triple, convolution, resize

Skip = Literal["sum", "concat"]


class UpLevel(nn.Module):
    """1x1x1 convolution on the coarser map, trilinear up-sampling, the skip added or appended, residual block."""

    def __init__(self, inputs: int, channels: int, skip: Skip, kernel: Triple) -> None:
        super().__init__()
        self.skip = skip
        self.proj = convolution(inputs, channels, (1, 1, 1))
        self.channels = channels * (2 if skip == "concat" else 1)
        self.res = ResidualBlock(self.channels, kernel)

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        """Map (B, inputs, coarse) and the encoder's (B, channels, fine) to (B, self.channels, fine)."""
        x = resize(self.proj(x), feature.shape[2:])
        joined = x + feature if self.skip == "sum" else torch.cat([x, feature], dim=1)
        out: Tensor = self.res(joined)
        return out


class PlainUpLevel(nn.Module):
    """1x1x1 convolution on the coarser map, trilinear up-sampling, residual block: a level without a skip."""

    def __init__(self, inputs: int, channels: int, kernel: Triple) -> None:
        super().__init__()
        self.proj = convolution(inputs, channels, (1, 1, 1))
        self.res = ResidualBlock(channels, kernel)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Map (B, inputs, coarse) to (B, channels, *size)."""
        out: Tensor = self.res(resize(self.proj(x), size))
        return out


class Decoder(nn.Module):
    """From the encoder's maps to one map at full resolution, with `channels` channels; the head comes after it."""

    def __init__(
        self, features: Sequence[int], skip: Skip = "sum", kernels: Sequence[Triple] | None = None
    ) -> None:
        super().__init__()
        kernels = kernels or [(3, 3, 3)] * len(features)
        self.levels = nn.ModuleList()
        self.channels = features[-1]
        for level in reversed(range(len(features) - 1)):
            step = UpLevel(self.channels, features[level], skip, kernels[level])
            self.levels.append(step)
            self.channels = step.channels

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's feature maps (finest first) to (B, channels, x, y, z)."""
        x = features[-1]
        for x in self._levels(features):  # noqa: B007  # coarser ones are let go of at once
            pass
        return x

    def maps(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first: what `forward` returns, and those on the way to it."""
        return list(self._levels(features))[::-1]

    def _levels(self, features: Sequence[Tensor]) -> Iterator[Tensor]:
        x = features[-1]
        for level, feature in zip(self.levels, reversed(features[:-1]), strict=True):
            x = level(x, feature)
            yield x
