"""The whole network: shared encoder, segmentation decoder and head, and any number of named branches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from frugalseg.networks.blocks import Triple, convolution
from frugalseg.networks.branch import HEAD, Branch, BranchInput
from frugalseg.networks.decoder import Decoder, Skip
from frugalseg.networks.encoder import BLOCKS, Encoder
from frugalseg.settings import Settings


class NetworkSettings(Settings):
    """Size and shape of the trunk."""

    width: Annotated[int, Field(ge=8, le=512)] | None = None
    """Channels of the first level, a multiple of 8 (the paper: 32); by default chosen for the device."""
    blocks: tuple[int, ...] = BLOCKS
    """Residual blocks of each level."""
    skip: Skip = "sum"
    """How the decoder takes in the encoder's maps."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the stem's elements that training sets to 0."""

    @field_validator("width")
    @classmethod
    def _width(cls, width: int | None) -> int | None:
        if width is not None and width % 8:
            raise ValueError(f"must be a multiple of 8, not {width}")
        return width

    @field_validator("blocks")
    @classmethod
    def _blocks(cls, blocks: tuple[int, ...]) -> tuple[int, ...]:
        if not 2 <= len(blocks) <= 7 or not 1 <= min(blocks) <= max(blocks) <= 64:
            raise ValueError("needs 2 to 7 levels with 1 to 64 blocks each")
        return blocks


class MultiTaskNetwork(nn.Module):
    """Encoder, decoder, head and branches. `forward` returns {"logits": ..., "<branch>.<name>": ...}."""

    def __init__(self, encoder: Encoder, decoder: Decoder, outputs: int, branches: Mapping[str, Branch]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.branches = nn.ModuleDict(dict(branches))
        extra = sum(branch.head_features for branch in branches.values())
        self.head = convolution(decoder.channels + extra, outputs, (1, 1, 1))
        self._needs_features = any(branch.needs_features for branch in branches.values())

    def forward(self, image: Tensor, keys: Tensor, segmented: int | None = None) -> dict[str, Tensor]:
        """Run trunk and branches.

        Args:
            image: (B, C, x, y, z).
            keys: (B,) integers that seed each sample's dropout and draws.
            segmented: How many of the first samples are segmented; all by default. The rest are unlabelled: no
                loss looks at their logits, so these are not computed.

        Returns:
            "logits" (segmented, outputs, x, y, z) and every branch's tensors under "<branch>.<name>".
        """
        count = len(image) if segmented is None else segmented
        shared = len(image) if self._needs_features else count
        features = self.encoder(image[:shared], keys[:shared])
        maps = self.decoder.maps([feature[:count] for feature in features])
        inputs = BranchInput(image, features, self.encoder, keys, self.decoder, maps)
        out: dict[str, Tensor] = {}
        for name, branch in self.branches.items():
            out.update({f"{name}.{key}": tensor for key, tensor in branch(inputs).items()})
        joined = [out[f"{name}.{HEAD}"][:count] for name in self.branches if f"{name}.{HEAD}" in out]
        out["logits"] = self.head(torch.cat([maps[0], *joined], dim=1) if joined else maps[0])
        return out

    def segment(self, image: Tensor) -> Tensor:
        """Return the logits of `image` (B, C, x, y, z); branches run only if the head needs their features."""
        keys = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        features = self.encoder(image, keys)
        heads = [branch for branch in self.branches.values() if isinstance(branch, Branch) and branch.head_features]
        maps = self.decoder.maps(features) if heads else [self.decoder(features)]
        inputs = BranchInput(image, features, self.encoder, keys, self.decoder, maps)
        joined = [branch(inputs)[HEAD] for branch in heads]
        logits: Tensor = self.head(torch.cat([maps[0], *joined], dim=1) if joined else maps[0])
        return logits


def build_network(
    settings: NetworkSettings,
    inputs: int,
    outputs: int,
    strides: Sequence[Triple],
    kernels: Sequence[Triple],
    branches: Mapping[str, Branch],
    width: int,
) -> MultiTaskNetwork:
    """Put the trunk together for images of `inputs` channels and `outputs` output channels."""
    encoder = Encoder(inputs, width, strides, kernels, settings.blocks[: len(strides)], settings.dropout)
    decoder = Decoder(encoder.channels, settings.skip, kernels)
    return MultiTaskNetwork(encoder, decoder, outputs, branches)
