"""The cost of a step, timed on a network that is thrown away afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from frugalseg.objectives import Batch
from frugalseg.training.loop import Loop


@dataclass(frozen=True)
class StepTimes:
    """Seconds that making a step's samples takes in one process, and seconds of the step itself."""

    making: float
    computing: float

    def seconds(self, workers: int, shared: bool) -> float:
        """Return what a step takes where so many loader processes make samples meanwhile.

        Args:
            workers: Loader processes; without any, samples are made between the steps.
            shared: Whether the step has the same processors; then all that is gained is that they are several.
        """
        if workers == 0:
            return self.making + self.computing
        apart = self.making / workers
        return self.computing + apart if shared else max(self.computing, apart)


def warm_up(loop: Loop, batches: Iterator[Batch], steps: int) -> StepTimes:
    """Return what a step takes (medians of `steps` after one that does not count; fewer if batches end).

    The network and the optimiser are changed by this; make new ones afterwards.

    Args:
        loop: Takes the steps.
        batches: Made in this process, one when it is asked for.
        steps: How many count.
    """
    loop.network.train()
    making: list[float] = []
    computing: list[float] = []
    for number in range(steps + 1):
        begun = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        made = time.perf_counter()
        loop.step(number, batch)
        if loop.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        making.append(made - begun)
        computing.append(time.perf_counter() - made)
    return StepTimes(_median(making), _median(computing))


def _median(times: list[float]) -> float:
    counted = sorted(times[1:] or times)
    return counted[len(counted) // 2]
