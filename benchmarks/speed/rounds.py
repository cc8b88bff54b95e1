"""Run contenders in turns, so that whatever else the machine does meets all of them alike, and collect figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Contender:
    """A function ("module:function") that sets up and returns what is timed, with its arguments."""

    name: str
    what: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """What a contender took. Seconds are those of the repeats, without the first run."""

    name: str
    first: float
    seconds: tuple[float, ...]
    ready_bytes: int
    peak_bytes: int

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, times rounded to 0.1 ms."""
        return {
            "name": self.name,
            "median_seconds": round(self.median, 4),
            "seconds": [round(value, 4) for value in self.seconds],
            "first_seconds": round(self.first, 4),
            "ready_mib": round(self.ready_bytes / 2**20),
            "peak_mib": round(self.peak_bytes / 2**20),
        }


class _Process:
    def __init__(self, contender: Contender, out: Path, threads: int) -> None:
        self.contender, self.out = contender, out
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "benchmarks.speed.contender", contender.what]
        self.child = subprocess.Popen(
            [*command, json.dumps(contender.arguments), str(out)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip

    def answer(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"{self.contender.name} ended with status {self.child.wait()}")
        return dict(json.loads(line))

    def tell(self, word: str) -> dict[str, Any]:
        assert self.child.stdin is not None
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()
        return self.answer()


def alternate(
    contenders: Sequence[Contender],
    repeats: int = 5,
    least_seconds: float = 0.0,
    threads: int | None = None,
    agree: Callable[[dict[str, Arrays]], None] | None = None,
) -> dict[str, Figures]:
    """Set all contenders up, one after another, then time them in turns; return their figures by name.

    Args:
        contenders: What to run.
        repeats: Timed runs of each, at least.
        least_seconds: Go on until the slowest has been timed for so long in all (at most 200 rounds).
        threads: Of each process; by default as many as there are cores.
        agree: Looks at what each returned in its last run, and raises if the results disagree.
    """
    count = threads or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="frugalseg-bench-") as folder:
        processes = [
            _Process(item, Path(folder) / f"{number}.npz", count) for number, item in enumerate(contenders)
        ]
        try:
            first = [process.answer()["first"] for process in processes]
            times: list[list[float]] = [[] for _ in processes]
            begun = time.monotonic()
            for number in range(200):
                if number >= repeats and time.monotonic() - begun >= least_seconds:
                    break
                for process, taken in zip(processes, times):
                    taken.append(process.tell("go")["seconds"])
            found = {}
            results = {}
            for process, start, taken in zip(processes, first, times):
                ends = process.tell("stop")
                name = process.contender.name
                found[name] = Figures(name, start, tuple(taken), ends["ready_bytes"], ends["peak_bytes"])
                with np.load(process.out) as content:
                    results[name] = {key: content[key] for key in content.files}
        finally:
            for process in processes:
                process.child.kill()
                process.child.wait()
    if agree is not None:
        agree(results)
    return found
