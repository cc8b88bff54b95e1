"""A step of each method against what its convolutions must cost.

The floor is the time of the step's convolutions alone, forward and backward, each as the step calls it, on maps in
the fastest order: `jobs.pace` times them one by one. What a method adds to EncDec is set against what its further
convolutions add to EncDec's.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from benchmarks.speed.rounds import Contender, alternate
from benchmarks.speed.text import Table

METHODS = ("encdec", "vaeseg", "boundseg", "cpcseg", "ssvaeseg", "sscpcseg")
CROP, WIDTH, CHANNELS, SAMPLES = [40, 56, 40], 8, 1, 4


def step(method: str, precision: str) -> Any:
    """Return a step of a method: four crops, of which semi-supervised methods use two as unlabelled."""
    from benchmarks.speed.ours import loop_and_batch

    labelled = SAMPLES // 2 if method.startswith("ss") else SAMPLES
    loop, batch = loop_and_batch(method, CROP, WIDTH, SAMPLES, precision, CHANNELS, labelled=labelled)
    number = 0

    def run() -> None:
        nonlocal number
        number += 1
        if number % 10 == 0:
            number += 1  # the step that also measures gradient ratios
        loop.step(number, batch)

    return run


def expect_negatives() -> None:
    """Let a simulated step encode as many patches as one does on average, not as many as it can."""
    from frugalseg.objectives.cpc_roles import Needed

    original = Needed.__init__

    def on_average(self: Needed, *arguments: Any) -> None:
        original(self, *arguments)
        others = len(set(self.candidates) - set(self.always))
        drawn = others * min(1.0, self.negatives / max(1, len(self.candidates)))
        self.perhaps = self.perhaps[: round(drawn)]

    Needed.__init__ = on_average  # type: ignore[method-assign]


def floor(method: str, precision: str) -> Any:
    """Return a run of nothing but the step's convolutions, and their number of multiply-adds."""
    from benchmarks.speed.ours import SCHEME

    from frugalseg.config import load_config
    from frugalseg.jobs.footprint import footprint
    from frugalseg.jobs.pace import convolution_seconds, operations
    from frugalseg.networks.encoder import PUBLISHED_STRIDES
    from frugalseg.training.plan import Plan

    expect_negatives()  # in a process of this contender's own
    kind: Any = precision
    plan = Plan((40, 56, 40), PUBLISHED_STRIDES, ((3, 3, 3),) * 4, WIDTH, (0,), "cpu", kind, 1000)
    labelled = SAMPLES // 2 if method.startswith("ss") else SAMPLES
    found = footprint(load_config(method), plan, CHANNELS, SCHEME, SAMPLES, labelled)
    work = sum(operations(call) * count for call, count in found.convolutions.items())

    taken: list[float] = []

    def run() -> dict[str, Any]:
        calls = found.convolutions.items()
        taken.append(sum(count * convolution_seconds(call, time.perf_counter) for call, count in calls))
        seconds = np.median(taken[1:] or taken)  # of the rounds that the steps were timed in
        return {"seconds": seconds, "gmac": np.array(work / 1e9), "moved": np.array(found.moved / 2**20)}

    return run


COLUMNS = (
    "method", "precision", "step", "multiply-adds", "convolutions alone", "added to EncDec", "their convolutions",
    "EncDec + convolutions", "step / that",
)  # fmt: skip


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    here = "benchmarks.speed.methods"
    rows: list[dict[str, Any]] = []
    table = Table(*COLUMNS)
    for precision in ("fp32", "bf16"):
        results: dict[str, Any] = {}
        contenders = []
        for method in METHODS:
            arguments = {"method": method, "precision": precision}
            contenders.append(Contender(method, f"{here}:step", arguments))
            contenders.append(Contender(f"{method} floor", f"{here}:floor", arguments))
        found = alternate(contenders, repeats=7, agree=results.update)
        least = {method: float(results[f"{method} floor"]["seconds"]) for method in METHODS}
        base = found["encdec"].median
        for method in METHODS:
            own, gmac = found[method].median, float(results[f"{method} floor"]["gmac"])
            more = least[method] - least["encdec"]
            rows.append(
                {
                    "method": method,
                    "precision": precision,
                    "step": found[method].to_json(),
                    "convolutions_seconds": least[method],
                    "gmac": gmac,
                }
            )
            beside = ("-",) * 4
            if method != "encdec":
                whole = base + more
                beside = f"{own - base:.3f} s", f"{more:.3f} s", f"{whole:.3f} s", f"{own / whole:.2f}"
            table.add(method, precision, f"{own:.3f} s", f"{gmac:.1f} G", f"{least[method]:.3f} s", *beside)
    return {"rows": rows}, table.markdown()
