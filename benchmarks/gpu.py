"""Training steps on a GPU: time of every method, beside MONAI's SegResNet, and memory beside what was reckoned.

Median of ten steps after four that are not counted, each waited for. "fp32" is what PyTorch does if nothing is
said: convolutions in TF32. Memory is the allocator's peak; what is reckoned is what the check before a run expects.

Command: python -m benchmarks.gpu OUT
Writes OUT/gpu.json and OUT/gpu.md.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed import step as steps
from benchmarks.speed.ours import SCHEME, loop_and_batch
from benchmarks.speed.text import Table

METHODS = ("encdec", "vaeseg", "boundseg", "cpcseg", "ssvaeseg", "sscpcseg")
SIZES: dict[str, dict[str, Any]] = {
    "hippocampus, width 32": {"crop": [40, 56, 40], "width": 32, "samples": 2, "channels": 1},
    "four channels, width 32": {"crop": [96, 96, 96], "width": 32, "samples": 2, "channels": 4},
}
WARM_UP, COUNTED = 4, 10
MIB = 2**20


def timed(make: Callable[[], Callable[[], Any]]) -> dict[str, float]:
    """Return the median step in seconds, and the peak of tensors and of what the allocator holds in bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    run = make()
    times = []
    for _ in range(WARM_UP + COUNTED):
        begun = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return {
        "seconds": statistics.median(times[WARM_UP:]),
        "first_seconds": times[0],
        "tensors_bytes": torch.cuda.max_memory_allocated(),
        "held_bytes": torch.cuda.max_memory_reserved(),
    }


def ours(method: str, size: dict[str, Any], precision: str, channels_last: bool = False) -> Callable[[], Any]:
    """Return a step of a shipped recipe; semi-supervised ones take half of the crops as unlabelled."""
    labelled = size["samples"] // 2 if method.startswith("ss") else size["samples"]
    loop, batch = loop_and_batch(
        method, size["crop"], size["width"], size["samples"], precision, size["channels"], labelled=labelled
    )
    if channels_last:
        loop.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    number = 0

    def run() -> None:
        nonlocal number
        number += 1 if number % 10 != 9 else 2  # without the steps that also measure gradient ratios
        loop.step(number, batch)

    return run


def reckoned(method: str, size: dict[str, Any], precision: Any) -> int:
    """Return the bytes of graphics memory that the check before a run expects."""
    from frugalseg.config import load_config
    from frugalseg.jobs import needs
    from frugalseg.jobs.footprint import footprint
    from frugalseg.networks.encoder import PUBLISHED_STRIDES
    from frugalseg.training.plan import Plan

    crop = size["crop"]
    plan = Plan(
        (crop[0], crop[1], crop[2]), PUBLISHED_STRIDES, ((3, 3, 3),) * 4, size["width"], (0,), "cuda", precision, 99
    )
    samples = size["samples"]
    labelled = samples // 2 if method.startswith("ss") else samples
    found = footprint(load_config(method), plan, size["channels"], SCHEME, samples, labelled)
    return needs.training(found, "cuda", 0).gpu


def main(out: Path) -> None:
    """Measure all rows."""
    rows: list[dict[str, Any]] = []
    table = Table("setting", "precision", "network", "step", "tensors", "held", "reckoned")

    def add(name: str, precision: str, who: str, make: Callable[[], Callable[[], Any]], expected: int = 0) -> None:
        try:
            found: dict[str, Any] = timed(make)
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        row = {"setting": name, "precision": precision, "network": who, "reckoned_bytes": expected, **found}
        rows.append(row)
        print(row, flush=True)
        if "error" not in row:
            table.add(
                name, precision, who, f"{1000 * row['seconds']:.1f} ms", f"{row['tensors_bytes'] / MIB:.0f} MiB",
                f"{row['held_bytes'] / MIB:.0f} MiB", f"{expected / MIB:.0f} MiB" if expected else "-",
            )  # fmt: skip
        facts = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.json").write_text(json.dumps(facts, indent=1) + "\n")
        (out / "gpu.md").write_text(table.markdown())

    for name, size in SIZES.items():
        for precision in ("bf16", "fp32"):
            for method in METHODS:
                expected = reckoned(method, size, precision)
                add(name, precision, method, partial(ours, method, size, precision), expected)
            add(name, precision, "encdec, channels-last", partial(ours, "encdec", size, precision, True))
            segresnet = partial(steps.segresnet, **size, precision=precision)
            add(name, precision, "SegResNet", segresnet)
            add(name, precision, "SegResNet, channels-last", partial(segresnet, channels_last=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
