"""All six methods on real MRI, at equal labelled crops, steps and augmentation: does each learn, how do they score?

Hippocampus, 6 labels, three label sets (label seeds 100 to 102, weights and samples seeded alike). Scored on the 40
cases of dev_cases.json, which are in no budget and in no training set (benchmarks/development.py); the test cases
are not touched. Recipes `hippocampus-*`: two labelled crops a step each, the semi-supervised ones two unlabelled
ones more.

    .venv/bin/python -m benchmarks.screening DATA WORK .venv/bin/python -m benchmarks.screening DATA WORK --methods
    cpcseg,cpcseg-pooled --out benchmarks/results/pooled

One run after another, or --jobs at a time with their share of the cores. A run that is done is not run again.
Writes benchmarks/results/screening/: runs.json, cells.csv; prints the tables.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.development import development_view

POOLED = "-pooled"  # CPC's encodings from the crop's own map, an approximation (`objectives.cpc_pooled`)
METHODS = ("encdec", "vaeseg", "boundseg", "cpcseg", "cpcseg-pooled", "ssvaeseg", "sscpcseg", "sscpcseg-pooled")
SEEDS = (100, 101, 102)
RESULTS = Path(__file__).parent / "results" / "screening"
MEASURES = ("dice", "hd95_mm", "surface_dice")


def cell(data: Path, work: Path, method: str, seed: int, steps: int, threads: int) -> dict[str, Any]:
    """Train, predict and evaluate one run, each as a user does; return what came of it."""
    folder = work / f"{method}-{seed}"
    done = folder / "cell.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text())
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    recipe = f"hippocampus-{method.removesuffix(POOLED)}"
    more = ["--set", "auxiliary.cpc.encodings=pooled"] if method.endswith(POOLED) else []
    begun = time.monotonic()
    run(folder, threads, "train", data, "--method", recipe, "--labels", 6, "--seed", seed, "--label-seed", seed,
        "--steps", steps, "--out", folder / "run", "--store", work / "store",
        "--set", "training.workers=0", *more)  # fmt: skip
    trained = time.monotonic() - begun
    run(folder, threads, "predict", folder / "run", data, "--out", folder / "predictions")
    run(folder, threads, "evaluate", folder / "predictions", data, "--out", folder / "scores")
    record = json.loads((folder / "run" / "run.json").read_text())
    result = {
        "method": method,
        "seed": seed,
        "steps": steps,
        "seconds": round(trained, 1),
        "peak_gib": round(record["spent"][-1]["peak_bytes"] / 2**30, 2),
        "labelled": json.loads((folder / "run" / "split.json").read_text())["labelled"],
        "threads": threads,
        "machine": record["machine"],
        "curves": curves(folder / "run" / "metrics.csv"),
    }
    done.write_text(json.dumps(result, indent=1) + "\n")
    return result


def run(folder: Path, threads: int, *words: object) -> None:
    """Run a command of frugalseg, its output in a log."""
    with (folder / "log").open("a") as log:
        subprocess.run(
            [sys.executable, "-m", "frugalseg", *map(str, words)],
            stdout=log,
            stderr=log,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )


def curves(path: Path) -> dict[str, list[float]]:
    """Return the mean of every logged value over the first and the last twentieth of the steps."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    part = max(1, len(rows) // 20)
    found: dict[str, list[float]] = {}
    for name in rows[0]:
        ends = [
            [float(row[name]) for row in rows[place] if row[name]] for place in (slice(part), slice(-part, None))
        ]
        if name != "step" and all(ends):
            found[name] = [mean(end) for end in ends]
    return found


def scores(work: Path, cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return every case's scores, with method and seed."""
    rows = []
    for item in cells:
        with (work / f"{item['method']}-{item['seed']}" / "scores" / "cases.csv").open() as file:
            rows += [{"method": item["method"], "seed": str(item["seed"]), **row} for row in csv.DictReader(file)]
    return rows


def spread(values: list[float], digits: int) -> str:
    """Return mean and standard deviation over label sets."""
    sd = stdev(values) if len(values) > 1 else math.nan
    return f"{mean(values):.{digits}f} ± {sd:.{digits}f}"


def table(cells: list[dict[str, Any]], rows: list[dict[str, str]]) -> str:
    """Return the tables in Markdown."""
    structures = sorted({row["structure"] for row in rows} - {"any_foreground"})

    def over_seeds(method: str, structure: str | None, measure: str) -> list[float]:
        found = []
        for seed in sorted({row["seed"] for row in rows if row["method"] == method}):
            of = [row for row in rows if row["method"] == method and row["seed"] == seed]
            chosen = [r for r in of if (r["structure"] == structure if structure else r["structure"] in structures)]
            found.append(mean(float(row[measure]) for row in chosen))
        return found

    methods = [method for method in METHODS if any(item["method"] == method for item in cells)]
    head = ["method", "Dice, mean of both", *(f"Dice {s}" for s in structures), "HD95, mm", *(
        f"HD95 {s}" for s in structures), "surface Dice", "minutes", "GiB"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method in methods:
        mine = [item for item in cells if item["method"] == method]
        fields = [method]
        for measure, digits in (("dice", 3), ("hd95_mm", 2)):
            fields += [spread(over_seeds(method, s, measure), digits) for s in (None, *structures)]
        fields.append(spread(over_seeds(method, None, "surface_dice"), 3))
        fields += [f"{mean(i['seconds'] for i in mine) / 60:.1f}", f"{max(i['peak_gib'] for i in mine):.2f}"]
        lines.append("| " + " | ".join(fields) + " |")
    names = [name for name in dict.fromkeys(name for item in cells for name in item["curves"])
             if name.split(".")[0] in ("segmentation", "vae", "boundary", "cpc")]  # fmt: skip
    lines += ["", "| value, first → last twentieth of the steps | " + " | ".join(methods) + " |",
              "|---" * (len(methods) + 1) + "|"]  # fmt: skip
    for name in names:
        fields = [f"`{name}`"]
        for method in methods:
            ends = [item["curves"][name] for item in cells if item["method"] == method and name in item["curves"]]
            fields.append(" → ".join(f"{mean(e[k] for e in ends):.3f}" for k in (0, 1)) if ends else "")
        lines.append("| " + " | ".join(fields) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="Task04_Hippocampus, with dev_cases.json")
    parser.add_argument("work", type=Path, help="a folder for runs, predictions and the store")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with its share of the cores")
    parser.add_argument("--methods", default=",".join(m for m in METHODS if not m.endswith(POOLED)))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    view = development_view(options.data, options.work / "data")
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    asked = [(method, int(seed)) for seed in options.seeds.split(",") for method in options.methods.split(",")]

    def one(method: str, seed: int) -> dict[str, Any]:
        item = cell(view, options.work, method, seed, options.steps, threads)
        print(method, seed, item["seconds"], "s", item["peak_gib"], "GiB", flush=True)
        return item

    with ThreadPoolExecutor(options.jobs) as pool:
        cells = list(pool.map(lambda arguments: one(*arguments), asked))
    cells.sort(key=lambda item: (METHODS.index(item["method"]), item["seed"]))
    rows = scores(options.work, cells)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "runs.json").write_text(json.dumps(cells, indent=1) + "\n")
    with (options.out / "cells.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(table(cells, rows))


if __name__ == "__main__":
    main()
