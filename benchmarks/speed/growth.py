"""Time and memory as the work grows: twice the crop's side, volume, classes or cases; the slope to be expected.

A slope is the logarithm to base 2 of the ratio: 1 where twice as much takes twice as long.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from benchmarks.speed.rounds import Contender, Figures, alternate
from benchmarks.speed.text import Table


def predict(side: int, classes: int) -> Any:
    """Predict a volume of 2 side x 2 side x side by windows of 48 cubed and keep the classes."""
    import torch
    from benchmarks.speed.ours import loop_and_batch

    from frugalseg.inference.window import class_indices, probabilities, slabs, thin_axis

    loop, _ = loop_and_batch("encdec", [32, 32, 32], 8, 1, "bf16", 1)
    net: Any = getattr(loop.network, "module", loop.network)
    net.eval()
    net.head = torch.nn.Conv3d(net.head.in_channels, classes, 1)
    image = torch.randn(1, 2 * side, 2 * side, side)

    def once(windows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return probabilities(net.segment(windows), 1, classes)

    def run() -> dict[str, Any]:
        axis = thin_axis(image.shape[1:], (48, 48, 48))
        for part in slabs(image, (48, 48, 48), once, [-9.0], axis, 0.25, 1):
            class_indices(part, 1, classes)
        return {}

    return run


def score(side: int) -> Any:
    """Score two balls in a volume of a side."""
    from frugalseg.evaluation import score_case
    from frugalseg.geometry import Grid

    places = np.meshgrid(*(np.arange(side),) * 3, indexing="ij", sparse=True)
    radius = np.sqrt(sum((axis - side / 2) ** 2 for axis in places))
    truth, guess = radius < side / 3, np.roll(radius < side / 3, 2, 0)
    grid = Grid((side, side, side), np.eye(4))

    def run() -> dict[str, Any]:
        score_case("a", {"b": truth}, {"b": guess}, grid, 1.0)
        return {}

    return run


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    here = "benchmarks.speed.growth"
    ours, cut = "benchmarks.speed.step:ours", f"{here}:predict"

    def step(side: int) -> dict[str, Any]:
        return {"width": 8, "samples": 1, "channels": 1, "precision": "bf16", "crop": [side] * 3}

    def volume(side: int, classes: int) -> dict[str, Any]:
        return {"side": side, "classes": classes}

    rows: list[tuple[str, str, dict[str, Any], dict[str, Any], float, float | None]] = [
        ("training step, crop 32 to 64", ours, step(32), step(64), 3, 3),
        ("training step, crop 64 to 128", ours, step(64), step(128), 3, 3),
        ("prediction, volume 128^2 x 64 to 256^2 x 128", cut, volume(64, 3), volume(128, 3), 3, 2),
        ("prediction, 8 to 16 classes", cut, volume(64, 8), volume(64, 16), 0.2, 1),
        ("evaluation, volume 128^3 to 256^3", f"{here}:score", {"side": 128}, {"side": 256}, 3, 3),
    ]
    table = Table(
        "what doubles", "time", "slope", "expected, at most", "memory on top", "slope", "expected, at most"
    )
    kept = []
    for name, what, small, large, slope, memory in rows:
        found = alternate([Contender("small", what, small), Contender("large", what, large)], repeats=5)
        a, b = found["small"], found["large"]
        extra = [top(item) for item in (a, b)]
        kept.append({"what": name, "small": a.to_json(), "large": b.to_json()})
        times, memories = (a.median, b.median), extra
        table.add(
            name,
            f"{times[0]:.3f} to {times[1]:.3f} s",
            f"{math.log2(times[1] / times[0]):.1f}",
            f"{slope:g}",
            f"{memories[0]:.0f} to {memories[1]:.0f} MiB",
            f"{math.log2(memories[1] / memories[0]):.1f}",
            "-" if memory is None else f"{memory:g}",
        )
    note = "\nMore cases: see [patches.md](patches.md); `prepare` and `train`: [flat.md](../preflight/flat.md).\n"
    return {"rows": kept}, table.markdown() + note


def top(item: Figures) -> float:
    """Return the memory of a run in MiB, beyond what a process with PyTorch and our code holds (about 400)."""
    return max(1.0, item.peak_bytes / 2**20 - 400)
