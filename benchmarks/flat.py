"""Peak memory of `prepare` and of `train` (20 steps) with 10, 100 and 1,000 cases: it should not grow with them.

Phantoms of 32 cubed, each of another content; every command has a process of its own, whose peak (VmHWM) is read at
its end.

Command: .venv/bin/python -m benchmarks.flat WORK [COUNT ...]
Writes benchmarks/results/preflight/flat.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "preflight"
COUNTS = (10, 100, 1000)


def peak(job: str, data: str, work: str, workers: str) -> int:
    """Run a job in this process; return its largest resident memory in bytes."""
    from benchmarks.preflight import high_water

    if job == "prepare":
        from frugalseg.jobs.prepare import prepare

        prepare(Path(data), Path(work) / "store", workers=2)
    else:
        from frugalseg.jobs.train import train

        settings = ["training.steps=20", "crop=[16,16,16]", f"training.workers={workers}"]
        out = Path(work) / f"run-{workers}"
        train(Path(data), out, "ssvaeseg", overrides=settings, store=Path(work) / "store")
    return high_water()


def main(work: Path, counts: list[int]) -> None:
    """Measure each number of cases."""
    from frugalseg.data.phantom import write_phantom

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    jobs = [("prepare", "0"), ("train", "0"), ("train", "2")]
    lines = [
        "# Peak memory by number of cases, MiB\n",
        "`.venv/bin/python -m benchmarks.flat WORK`. Phantoms of 32 x 32 x 32, half of them labelled; `ssvaeseg`, "
        "20 steps. VmHWM of the main process.\n",
        "| cases | prepare, 2 at a time | train, no loader processes | train, 2 loader processes |",
        "|---|---|---|---|",
    ]
    for count in counts:
        place = work / str(count)
        if not (place / "data" / "dataset.json").exists():
            write_phantom(place / "data", cases=count, labelled=count // 2, test=1, shape=(32, 32, 32))
        row = []
        for job, workers in jobs:
            command = [
                sys.executable,
                "-m",
                "benchmarks.flat",
                "--one",
                job,
                str(place / "data"),
                str(place),
                workers,
            ]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            row.append(f"{int(done.stdout.splitlines()[-1]) / 2**20:.0f}")
            print(count, job, workers, row[-1], flush=True)
        lines.append(f"| {count} | {' | '.join(row)} |")
        (RESULTS / "flat.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        print(peak(*sys.argv[2:]))
    else:
        main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]] or list(COUNTS))
