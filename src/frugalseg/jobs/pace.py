"""How long a training step takes on this processor: its convolutions, timed one by one in small, and the rest.

Takes about half a second: the convolutions that a step spends most on are run on at most 32 cubed voxels, and what
a whole one takes follows from the voxels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from frugalseg.jobs.footprint import ConvolutionCall, Footprint, bytes_moved
from frugalseg.networks.normalisation import normalisation

VOXELS = 2 * 32**3
COVERED = 0.9  # of the arithmetic: the convolutions left out are taken to run as fast as these
MAP = (2, 8, 48, 48, 48)  # of the block whose other operations are timed
PER_OPERATION = 1e-5  # seconds that PyTorch needs to begin one


def step_seconds(found: Footprint, budget: float = 0.5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of a step on this processor, without the wait for samples.

    Args:
        found: The step.
        budget: Seconds after which no further convolution is timed.
        clock: Returns seconds.
    """
    work = {call: operations(call) * count for call, count in found.convolutions.items()}
    total, done, spent = sum(work.values()), 0.0, 0.0
    end = clock() + budget
    for call in sorted(work, key=lambda c: -work[c]):
        if done >= COVERED * total or (done > 0 and clock() > end):
            break
        done += work[call]
        spent += found.convolutions[call] * convolution_seconds(call, clock)
    convolutions = spent * total / done if done else 0.0
    return convolutions + found.moved * seconds_per_byte(clock) + found.operations * PER_OPERATION


def operations(call: ConvolutionCall) -> float:
    """Return the multiply-adds of a call; backward there are two convolutions."""
    places = math.prod(-(-side // step) for side, step in zip(call.sides, call.stride))
    return (1 if call.forward else 2) * call.batch * places * math.prod(call.kernel) * call.inputs * call.outputs


def convolution_seconds(call: ConvolutionCall, clock: Callable[[], float]) -> float:
    """Return the seconds of a call, from the best of four runs on fewer voxels."""
    sides = [min(side, 32) for side in call.sides]
    count = max(1, min(call.batch, VOXELS // math.prod(sides)))
    x = torch.randn(count, call.inputs, *sides).to(call.dtype, memory_format=torch.channels_last_3d)
    weight = torch.randn(call.outputs, call.inputs, *call.kernel)
    weight = weight.to(call.dtype, memory_format=torch.channels_last_3d)
    padding = [side // 2 for side in call.kernel]

    def forward() -> Tensor:
        return torch.conv3d(x, weight, None, call.stride, padding)

    run: Callable[[], object] = forward
    with torch.no_grad():
        if not call.forward:
            out = forward()

            def backward() -> object:
                masks = (True, True, False)
                return torch.ops.aten.convolution_backward(
                    out, x, weight, None, call.stride, padding, [1, 1, 1], False, [0, 0, 0], 1, masks
                )

            run = backward
        run()
        took = min(_timed(run, clock) for _ in range(4))
    return took * call.batch * math.prod(call.sides) / (count * math.prod(sides))


def seconds_per_byte(clock: Callable[[], float]) -> float:
    """Return how long the operations between a block's convolutions take for a byte that they read or write.

    That is normalisation, activation and sum, forward and backward, on maps in the order in which convolutions
    leave them, and as large as those of a step's first level: they lie in no cache.
    """
    took = min(_timed(block(), clock) for _ in range(4))
    return took / bytes_moved(block)


def block() -> Callable[[], object]:
    """Return what takes such a block's operations, its tensors made already."""
    norm = normalisation(8)
    x, gradient = (torch.ones(MAP).to(memory_format=torch.channels_last_3d) for _ in range(2))
    x.requires_grad_()

    def run() -> None:
        out = norm(x) + x
        out.backward(gradient)

    return run


def _timed(run: Callable[[], object], clock: Callable[[], float]) -> float:
    begun = clock()
    run()
    return clock() - begun
