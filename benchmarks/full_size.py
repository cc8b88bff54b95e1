"""One training step of each full-size recipe (base 32, four channels, one crop): time and peak memory.

The paper's sizes: 160 x 192 x 128, with contrastive coding 144 x 144 x 128 and 448 patches, encoded in chunks with
recomputation. Random voxels: a step costs the same whatever they show. Each recipe runs in a process of its own,
whose peak is the operating system's (ru_maxrss).

Command: .venv/bin/python -m benchmarks.full_size [--precision fp32|bf16] [RECIPE ...]
Writes benchmarks/results/full_size/RECIPE-PRECISION.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

RECIPES = [f"brats-{kind}" for kind in ("encdec", "vaeseg", "boundseg", "cpcseg", "ssvaeseg", "sscpcseg")]
RESULTS = Path(__file__).parent / "results" / "full_size"
CHUNK = 16  # patches at a time


def measure(name: str, precision: str, steps: int = 2) -> dict[str, Any]:
    """Take steps of a recipe on one labelled crop each, and report them; the first one is the slowest."""
    import torch

    from frugalseg.config import load_config
    from frugalseg.data.scheme import LabelScheme
    from frugalseg.jobs import build as building
    from frugalseg.jobs.machine import describe, peak_memory_bytes
    from frugalseg.networks.encoder import PUBLISHED_STRIDES
    from frugalseg.objectives import Batch, SegmentationLoss
    from frugalseg.training.launch import make_fabric
    from frugalseg.training.loop import Loop
    from frugalseg.training.optimiser import make_optimiser
    from frugalseg.training.plan import Plan
    from frugalseg.training.total import Objectives

    chunk = [f"auxiliary.cpc.chunk={CHUNK}"] if "cpc" in name else []
    config = load_config(name, ["training.epochs=null", "training.schedule_unit=step", "training.steps=2", *chunk])
    assert config.crop is not None
    labels = {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3}
    scheme = LabelScheme.from_json({"labels": labels, "regions": {"WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}})
    plan = Plan(config.crop, PUBLISHED_STRIDES, ((3, 3, 3),) * 4, 32, (0, 1, 2), "cpu", precision, 2)
    torch.manual_seed(0)
    network = building.build(config, plan, 4, scheme)
    fabric = make_fabric("cpu", precision)
    wrapped, optimiser = fabric.setup(network, make_optimiser(config.training, network))
    tasks = building.tasks_of(network)
    loss = SegmentationLoss(config.segmentation, scheme.groups, scheme.classes)
    weights = {task: settings.weight for task, settings in config.auxiliary.items()}
    loop = Loop(fabric, wrapped, network.encoder, Objectives(loss, tasks, weights), optimiser, config.training, 2,
                scheme.structures, ("random",), None, lambda step: None)  # fmt: skip
    network.train()
    values, seconds = {}, []
    for step in range(steps):
        target = torch.randint(0, 2, (1, 3, *config.crop), dtype=torch.uint8)
        extra = {}
        for task, branch in tasks.items():
            for key, array in branch.target(target[0].numpy(), (1.0, 1.0, 1.0)).items():
                extra[f"{task}.{key}"] = torch.from_numpy(array)[None]
        weight = torch.ones(1, 1, *config.crop, dtype=torch.uint8)
        image, key, case = torch.randn(1, 4, *config.crop), torch.tensor([step]), torch.zeros(1).long()
        batch = Batch(image, target, weight, key, case, 1, extra, weight)
        begun = time.perf_counter()
        values = loop.step(step, batch)
        seconds.append(round(time.perf_counter() - begun, 1))
    return {
        "recipe": name,
        "precision": precision,
        "crop": list(config.crop),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "patches_at_a_time": CHUNK if chunk else None,
        "seconds_of_each_step": seconds,
        "peak_gib": round(peak_memory_bytes() / 2**30, 2),
        "values": {key: round(value, 5) for key, value in values.items() if value == value},
        "machine": describe("cpu"),
    }


def main() -> None:
    """Measure the recipes one after another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in options.recipes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result = pool.apply(measure, (name, options.precision, options.steps))
        (RESULTS / f"{name}-{options.precision}.json").write_text(json.dumps(result, indent=1) + "\n")
        print(
            name,
            options.precision,
            result["seconds_of_each_step"],
            "s",
            result["peak_gib"],
            "GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
