"""The cost of a step, timed on a network that is thrown away afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch

from frugalseg.objectives import Batch
from frugalseg.training.loop import Loop


def warm_up(loop: Loop, batches: Iterable[Batch], steps: int) -> float:
    """Return the seconds that a step takes (median of `steps` after one that does not count; fewer if batches end).

    The network and the optimiser are changed by this; make new ones afterwards.
    """
    loop.network.train()
    times = []
    begun = time.perf_counter()
    for number, batch in enumerate(batches):
        loop.step(number, batch)
        if loop.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        if number == steps:
            break
    counted = sorted(times[1:] or times)
    return counted[len(counted) // 2]
