"""Our loop on random voxels, as `frugalseg train` sets it up, for whoever times steps."""

from __future__ import annotations

from typing import Any

import torch

from frugalseg.config import load_config
from frugalseg.data.scheme import LabelScheme
from frugalseg.jobs import build as building
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch
from frugalseg.training.allocator import keep_freed_memory
from frugalseg.training.launch import make_fabric
from frugalseg.training.loader import to_device
from frugalseg.training.loop import Loop
from frugalseg.training.plan import Plan

SCHEME = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 2}})


def loop_and_batch(
    method: str,
    crop: list[int],
    width: int,
    samples: int,
    precision: str,
    channels: int = 1,
    overrides: tuple[str, ...] = (),
    labelled: int | None = None,
) -> tuple[Loop, Batch]:
    """Return a loop of a shipped recipe, and a batch of crops, of which `labelled` (all by default) have labels."""
    keep_freed_memory()
    torch.manual_seed(0)
    config = load_config(method, list(overrides))
    kind: Any = precision
    sides = (crop[0], crop[1], crop[2])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plan = Plan(sides, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, width, (0,), device, kind, 1000)
    network = building.build(config, plan, channels, SCHEME)
    loop = building.make_loop(config, plan, SCHEME, network, make_fabric(device, plan.precision))
    loop.case_names = ("random",)
    network.train()
    target = torch.randint(0, 3, (samples, SCHEME.groups, *sides), dtype=torch.uint8)
    extra = {}
    for name, task in building.tasks_of(network).items():
        for key, array in task.target(target[0].numpy(), (1.0, 1.0, 1.0)).items():
            extra[f"{name}.{key}"] = torch.stack([torch.from_numpy(array)] * samples)
    ones = torch.ones(samples, 1, *sides, dtype=torch.uint8)
    cases = torch.zeros(samples, dtype=torch.int64)
    keys = torch.arange(samples)
    image = torch.randn(samples, channels, *sides)
    batch = Batch(image, target, ones, keys, cases, samples if labelled is None else labelled, extra, ones)
    return loop, to_device(batch, loop.fabric.device)
