"""What a training step holds in memory and computes, found by taking it with tensors that have no numbers.

The loop's own step runs on fake tensors (sizes, types and layouts, no storage): every operation of the forward and
backward pass and of the optimiser passes by here, and what it makes is counted until autograd lets go of it. So a
change of a network, a task or the loop needs no change here. It takes about a second, whatever the crop, and once
in a process for all runs that differ in nothing that a step depends on: the cells of a study, a run that goes on.

What does not pass by: buffers inside an operation, gaps that the allocator leaves, libraries (`jobs.needs`).
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from frugalseg.config.schema import Config
from frugalseg.data.scheme import LabelScheme
from frugalseg.jobs import build as building
from frugalseg.objectives import Batch, CpcSettings, Shapes, Task
from frugalseg.objectives.across import Share
from frugalseg.training.launch import make_fabric
from frugalseg.training.plan import Plan

MANY = 4  # with more chunks than this the step is not simulated chunk by chunk
# What of a configuration a step does not depend on.
_BESIDE: dict[str, Any] = {
    "method": True,
    "about": True,
    "training": {"steps", "minutes", "usual_minutes", "seed", "workers", "checkpoint_seconds", "validate_every"},
}
_SIMULATED: dict[tuple[object, ...], Footprint] = {}  # by all that it does depend on
_SMALL = 8  # sides of the label that tells the shapes of a task's targets


class ConvolutionCall(NamedTuple):
    """A convolution as it was called; `passes` is 1 forward, 2 backward (3 in a multiply-add count)."""

    inputs: int
    outputs: int
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    batch: int
    sides: tuple[int, int, int]
    dtype: torch.dtype
    forward: bool


@dataclass(frozen=True)
class Footprint:
    """A step of one process.

    Attributes:
        peak: Bytes of all tensors that are alive at once, at most, when the optimiser has its state.
        weights: Bytes of the network's weights.
        static: Bytes that stay between two steps: weights, gradients, optimiser, running mean.
        batch: Bytes of the samples and their targets.
        convolutions: How often each convolution is called.
        moved: Bytes that all other operations read and write.
        operations: How many operations there are.
    """

    peak: int
    weights: int
    static: int
    batch: int
    convolutions: Mapping[ConvolutionCall, int]
    moved: int
    operations: int


def footprint(
    config: Config, plan: Plan, channels: int, scheme: LabelScheme, samples: int, labelled: int
) -> Footprint:
    """Return what a step of `samples` crops, of which `labelled` are segmented, takes in one process.

    Where contrastive coding encodes its patches in more than four parts, two coarser ones are simulated: what is
    held grows in a straight line with the part, from the size on where the patches hold more than the crops do.
    """
    for name, settings in config.auxiliary.items():
        if not isinstance(settings, CpcSettings) or settings.chunk is None:
            continue
        total = samples * patches_of(settings, plan, channels)
        if total <= MANY * settings.chunk:
            continue
        half, quarter = -(-total // 2), -(-total // MANY)
        large = footprint(with_chunk(config, name, half), plan, channels, scheme, samples, labelled)
        small = footprint(with_chunk(config, name, quarter), plan, channels, scheme, samples, labelled)
        slope = (large.peak - small.peak) / (half - quarter)
        line = small.peak - slope * (quarter - settings.chunk)
        rest = {other: task for other, task in config.auxiliary.items() if other != name}
        alone = config.model_copy(update={"auxiliary": rest})
        unseen = not rest and config.semisup is None  # nobody looks at unlabelled crops then
        floor = footprint(alone, plan, channels, scheme, labelled if unseen else samples, labelled)
        least = floor.peak + small.static - floor.static
        return replace(small, peak=max(round(line), least))
    # On the CPU whatever the device: there the layouts are known, and none of the GPU's libraries is needed.
    plan = replace(plan, device="cpu", steps=1, reasons={}, preparation=None)
    key = (config.model_dump_json(exclude=_BESIDE), repr(plan), channels, scheme, samples, labelled)
    if key not in _SIMULATED:
        _SIMULATED[key] = _simulate(config, plan, channels, scheme, samples, labelled)
    return _SIMULATED[key]


def share_of(config: Config, share: Share) -> tuple[int, int]:
    """Return how many samples of a step a process has, and how many of these are segmented."""
    sampling = config.sampling
    size = sampling.labelled + sampling.unlabelled
    last = sampling.labelled if sampling.mix == "fixed" else size
    return len(range(share.rank, size, share.world)), max(1, len(range(share.rank, last, share.world)))


def patches_of(settings: CpcSettings, plan: Plan, channels: int) -> int:
    """Return how many patches of a crop are encoded, at most."""
    return settings.build(Shapes(channels, plan.crop, plan.strides, (8,) * len(plan.strides), 8, 1, 2)).most


def with_chunk(config: Config, name: str, chunk: int) -> Config:
    """Return the configuration with that many patches encoded at a time by the task of that name."""
    task = config.auxiliary[name].model_copy(update={"chunk": chunk})
    return config.model_copy(update={"auxiliary": {**config.auxiliary, name: task}})


def _simulate(
    config: Config, plan: Plan, channels: int, scheme: LabelScheme, samples: int, labelled: int
) -> Footprint:
    with torch.device("meta"):
        network = building.build(config, plan, channels, scheme)
    fabric = make_fabric("cpu", plan.precision)
    tally = _Tally()
    with FakeTensorMode(), tally:
        for module in network.modules():
            for name, weight in list(module._parameters.items()):
                if weight is not None:
                    empty = torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype)
                    module._parameters[name] = nn.Parameter(empty)
        weights = sum(parameter.nbytes for parameter in network.parameters())
        loop = building.make_loop(config, plan, scheme, network, fabric, move=False)
        network.train()
        for task in building.tasks_of(network).values():
            task.assume_most()
        without = tally.live
        batch = _batch(building.tasks_of(network), plan, channels, scheme, samples, labelled)
        if loop.semisup is not None:
            loop.semisup.assume_most()
            count = samples - labelled
            guess = torch.empty(count, scheme.outputs, *plan.crop, dtype=torch.uint8)
            batch = replace(batch, weak=torch.empty(count, channels, *plan.crop), guess=guess)
        given = tally.live - without
        before: list[int] = []
        hook = register_optimizer_step_pre_hook(lambda *_: before.append(tally.peak))
        loop.step(0, batch)
        hook.remove()
        tensors = [value for state in loop.optimiser.state.values() for value in state.values()]
        states = sum(value.nbytes for value in tensors if isinstance(value, Tensor))
        averaged = 0 if loop.average is None else sum(tensor.nbytes for tensor in loop.average.weights.values())
    return Footprint(
        # The optimiser made its state at the end of this step; from the next one on it is there all the time.
        max(before[0] + states, tally.peak),
        weights,
        2 * weights + states + averaged,
        given,
        tally.convolutions,
        tally.moved,
        tally.operations,
    )


def _batch(
    tasks: Mapping[str, Task], plan: Plan, channels: int, scheme: LabelScheme, samples: int, labelled: int
) -> Batch:
    crop = plan.crop
    label = np.zeros((scheme.groups, _SMALL, _SMALL, _SMALL), np.uint8)
    extra = {}
    for task, branch in tasks.items():
        for name, array in branch.target(label, (1.0, 1.0, 1.0)).items():
            sides = crop if array.shape[-3:] == label.shape[1:] else array.shape[-3:]
            shape = (samples, *array.shape[:-3], *sides)
            extra[f"{task}.{name}"] = torch.empty(shape, dtype=getattr(torch, str(array.dtype)))
    mask = torch.empty(samples, 1, *crop, dtype=torch.uint8)
    return Batch(
        image=torch.empty(samples, channels, *crop),
        target=torch.empty(samples, scheme.groups, *crop, dtype=torch.uint8),
        weight=mask,
        keys=torch.empty(samples, dtype=torch.int64),
        cases=torch.empty(samples, dtype=torch.int64),
        segmented=labelled,
        extra=extra,
        inside=torch.empty_like(mask),
    )


def bytes_moved(prepare: Callable[[], Callable[[], object]]) -> int:
    """Return the bytes that a piece of work reads and writes, counted as those of a step: see `Footprint.moved`.

    Args:
        prepare: Makes the work's tensors, which is not counted, and returns the work.
    """
    tally = _Tally()
    with FakeTensorMode():
        work = prepare()
        with tally:
            work()
    return tally.moved


EMPTY = {torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default}  # only set aside


class _Tally(TorchDispatchMode):
    """Counts what operations make, until it is let go, and what they do. Reading a number gives 1."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.moved = self.operations = 0
        self.convolutions: Counter[ConvolutionCall] = Counter()
        self._seen: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.prim.device.default:  # asked for more often than all else together
            return args[0].fake_device
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].dtype.is_floating_point else 1
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        new = [self._note(tensor) for tensor in made]
        convolution = _convolution(func, args)
        if convolution is not None:
            self.convolutions[convolution] += 1
        elif (any(new) and not func.is_view and func not in EMPTY) or func._schema.is_mutable:
            self.operations += 1
            self.moved += sum(tensor.nbytes for tensor in made)
            # What is copied to is an argument that is not read.
            read = args[1:2] if func is torch.ops.aten.copy_.default else args
            self.moved += sum(leaf.nbytes for leaf in tree_leaves(read) if isinstance(leaf, Tensor))
        return out

    def _note(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return False
        size = storage.nbytes()
        self._seen[storage] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, size)
        return True

    def _drop(self, size: int) -> None:
        self.live -= size


def _convolution(func: Any, args: tuple[Any, ...]) -> ConvolutionCall | None:
    aten = torch.ops.aten
    if func is aten.convolution.default:
        x, weight, stride = args[0], args[1], args[3]
    elif func is aten.convolution_backward.default:
        x, weight, stride = args[1], args[2], args[4]
    else:
        return None
    kernel, step = tuple(weight.shape[2:]), tuple(stride)
    forward = func is aten.convolution.default
    return ConvolutionCall(
        weight.shape[1], weight.shape[0], kernel, step, x.shape[0], tuple(x.shape[2:]), x.dtype, forward
    )


__all__ = ["ConvolutionCall", "Footprint", "footprint", "patches_of", "share_of", "with_chunk"]
