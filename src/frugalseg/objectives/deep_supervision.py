"""Deep supervision: the decoder's coarser maps are to show the structures, too (Lee et al. 2015; Dou et al. 2017).

A 1x1x1 head on each of the decoder's maps but the finest gives logits; soft Dice (of a crop, with background) and
cross-entropy compare them with the label at every so many voxels. Each level counts half of the finer one, as in
nnU-Net (Isensee et al. 2021), which leaves out the coarsest and divides by the sum; the finest is the segmentation
itself and counts 1. Nothing of this is needed for a prediction, nor kept for one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frugalseg.errors import UserError
from frugalseg.networks.blocks import Triple, convolution
from frugalseg.networks.branch import BranchInput
from frugalseg.objectives.base import Batch, Named, Shapes, Task, TaskSettings, require
from frugalseg.objectives.segmentation import SegmentationLoss, SegmentationSettings


class DeepSupervisionSettings(TaskSettings):
    """Deep supervision: the decoder's coarser maps segment, too."""

    kind: Literal["deep_supervision"] = "deep_supervision"
    """Which task this is."""
    needs_labels: ClassVar[bool] = True
    dice_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of soft Dice; the rest is cross-entropy."""

    def build(self, shapes: Shapes) -> DeepSupervision:
        """Make the branch.

        Raises:
            UserError: The network has no decoder map but the finest.
        """
        if len(shapes.features) < 3:
            raise UserError(
                "needs a network of 3 levels or more: with fewer the decoder has no coarser map; leave the task "
                "out, or name more levels in network.blocks",
                "network.blocks",
            )
        return DeepSupervision(self, shapes)


class DeepSupervision(Task):
    """Heads on the decoder's maps of level 1 (the finest but one) and coarser ones."""

    needs_features: ClassVar[bool] = False
    loss_names: ClassVar[tuple[str, ...]] = ("dice", "cross_entropy")

    def __init__(self, settings: DeepSupervisionSettings, shapes: Shapes) -> None:
        super().__init__()
        self.segmentation = SegmentationLoss(
            SegmentationSettings(dice_weight=settings.dice_weight), shapes.groups, shapes.classes
        )
        levels = range(1, len(shapes.features) - 1)
        self.strides = [shapes.total_strides[level] for level in levels]
        outputs = shapes.groups * shapes.classes
        self.heads = nn.ModuleList(convolution(shapes.decoded(level), outputs, (1, 1, 1)) for level in levels)

    @property
    def weights(self) -> dict[str, float]:
        """Shares of Dice and cross-entropy."""
        return self.segmentation.weights

    def forward(self, inputs: BranchInput) -> dict[str, Tensor]:
        """Return "logits_1", "logits_2", ... (n, R x K, x, y, z) of the n segmented samples, finest level first."""
        require(bool(inputs.decoded), "this branch needs the decoder's maps", ())
        maps = inputs.decoded[1:]
        return {f"logits_{level}": head(x) for level, (head, x) in enumerate(zip(self.heads, maps, strict=True), 1)}

    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return "dice" and "cross_entropy", sums over levels that count 1/2, 1/4, ...; 0 where no label is."""
        found = [
            self.segmentation(out[f"logits_{level}"], at_every(batch, stride))
            for level, stride in enumerate(self.strides, 1)
        ]
        return {
            name: torch.stack([0.5**level * named[name] for level, named in enumerate(found, 1)]).sum()
            for name in self.loss_names
        }


def at_every(batch: Batch, stride: Triple) -> Batch:
    """Return the batch with target and weight at every so many voxels, where a level's map has its own.

    A strided 3x3x3 convolution with a padding of one centres its voxel i on voxel i x stride of the image. So the
    encoder's maps lie, which the decoder adds to its own; what it up-samples is laid end on end, up to stride - 1
    voxels off at the far end, as in the published network.
    """
    x, y, z = stride
    return replace(batch, target=batch.target[..., ::x, ::y, ::z], weight=batch.weight[..., ::x, ::y, ::z])
