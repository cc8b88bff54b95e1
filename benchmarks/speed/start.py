"""Start-up: the command's help, what a run is, what needs no PyTorch, importing; what an installation takes.

Each command in a fresh process, files warm; the shortest and the median of eleven.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distribution, requires
from pathlib import Path
from typing import Any

from benchmarks.speed.text import Table

from frugalseg.data.phantom import write_phantom

BIN = Path(sys.executable).parent
JOBS = [f"frugalseg.jobs.{job}" for job in ("evaluate", "predict", "train")]


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    table = Table("what", "median", "shortest", "to reach")
    kept: dict[str, Any] = {"commands": []}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        frugalseg = [sys.executable, "-c", "from frugalseg.cli import main; main()"]
        if (BIN / "frugalseg").exists():
            frugalseg = [str(BIN / "frugalseg")]
        data = Path(folder) / "data"
        write_phantom(data)
        short = ["--method", "encdec", "--steps", "1", "--store", str(Path(folder) / "store")]
        subprocess.run(
            [*frugalseg, "train", str(data), *short, "--out", str(run)],
            check=True,
            capture_output=True,
        )
        rows = [
            ("frugalseg --help", [*frugalseg, "--help"], "0.3 s"),
            ("frugalseg train --help", [*frugalseg, "train", "--help"], "-"),
            ("frugalseg info RUN", [*frugalseg, "info", str(run)], "1 s"),
            ("frugalseg check DATA", [*frugalseg, "check", str(data)], "-"),
            ("frugalseg prepare DATA, prepared before", [*frugalseg, "prepare", str(data), *short[-2:]], "-"),
            ("import frugalseg", [sys.executable, "-c", "import frugalseg"], "-"),
            *((f"import {job}", [sys.executable, "-c", f"import {job}"], "-") for job in JOBS),
            ("python -c pass", [sys.executable, "-c", "pass"], "-"),
        ]
        for name, command, aim in rows:
            times = []
            for _ in range(11):
                begun = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True, env={**os.environ, "COLUMNS": "100"})
                times.append(time.perf_counter() - begun)
            kept["commands"].append({"what": name, "seconds": [round(t, 3) for t in times]})
            table.add(name, f"{statistics.median(times):.3f} s", f"{min(times):.3f} s", aim)
    sizes = Table("installed", "MiB")
    needed = closure("frugalseg", extras=False)
    kept["install_mib"] = {name: round(size(name), 1) for name in sorted(needed, key=lambda n: -size(n))}
    for name in list(kept["install_mib"])[:8]:
        sizes.add(name, f"{kept['install_mib'][name]:.0f}")
    sizes.add(f"all {len(needed)} packages", f"{sum(kept['install_mib'].values()):.0f}")
    return (
        kept,
        table.markdown()
        + "\n"
        + sizes.markdown()
        + "\nThe extra `ray` adds 225 MiB (ray 2.60.0), `monai` 14 MiB.\n",
    )


def closure(name: str, extras: bool) -> set[str]:
    """Return a package and everything that it needs, by name."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        key = current.lower().replace("_", "-")
        if key in found:
            continue
        try:
            lines = requires(current) or []
        except ModuleNotFoundError:
            continue
        found.add(key)
        for line in lines:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def size(name: str) -> float:
    """Return a package's files in MiB."""
    files = distribution(name).files or []
    return (
        sum(path.stat().st_size for path in (Path(str(file.locate())) for file in files) if path.is_file()) / 2**20
    )
