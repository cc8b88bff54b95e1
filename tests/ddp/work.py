"""What a process does in the tests of distributed runs; called in the two processes of the pool, and alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from frugalseg.config import load_config
from frugalseg.data.budget import make_split
from frugalseg.data.manifest import read_manifest
from frugalseg.data.preprocess import Preparation
from frugalseg.errors import TrainingError
from frugalseg.jobs.first_plan import first_plan, order
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.run import Run
from frugalseg.jobs.show import mute
from frugalseg.objectives import Batch
from frugalseg.training.launch import make_fabric
from frugalseg.training.loop import Loop
from frugalseg.training.processes import Processes

# Small enough for seconds, with everything that a run has. No clipping, which would hide a gradient's scale.
TINY = ("crop=[16,16,16]", "network.width=8", "network.blocks=[1,1,1]", "training.clip=null", "training.workers=0",
        "training.device=cpu", "training.precision=fp32")  # fmt: skip
TINY_CPC = ("auxiliary.cpc.patch=[8,8,8]", "auxiliary.cpc.blocks=1")

Arrays = dict[str, NDArray[np.float32]]


# How a step's samples fall on two processes.
SCENARIOS: dict[str, list[str]] = {
    "even": [],
    "the second process has no labelled sample": ["sampling.labelled=1", "sampling.unlabelled=2"],
    "drawn over all volumes, 3 samples and 2, Dice over the batch, running mean of weights": [
        "sampling.mix=published",
        "sampling.labelled=3",
        "sampling.unlabelled=2",
        "segmentation.batch_dice=true",
        "training.average=0.9",
    ],
}


class Places(NamedTuple):
    data: Path
    store: Path


class Steps(NamedTuple):
    """What some steps left: logged values of each, the first one's gradients, the last one's weights."""

    values: list[dict[str, float]]
    gradients: Arrays
    weights: Arrays
    average: Arrays
    probabilities: Arrays
    labelled: list[list[bool]]


def make_run(
    places: Places,
    folder: Path,
    method: str,
    overrides: Sequence[str],
    processes: Processes | None = None,
    validation: int = 0,
) -> Run:
    config = load_config(method, TINY)
    if "cpc" in config.auxiliary:
        overrides = [*TINY_CPC, *overrides]
    config = load_config(method, [*TINY, "training.steps=4", *overrides])
    manifest = read_manifest(places.data)
    split = make_split(manifest, None, 0, None, validation)
    cases = order(prepared(manifest, split.readable, places.store, Preparation(), 1), split)
    config, plan = first_plan(config, manifest, cases, split)
    return Run(folder, config, plan, manifest, split, cases, processes)


def take_steps(places: Places, method: str, overrides: Sequence[str], world: int, count: int = 3) -> Steps:
    """Take a few steps of a method, in this process alone or with the others of the pool."""
    mute()
    with Processes(make_fabric("cpu", "fp32", world)) as processes:
        run = make_run(places, Path("nowhere"), method, overrides, processes)
        network = run.network()
        loop = run.loop(network)
        loop.network.train()
        values, labelled, gradients = [], [], {}
        for step, batch in enumerate(run.batches(network, 0, count, 0)):
            labelled.append([bool(weight.any()) for weight in batch.weight])
            values.append(loop.step(step, batch))
            if step == 0:
                gradients = arrays({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
        average = loop.average.weights if loop.average is not None else {}
        with torch.no_grad():
            logits = network.eval().segment(seeded(7, 1, 4, 16, 16, 16).float())
        shown = {"probabilities": logits.sigmoid()}
        return Steps(values, gradients, arrays(network.state_dict()), arrays(average), arrays(shown), labelled)


def fit(
    places: Places, folder: Path, world: int, stop_at: int | None, overrides: Sequence[str]
) -> tuple[int, int | None]:
    """Train a whole run, with one validation case; return its last step and the signal that stopped it.

    At step `stop_at` (from 0) the last process, and only this one, gets a SIGTERM.
    """
    mute()
    original = Loop.step

    def killed(self: Loop, step: int, batch: Batch) -> dict[str, float]:
        if step == stop_at and self.fabric.global_rank == world - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, step, batch)

    Loop.step = killed  # type: ignore[method-assign]
    try:
        with Processes(make_fabric("cpu", "fp32", world)) as processes:
            run = make_run(places, folder, "sscpcseg", overrides, processes, validation=1)
            if processes.first and not folder.exists():
                run.record()
            processes.wait()
            result = run.fit()
            return result.step, result.signal
    finally:
        Loop.step = original  # type: ignore[method-assign]


def spoilt_step(places: Places) -> str:
    """Take a step in which one process's image has a voxel that is no number; return the error."""
    mute()
    with Processes(make_fabric("cpu", "fp32", 2)) as processes:
        run = make_run(places, Path("nowhere"), "sscpcseg", [], processes)
        network = run.network()
        loop = run.loop(network)
        batch = next(iter(run.batches(network, 0, 1, 0)))
        if not processes.first:
            batch.image[0, 0, 3, 3, 3] = float("nan")
        try:
            loop.step(0, batch)
        except TrainingError as error:
            return str(error)
        return "no error"


def arrays(tensors: dict[str, Any]) -> Arrays:
    return {name: tensor.detach().numpy().copy() for name, tensor in tensors.items()}


def largest(arrays_: Arrays) -> float:
    return max(float(np.abs(array).max()) for array in arrays_.values())


def difference(one: Arrays, two: Arrays) -> float:
    """Largest absolute difference of any element."""
    assert one.keys() == two.keys()
    return largest({name: one[name] - two[name] for name in one})


def seeded(rank: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
