"""The boundary branch: a stream that finds edges, gated by the encoder (Iwasawa et al. 2020; PAPER "Boundary").

Up-sampling levels without skips, each followed by an attention gate that looks at the encoder's map of its size.
The stream ends twice: in edge logits, and among the channels that the segmentation head sees.

Two differences from the published code, whose edge cross-entropy has no gradient and pairs neighbouring voxels by a
wrong reshape: here logits and voxels are aligned, and the rare edge class gets the large weight (DESIGN section 7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from frugalseg.networks.blocks import ResidualBlock, convolution
from frugalseg.networks.branch import HEAD, BranchInput
from frugalseg.networks.decoder import PlainUpLevel
from frugalseg.objectives.base import (
    Batch,
    Named,
    Shapes,
    Task,
    TaskSettings,
    at_least_float32,
    masked_mean,
    structure_masks,
)
from frugalseg.objectives.segmentation import soft_dice_loss


class BoundarySettings(TaskSettings):
    """Boundary stream: finds the edges of every structure; the segmentation head sees its features."""

    kind: Literal["boundary"] = "boundary"
    """Which task this is."""
    needs_labels: ClassVar[bool] = True
    balance: Literal["rare", "published"] = "rare"
    """Weights of the two classes in the cross-entropy: `rare`: each class has the other's share of the voxels, so
    that the rare edges count; `published`: each has its own share, so that they hardly do."""
    beyond: Literal["unknown", "published"] = "unknown"
    """What lies beyond the crop: `unknown`: a structure cut off by the crop has no edge there; `published`: it is
    outside of every structure, so the cut is an edge."""

    def build(self, shapes: Shapes) -> BoundaryStream:
        """Make the branch."""
        return BoundaryStream(self, shapes)


def find_edges(masks: NDArray[np.bool_], beyond: bool = True) -> NDArray[np.bool_]:
    """Return the voxels of masks (S, x, y, z) that have a 6-neighbour outside the mask: mask without its erosion.

    Args:
        masks: Any number of masks.
        beyond: Whether what lies beyond the array counts as inside. An axis of one voxel has no neighbours: a
            2D image has the edges of 4-neighbours.
    """
    inner = masks.copy()
    for axis in (1, 2, 3):
        if masks.shape[axis] == 1:
            continue
        kept, source = np.moveaxis(inner, axis, 0), np.moveaxis(masks, axis, 0)
        kept[1:] &= source[:-1]
        kept[:-1] &= source[1:]
        if not beyond:
            kept[0] = kept[-1] = False
    return masks & ~inner


def gated(gate: nn.Module, stream: Tensor, feature: Tensor) -> Tensor:
    """Return the stream (B, c, x, y, z) times an attention map, the sigmoid of gate(stream, feature), in (0, 1)."""
    return stream * torch.sigmoid(gate(torch.cat([stream, feature], dim=1)))


class BoundaryStream(Task):
    """The boundary branch. Structures are the foreground classes of every group, R (K - 1) in all."""

    # The segmentation head needs the stream of the segmented samples; edges have targets where labels are.
    needs_features: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = ("edge_dice", "edge_cross_entropy")
    published: ClassVar[Mapping[str, str]] = {"boundary": ""}

    def __init__(self, settings: BoundarySettings, shapes: Shapes) -> None:
        super().__init__()
        self.settings = settings
        self.shapes = shapes
        deepest, channels = shapes.features[-1], shapes.features[-2]
        self.proj = convolution(deepest, channels, (1, 1, 1))
        self.res = ResidualBlock(channels, shapes.kernel(len(shapes.features) - 1))
        self.att_in = convolution(channels + deepest, 1, (1, 1, 1))
        self.levels, self.gates = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(shapes.features) - 1)):
            self.levels.append(PlainUpLevel(channels, shapes.features[level], shapes.kernel(level)))
            channels = shapes.features[level]
            self.gates.append(convolution(2 * channels, 1, (1, 1, 1)))
        self.channels = channels
        self.head = convolution(channels, 2 * shapes.structures, (1, 1, 1))

    @property
    def head_features(self) -> int:
        """Channels of the stream's end, the first level's."""
        return self.channels

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "head" (n, channels, x, y, z) and "edge_logits" (n, 2 S, x, y, z) of the n encoded samples."""
        features = inputs.features
        stream = gated(self.att_in, self.res(self.proj(features[-1])), features[-1])
        for level, gate, feature in zip(self.levels, self.gates, reversed(features[:-1]), strict=True):
            stream = gated(gate, level(stream, feature.shape[2:]), feature)
        return {HEAD: stream, "edge_logits": self.head(stream)}

    def target(self, label: NDArray[np.uint8], spacing: tuple[float, float, float]) -> dict[str, NDArray[Any]]:
        """Return "edges" (S, x, y, z) uint8, 1 on the edges of each structure of the label (R, x, y, z)."""
        masks = structure_masks(label, self.shapes.classes)
        return {"edges": find_edges(masks, self.settings.beyond == "unknown").astype(np.uint8)}

    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return "edge_dice" and "edge_cross_entropy", summed over structures; 0 where there is no label."""
        logits = at_least_float32(out["edge_logits"])
        count = len(logits)
        log_p = functional.log_softmax(logits.unflatten(1, (self.shapes.structures, 2)), dim=2)
        edges = batch.extra["edges"][:count].long()
        weight = batch.structure_weight(self.shapes.groups, self.shapes.classes)[:count].to(log_p.dtype)
        weight = surrounded(weight)
        return {
            "edge_dice": soft_dice_loss(log_p.exp(), edges, weight).sum(),
            "edge_cross_entropy": balanced_cross_entropy(log_p, edges, weight, self.settings.balance).sum(),
        }


def surrounded(weight: Tensor) -> Tensor:
    """Return weights (B, S, x, y, z) that are 0, too, beside a voxel of weight 0: perhaps there is no edge.

    Beyond the crop everything counts as known; what lies there is the target's matter.
    """
    found = weight
    for axis in (2, 3, 4):
        inner = weight.shape[axis] - 1
        if inner:
            end = torch.full_like(weight.narrow(axis, 0, 1), torch.inf)
            for beside in ((weight.narrow(axis, 1, inner), end), (end, weight.narrow(axis, 0, inner))):
                found = torch.minimum(found, torch.cat(beside, axis))
    return found


def balanced_cross_entropy(
    log_p: Tensor, edges: Tensor, weight: Tensor, balance: Literal["rare", "published"] = "rare"
) -> Tensor:
    """Return each structure's class-balanced cross-entropy (S,), mean over the samples with any weight.

    Of a sample it is the mean over voxels (not over class weights, as published) of -w log p, where f is the edges'
    share of the weighted voxels and w, for `rare`, is 1 - f on edges and f elsewhere; for `published` the reverse.

    Args:
        log_p: Log-probabilities (B, S, 2, x, y, z) of no edge and edge.
        edges: (B, S, x, y, z), 0 or 1.
        weight: (B, S, x, y, z).
        balance: See above.
    """
    space = (2, 3, 4)
    voxels = weight.sum(dim=space)
    share = (weight * edges).sum(dim=space) / voxels.clamp(min=1e-12)
    share = share[:, :, None, None, None]
    on_edges, elsewhere = (1 - share, share) if balance == "rare" else (share, 1 - share)
    picked = -log_p.gather(2, edges[:, :, None])[:, :, 0]
    balanced = torch.where(edges > 0, on_edges, elsewhere) * picked
    mean = (balanced * weight).sum(dim=space) / voxels.clamp(min=1e-12)
    return masked_mean(mean, (voxels > 0).to(log_p.dtype))
