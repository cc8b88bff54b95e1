"""Masked reconstruction: hide most of a crop, and rebuild it through encoder, skips and decoder; no label needed.

He et al. 2022 (masked auto-encoders) for convolutional 3D networks with skips, as in Wald et al. 2024 ("Revisiting
MAE pre-training for 3D medical image segmentation"): hidden blocks are set to 0 in the input, and the loss is the
squared error where they are. Unlike contrastive coding it trains the decoder, too, on unlabelled volumes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from frugalseg.networks.blocks import Triple, convolution
from frugalseg.networks.branch import BranchInput
from frugalseg.networks.keyed import keyed_words, subkeys
from frugalseg.objectives.base import (
    Batch,
    Named,
    Shapes,
    Task,
    TaskSettings,
    at_least_float32,
    masked_mean,
    require,
)
from frugalseg.settings import Side


class ReconstructionSettings(TaskSettings):
    """Masked reconstruction."""

    trains_decoder: ClassVar[bool] = True

    kind: Literal["reconstruction"] = "reconstruction"
    """Which task this is."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the loss in the total."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.75
    """Share of the blocks that are hidden."""
    block: tuple[Side, Side, Side] | None = None
    """Sides of a block in voxels; by default those of a voxel of the deepest map."""

    def build(self, shapes: Shapes) -> MaskedReconstruction:
        """Make the branch."""
        return MaskedReconstruction(self, self.block or shapes.total_stride, shapes.decoder, shapes.inputs)


class MaskedReconstruction(Task):
    """The reconstruction branch: a second pass of the trunk on an image with hidden blocks, and a 1x1x1 head."""

    needs_features: ClassVar[bool] = False
    own_graph: ClassVar[bool] = True
    loss_names: ClassVar[tuple[str, ...]] = ("squared_error",)

    def __init__(self, settings: ReconstructionSettings, block: Triple, channels: int, inputs: int) -> None:
        super().__init__()
        self.hidden, self.block = settings.hidden, block
        self.head = convolution(channels, inputs, (1, 1, 1))

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "image" (B, C, x, y, z), rebuilt, and "hidden" (B, 1, x, y, z), 1 where the input was 0."""
        require(inputs.decode is not None, "this branch needs the decoder", ())
        assert inputs.decode is not None
        hidden = hide(inputs.keys, inputs.image.shape[2:], self.block, self.hidden).to(inputs.image.dtype)
        keys = subkeys(inputs.keys, 1)[:, 0]  # dropout of its own
        features = inputs.encode(inputs.image * (1 - hidden), keys)
        return {"image": self.head(inputs.decode(features)), "hidden": hidden}

    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return "squared_error": over channels and hidden voxels inside the volume, mean over samples with any."""
        where = out["hidden"] * batch.image_weight
        count = where.sum(dim=(1, 2, 3, 4))
        error = (at_least_float32(out["image"]) - batch.image).square().mean(dim=1, keepdim=True)
        mean = (error * where).sum(dim=(1, 2, 3, 4)) / count.clamp(min=1)
        return {"squared_error": masked_mean(mean, (count > 0).to(mean.dtype))}


def hide(keys: Tensor, sides: torch.Size | Triple, block: Triple, share: float) -> Tensor:
    """Return (B, 1, x, y, z) bool, True in the hidden blocks: the same number in every crop, places from its key.

    Args:
        keys: (B,).
        sides: Of the crop, in voxels; blocks at its upper ends may be cut off.
        block: Sides of a block.
        share: Of the blocks; at least one is hidden and one is not, where there are two.
    """
    grid = [-(-side // step) for side, step in zip(sides, block, strict=True)]
    total = grid[0] * grid[1] * grid[2]
    count = min(max(1, round(share * total)), max(1, total - 1))
    ranks = keyed_words(keys ^ 0x165667B1, total).argsort(dim=1).argsort(dim=1)
    coarse = (ranks < count).view(len(keys), 1, *grid)
    for axis, step in enumerate(block):
        coarse = coarse.repeat_interleave(step, dim=2 + axis)
    return coarse[:, :, : sides[0], : sides[1], : sides[2]]
