"""Labels predicted in bf16 against those in fp32, by the same trained model: Dice of one against the other.

    .venv/bin/python -m benchmarks.precision RUN DATA

No label is read. Writes benchmarks/results/speed/precision.json and precision.md.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from frugalseg.evaluation import dice
from frugalseg.inference.inputs import find_inputs
from frugalseg.inference.window import class_indices
from frugalseg.jobs.ensemble import Ensemble
from frugalseg.jobs.machine import describe
from frugalseg.jobs.model import load_model

RESULTS = Path(__file__).parent / "results" / "speed"


def labels(model: Ensemble, prepared: Any) -> np.ndarray[Any, Any]:
    """Return a case's labels on the cut grid."""
    scheme, shape = model.scheme, prepared[0].placement.cut_grid.shape
    found = np.zeros(shape, np.int32)
    with torch.inference_mode():
        for rows, block in model.blocks(prepared, False):
            found[rows] = scheme.decode(class_indices(block, scheme.groups, scheme.classes).numpy())
    return found


def main() -> None:
    """Predict every test image twice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    trained = load_model(options.run, device="cpu")
    kinds = {
        kind: Ensemble((replace(trained, plan=replace(trained.plan, precision=kind)),)) for kind in ("fp32", "bf16")
    }
    rows: list[dict[str, Any]] = []
    seconds = dict.fromkeys(kinds, 0.0)
    for item in find_inputs([options.data], {}, trained.channels):
        prepared = kinds["fp32"].prepare(item)
        found = {}
        for kind, model in kinds.items():
            begun = time.perf_counter()
            found[kind] = labels(model, prepared)
            seconds[kind] += time.perf_counter() - begun
        same = float((found["fp32"] == found["bf16"]).mean())
        for structure in trained.scheme.structures:
            masks = [np.asarray(trained.scheme.mask(found[kind], structure)) for kind in ("fp32", "bf16")]
            rows.append({"case": item.name, "structure": structure, "dice": dice(*masks), "voxels_alike": same})
    facts = {
        "method": trained.config.method,
        "step": trained.step,
        "seconds": seconds,
        "machine": describe("cpu"),
        "rows": rows,
    }
    (RESULTS / "precision.json").write_text(json.dumps(facts, indent=1) + "\n")
    values = [row["dice"] for row in rows]
    text = (
        "# Labels predicted in bf16 against those in fp32, by one trained model\n\n"
        f"`.venv/bin/python -m benchmarks.precision RUN DATA`: {trained.config.method}, {trained.step} steps, "
        f"{len(rows) // len(trained.scheme.structures)} cases.\n\n"
        "| structure | mean Dice of bf16 against fp32 | least |\n|---|---|---|\n"
    )
    for structure in trained.scheme.structures:
        own = [row["dice"] for row in rows if row["structure"] == structure]
        text += f"| {structure} | {mean(own):.4f} | {min(own):.4f} |\n"
    text += f"\nOver all {mean(values):.4f}; {mean(row['voxels_alike'] for row in rows):.4%} of the voxels alike. "
    text += f"{seconds['fp32']:.1f} s in fp32, {seconds['bf16']:.1f} s in bf16.\n"
    (RESULTS / "precision.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
