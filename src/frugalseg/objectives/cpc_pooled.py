"""Contrastive predictive coding on the crop's own map: approximations that encode no patch by itself.

A patch's encoding is the mean of the deepest map of the whole crop over the patch's box. It costs next to nothing
beside the segmentation, but it is another task: each voxel of that map has seen far beyond the patch, so that
context and target share what they have seen, whatever gap lies between them, and prediction is easier than it
should be. What that does to the segmentation is measured in benchmarks/results/pooled. `MaskedCoding` therefore
hides the targets' end of the crop from the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from frugalseg.networks.blocks import Triple
from frugalseg.networks.branch import BranchInput
from frugalseg.networks.keyed import subkeys
from frugalseg.objectives.base import at_least_float32, require
from frugalseg.objectives.cpc import ContrastivePredictiveCoding, CpcSettings
from frugalseg.objectives.cpc_layout import Layout


class PooledCoding(ContrastivePredictiveCoding):
    """The CPC branch on means of the trunk's deepest map."""

    needs_features: ClassVar[bool] = True
    own_graph: ClassVar[bool] = False

    def __init__(
        self, settings: CpcSettings, layout: Layout, channels: int, total_strides: Sequence[Triple]
    ) -> None:
        super().__init__(settings, layout, channels)
        self.total_strides = total_strides[-settings.levels :]

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "encodings" (B, C, gx, gy, gz) and "prediction" (B, C, a, b, k), cut axis last."""
        encodings = self.means(inputs.features, len(inputs.image))
        return {"encodings": encodings, "prediction": self.predict(self.roles(encodings).context)}

    def means(self, features: Sequence[Tensor], count: int) -> Tensor:
        """Return all patches' encodings (B, C, gx, gy, gz): means of the deepest levels' maps over their boxes."""
        maps = [at_least_float32(deep) for deep in features[-self.settings.levels :]]
        require(len(maps[-1]) == count, "every crop needs a map", (len(maps[-1]), count))
        each = zip(maps, self.total_strides, strict=True)
        return torch.cat([pooled(deep, self.layout, stride) for deep, stride in each], dim=1)

    @property
    def most(self) -> int:
        """None is encoded by itself."""
        return 0

    def spare_memory(self, samples: int) -> str | None:
        """There is nothing to spare."""
        return None


class MaskedCoding(PooledCoding):
    """CPC whose context has seen nothing of the targets: it comes from a second pass with their part set to 0.

    The targets are means over the map of the whole crop, as in `PooledCoding`; they have seen the context, but the
    predictor has not seen them. One pass of the encoder more, where `patches` costs three to four crops' worth.
    """

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "encodings" (B, C, gx, gy, gz) of the whole crop, and "prediction" (B, C, a, b, k) from a part."""
        count = len(inputs.image)
        keys = subkeys(inputs.keys, 1)[:, 0]  # dropout of its own
        seen = inputs.encode(inputs.image * self.visible(inputs.image), keys)
        context = self.roles(self.means(seen, count)).context
        return {"encodings": self.means(inputs.features, count), "prediction": self.predict(context)}

    def visible(self, image: Tensor) -> Tensor:
        """Return 1 where the context may look, 0 on the targets' end of the crop; broadcastable to the image."""
        axis, count = self.layout.axis, self.layout.grid[self.layout.axis]
        patch, step = self.layout.patch[axis], self.layout.stride[axis]
        places = torch.arange(image.shape[2 + axis], device=image.device)
        if self.settings.direction == "upper":
            seen = places < (count - self.layout.slabs) * step
        else:
            seen = places >= (self.layout.slabs - 1) * step + patch
        sides = [1, 1, 1, 1, 1]
        sides[2 + axis] = len(places)
        return seen.to(image.dtype).view(sides)


def pooled(deepest: Tensor, layout: Layout, total_stride: Triple) -> Tensor:
    """Return the mean of (B, C, mx, my, mz) over each patch's box, (B, C, gx, gy, gz).

    A voxel of the map stands for as many voxels of the crop as the strides make; one that a box cuts counts by the
    share of it that lies inside.
    """
    axes = zip(deepest.shape[2:], layout.grid, layout.patch, layout.stride, total_stride)
    x, y, z = (overlaps(*axis).to(deepest) for axis in axes)
    return torch.einsum("bcxyz,ix,jy,kz->bcijk", deepest, x, y, z)


def overlaps(side: int, count: int, patch: int, step: int, cell: int) -> Tensor:
    """Return (count, side): the share of each of `count` patches that lies in each of `side` cells of an axis.

    Args:
        side: Cells, the voxels of the deepest map.
        count: Patches, one every `step` voxels.
        patch: Voxels of a patch.
        step: Voxels between two patches.
        cell: Voxels of a cell.
    """
    starts = torch.arange(count)[:, None] * float(step)
    cells = torch.arange(side)[None] * float(cell)
    shared = torch.minimum(starts + patch, cells + cell) - torch.maximum(starts, cells)
    return shared.clamp(min=0) / patch
