"""The contract of an objective: named tensors in, named scalars out, weighted once by whoever sums them.

An auxiliary task is one file: its settings, its branch (see `networks.branch`), an optional target made by NumPy
in the loader's workers, and a loss. It becomes known by one line in `objectives/__init__.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from frugalseg.networks.branch import Branch
from frugalseg.objectives.across import all_sum
from frugalseg.settings import Settings

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class Batch:
    """A step's samples on the device, labelled ones first.

    Attributes:
        image: (B, C, x, y, z) float32.
        target: (B, R, x, y, z) uint8 class indices of each of R groups.
        weight: (B, 1 or R, x, y, z); 0 where nothing may be learnt from the target: unlabelled samples, padding,
            ignored values, structures that were not annotated. Losses use it and nothing else.
        keys: (B,) int64, one a sample.
        cases: (B,) int64, index of each sample's case.
        segmented: How many of the first samples have logits.
        extra: Targets of the auxiliary tasks, by name.
    """

    image: Tensor
    target: Tensor
    weight: Tensor
    keys: Tensor
    cases: Tensor
    segmented: int
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Shapes:
    """What a branch is built for: image channels, sides of the crop, strides, and channels of each level."""

    inputs: int
    crop: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    features: tuple[int, ...]
    decoder: int
    groups: int
    classes: int

    @property
    def total_stride(self) -> tuple[int, int, int]:
        """Voxels of the image in one voxel of the deepest map, along each axis."""
        total = np.prod(np.array(self.strides), axis=0)
        return int(total[0]), int(total[1]), int(total[2])


class TaskSettings(Settings):
    """Settings that every auxiliary task has; its own add to them."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor of the task's losses in the total."""

    @abstractmethod
    def build(self, shapes: Shapes) -> Task:
        """Make the task for a network of these shapes.

        Raises:
            UserError: It does not fit them; the sizes are named.
        """


class Task(Branch):
    """An auxiliary objective: a branch of the network with a loss."""

    own_graph: ClassVar[bool] = False
    """Whether the loss shares no activation with the segmentation's, so that each can go backward by itself."""

    loss_names: ClassVar[tuple[str, ...]] = ()
    """Names of the scalars that `loss` returns."""
    metric_names: ClassVar[tuple[str, ...]] = ()
    """Names of the scalars that `metrics` returns."""

    def target(self, label: NDArray[np.uint8], spacing: tuple[float, float, float]) -> dict[str, NDArray[Any]]:
        """Make targets from a crop's label (R, x, y, z) and spacing (mm). Pure NumPy, in the loader's workers."""
        return {}

    @abstractmethod
    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Turn the branch's tensors into named, unweighted scalars."""

    def metrics(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return scalars that are worth logging; nothing is trained on them."""
        return {}


def outputs_of(name: str, out: Named) -> dict[str, Tensor]:
    """Return the tensors of one branch, without its name in front."""
    return {key[len(name) + 1 :]: tensor for key, tensor in out.items() if key.startswith(name + ".")}


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean over the samples that are `present` (0 or 1), 0 if none is; no branch on the data.

    In a distributed run over the samples of all processes: whoever takes a mean over samples does it here.
    """
    return all_sum((values * present).sum(dim=0)) / all_sum(present.sum(dim=0)).clamp(min=1)


def require(condition: bool, message: str, values: Sequence[object] = ()) -> None:
    """Raise a ValueError about our own callers' mistakes, with what was got."""
    if not condition:
        raise ValueError(message + (f" (got {', '.join(map(str, values))})" if values else ""))
