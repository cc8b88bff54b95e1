"""The shared encoder: four levels of residual blocks (Iwasawa et al. 2020, figure 1; PAPER "Trunk")."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from frugalseg.networks.blocks import ResidualBlock, Triple, convolution
from frugalseg.networks.keyed import keyed_dropout

BLOCKS = (1, 2, 2, 4)
PUBLISHED_STRIDES: tuple[Triple, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))


class Level(nn.Module):
    """A convolution that may halve the resolution, then residual blocks."""

    def __init__(self, inputs: int, outputs: int, blocks: int, stride: Triple, kernel: Triple) -> None:
        super().__init__()
        self.down = convolution(inputs, outputs, kernel, stride)
        self.res = nn.ModuleList(ResidualBlock(outputs, kernel) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, x, y, z) to (B, outputs, x / stride, ...), rounded up."""
        x = self.down(x)
        for block in self.res:
            x = block(x)
        return x


class Encoder(nn.Module):
    """Turns an image into one feature map a level, with `width`, 2 `width`, 4 `width`, ... channels.

    Args:
        inputs: Channels of the image.
        width: Channels of the first level, a multiple of 8.
        strides: Stride of each level along each axis; the first is usually 1.
        kernels: Kernel of each level's convolutions.
        blocks: Residual blocks of each level.
        dropout: Share of the stem's elements that training sets to 0.
    """

    def __init__(
        self,
        inputs: int,
        width: int = 32,
        strides: Sequence[Triple] = PUBLISHED_STRIDES,
        kernels: Sequence[Triple] | None = None,
        blocks: Sequence[int] = BLOCKS,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        kernels = kernels or [(3, 3, 3)] * len(strides)
        if width % 8 or not len(strides) == len(kernels) == len(blocks):
            raise ValueError("width must be a multiple of 8, and strides, kernels and blocks of one length")
        self.channels = tuple(width * 2**level for level in range(len(strides)))
        self.strides = tuple(strides)
        self.dropout = dropout
        self.init_conv = convolution(inputs, width, kernels[0])
        sources = (width, *self.channels[:-1])
        self.levels = nn.ModuleList(
            Level(source, target, count, stride, kernel)
            for source, target, count, stride, kernel in zip(
                sources, self.channels, blocks, strides, kernels, strict=True
            )
        )

    def forward(self, image: Tensor, keys: Tensor | None = None) -> list[Tensor]:
        """Return the feature maps of `image` (B, inputs, x, y, z), finest first.

        `keys` (B,) decide the dropout masks in training (see `keyed`); without them PyTorch's generator does.
        """
        x: Tensor = self.init_conv(image)
        if self.training and self.dropout > 0:
            x = functional.dropout(x, self.dropout) if keys is None else keyed_dropout(x, keys, self.dropout)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features
