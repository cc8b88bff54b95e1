"""Contrastive predictive coding on the crop's own map: an approximation that encodes nothing a second time.

A patch's encoding is the mean of the deepest map of the whole crop over the patch's box. It costs next to nothing
beside the segmentation, but it is another task: each voxel of that map has seen far beyond the patch, so that
context and target share what they have seen, whatever gap lies between them, and prediction is easier than it
should be. What that does to the segmentation is measured in benchmarks/results/pooled.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from frugalseg.networks.blocks import Triple
from frugalseg.networks.branch import BranchInput
from frugalseg.objectives.base import at_least_float32, require
from frugalseg.objectives.cpc import ContrastivePredictiveCoding, CpcSettings
from frugalseg.objectives.cpc_layout import Layout


class PooledCoding(ContrastivePredictiveCoding):
    """The CPC branch on means of the trunk's deepest map."""

    needs_features: ClassVar[bool] = True
    own_graph: ClassVar[bool] = False

    def __init__(self, settings: CpcSettings, layout: Layout, channels: int, total_stride: Triple) -> None:
        super().__init__(settings, layout, channels)
        self.total_stride = total_stride

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "encodings" (B, C, gx, gy, gz) and "prediction" (B, C, a, b, k), cut axis last."""
        deepest = at_least_float32(inputs.features[-1])
        require(len(deepest) == len(inputs.image), "every crop needs a map", (len(deepest), len(inputs.image)))
        encodings = pooled(deepest, self.layout, self.total_stride)
        return {"encodings": encodings, "prediction": self.predict(self.roles(encodings).context)}

    @property
    def most(self) -> int:
        """None is encoded by itself."""
        return 0

    def spare_memory(self, samples: int) -> str | None:
        """There is nothing to spare."""
        return None


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
