"""The contract of an objective: named tensors in, named scalars out, weighted once by whoever sums them.

An auxiliary task is one file: its settings, its branch (see `networks.branch`), an optional target made by NumPy
in the loader's workers, and a loss. It becomes known by one line in `objectives/__init__.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from frugalseg.networks.blocks import Triple
from frugalseg.networks.branch import Branch
from frugalseg.objectives.across import all_sum
from frugalseg.settings import Settings

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pseudo:
    """What samples without a label are to be segmented like; see `frugalseg.semisup`.

    Attributes:
        truth: (B, R, K, x, y, z) probabilities.
        weight: (B, R, x, y, z); 0 where nothing is to be learnt, as in all of a labelled sample.
        factor: Of the loss on it.
        labelled: How many of the first samples the supervised loss looks at.
    """

    truth: Tensor
    weight: Tensor
    factor: float
    labelled: int


@dataclass(frozen=True)
class Batch:
    """A step's samples on the device, labelled ones first.

    There is one mask for each thing that can be learnt from: `weight` for the target, `inside` for the image. A
    loss uses that of what it looks at, as a factor and never in a condition (docs/decisions/0007).

    Attributes:
        image: (B, C, x, y, z) float32.
        target: (B, R, x, y, z) uint8 class indices of each of R groups.
        weight: (B, 1 or R, x, y, z); 0 where nothing may be learnt from the target: unlabelled samples, padding,
            ignored values, regions that were not annotated. Losses use it and nothing else to know what counts.
        keys: (B,) int64, one a sample.
        cases: (B,) int64, index of each sample's case.
        segmented: How many of the first samples have logits.
        extra: Targets of the auxiliary tasks, by "<task>.<name>"; a task's own loss finds them by "<name>".
        inside: (B, 1, x, y, z); 1 on the volume's own voxels, 0 where the crop reaches beyond it. `weight` is never
            above it. None: the crops reach beyond nothing.
        annotated: (B, K), 0 for each exclusive class that the sample's label does not show, else 1, as for the
            background (`objectives.marginal`); None in a run where every label shows every class, and for regions.
        weak: (U, C, x, y, z), the last U samples' images before their intensities were changed; None where nobody
            asked for them.
        guess: (U, R x K, x, y, z) uint8, the last U samples' probabilities in 255ths, made from registered labelled
            cases; None where there are none.
        pseudo: What samples without a label are to be segmented like; None where there is no such thing.
    """

    image: Tensor
    target: Tensor
    weight: Tensor
    keys: Tensor
    cases: Tensor
    segmented: int
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    inside: Tensor | None = None
    annotated: Tensor | None = None
    weak: Tensor | None = None
    guess: Tensor | None = None
    pseudo: Pseudo | None = None

    def with_each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with each tensor changed but `cases`, which are read on the processor."""

        def changed(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        return replace(
            self,
            image=change(self.image),
            target=change(self.target),
            weight=change(self.weight),
            keys=change(self.keys),
            extra={name: change(tensor) for name, tensor in self.extra.items()},
            inside=changed(self.inside),
            annotated=changed(self.annotated),
            weak=changed(self.weak),
            guess=changed(self.guess),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory: the loader asks for it, and copies to a GPU overlap then."""
        return self.with_each(Tensor.pin_memory)

    @property
    def image_weight(self) -> Tensor:
        """(B, 1, x, y, z) of the image's type: `inside`, or 1 everywhere. For losses that look at no target."""
        ones = torch.ones_like(self.image[:, :1])
        return ones if self.inside is None else ones * self.inside

    def structure_weight(self, groups: int, classes: int) -> Tensor:
        """Return each voxel's weight for each structure, (B, R (K - 1), x, y, z): the classes of group after group.

        Args:
            groups: R.
            classes: K, background included.
        """
        sides = self.weight.shape[2:]
        weight = self.weight[:, :, None].expand(-1, groups, classes - 1, *sides)
        if self.annotated is not None:
            weight = weight * self.annotated[:, None, 1:, None, None, None].to(weight.dtype)
        return weight.reshape(len(weight), -1, *sides)


@dataclass(frozen=True)
class Shapes:
    """What a branch is built for.

    Attributes:
        inputs: Channels of the image.
        crop: Sides of a training crop in voxels.
        strides: Stride of each level along each axis.
        features: Channels of each level's map.
        decoder: Channels of the decoder's finest map.
        groups: Number R of target groups, each with a softmax of its own.
        classes: Number K of classes of a group, background included.
        kernels: Kernel of each level's convolutions; 3x3x3 if empty.
    """

    inputs: int
    crop: Triple
    strides: tuple[Triple, ...]
    features: tuple[int, ...]
    decoder: int
    groups: int
    classes: int
    kernels: tuple[Triple, ...] = ()

    @property
    def total_stride(self) -> Triple:
        """Voxels of the image in one voxel of the deepest map, along each axis."""
        return self.total_strides[-1]

    @property
    def total_strides(self) -> tuple[Triple, ...]:
        """Voxels of the image in one voxel of each level's map, along each axis, finest first."""
        totals = np.cumprod(np.array(self.strides), axis=0).tolist()
        return tuple((int(x), int(y), int(z)) for x, y, z in totals)

    @property
    def sides(self) -> tuple[Triple, ...]:
        """Sides of each level's map of a crop, finest first; a stride that does not divide a side rounds up."""
        x, y, z = self.crop
        sides = []
        for a, b, c in self.strides:
            x, y, z = -(-x // a), -(-y // b), -(-z // c)
            sides.append((x, y, z))
        return tuple(sides)

    @property
    def structures(self) -> int:
        """Number S of structures: the foreground classes of every group, R (K - 1)."""
        return self.groups * (self.classes - 1)

    def decoded(self, level: int) -> int:
        """Return the channels of the decoder's map of a level, which may have the encoder's beside its own."""
        return self.features[level] * self.decoder // self.features[0]

    def kernel(self, level: int) -> Triple:
        """Return the kernel of a level's convolutions."""
        return self.kernels[level] if self.kernels else (3, 3, 3)


class TaskSettings(Settings):
    """Settings that every auxiliary task has; its own add to them."""

    trains_decoder: ClassVar[bool] = False
    """Whether the task goes through the segmentation decoder, whose weights a pre-training then has trained."""

    needs_labels: ClassVar[bool] = False
    """Whether the task learns from labels alone, so that a pre-training cannot have it."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor of all the task's losses in the total."""

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

    @property
    def weights(self) -> Mapping[str, float]:
        """Factor of each of `loss_names` within the task's share of the total; applied by whoever sums them."""
        return dict.fromkeys(self.loss_names, 1.0)

    def target(self, label: NDArray[np.uint8], spacing: tuple[float, float, float]) -> dict[str, NDArray[Any]]:
        """Make targets from a crop's label (R, x, y, z) and spacing (mm). Pure NumPy, in the loader's workers.

        The label of an unlabelled crop is 0 everywhere; what is made of it has weight 0 in the loss.
        """
        return {}

    @abstractmethod
    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Turn the branch's tensors into named, unweighted scalars."""

    def metrics(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        """Return scalars that are worth logging; nothing is trained on them."""
        return {}

    def assume_most(self) -> None:
        """From now on take no size from a tensor's numbers but the largest possible: they are about to be gone."""
        return

    def spare_memory(self, samples: int) -> str | None:
        """Need less memory from now on, with the same result up to rounding; called where memory ran out.

        Args:
            samples: Samples in a step of this process.

        Returns:
            What was changed, in a few words; None if there is nothing to change.
        """
        return None


def outputs_of(name: str, out: Named) -> dict[str, Tensor]:
    """Return the tensors of one branch (or the targets of one task), without its name in front."""
    return {key[len(name) + 1 :]: tensor for key, tensor in out.items() if key.startswith(name + ".")}


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean over the samples that are `present` (0 or 1), 0 if none is; no branch on the data.

    In a distributed run over the samples of all processes: whoever takes a mean over samples does it here.
    """
    return all_sum((values * present).sum(dim=0)) / all_sum(present.sum(dim=0)).clamp(min=1)


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values` in float32, or in float64 if they are: sums over a volume's voxels need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def structure_masks(label: NDArray[np.uint8], classes: int) -> NDArray[np.bool_]:
    """Return one mask for each structure (S, x, y, z) of a label (R, x, y, z) of class indices below `classes`."""
    return np.stack([group == index for group in label for index in range(1, classes)])


def require(condition: bool, message: str, values: Sequence[object] = ()) -> None:
    """Raise a ValueError about our own callers' mistakes, with what was got."""
    if not condition:
        raise ValueError(message + (f" (got {', '.join(map(str, values))})" if values else ""))
