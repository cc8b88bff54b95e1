"""What two gloo processes and one process have in common, in numbers: the table in results/distributed.md.

OMP_NUM_THREADS=1 PYTHONPATH=src:. python -m benchmarks.distributed > benchmarks/results/distributed.md
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from tests.ddp.pool import Pool
from tests.ddp.work import SCENARIOS, Places, Steps, difference, largest, make_run, take_steps

from frugalseg.config.load import load_config, recipe_names
from frugalseg.data.phantom import write_phantom

HEAD = """# Two processes against one

`python -m benchmarks.distributed` (from the repository's root, with `PYTHONPATH=src:.`): torch {torch}, gloo
over the loopback interface, CPU, fp32, three steps of each recipe on phantoms (crop 16^3, width 8, AdamW), all
samples of a step in one process or dealt out to two. Not measured on a GPU.

Largest absolute differences of any element. "gradient": of the first step, beside its largest element;
"logged": of any logged value in three steps, over 1 + its size; "weights": after three steps at a learning rate
of 1e-3, without those whose gradient is 0 but for rounding (below 1e-6: biases before a normalisation), which
Adam moves at random and the output does not depend on; "mean": their running mean; "output": sigmoid of the
logits on a new image; "ranks": weights of the two processes.

| recipe | a step's samples | gradient | largest | logged | weights | mean | output | ranks |
|---|---|---|---|---|---|---|---|---|"""


def row(method: str, name: str, alone: Steps, one: Steps, two: Steps) -> str:
    moved = [key for key, gradient in alone.gradients.items() if np.abs(gradient).max() > 1e-6]
    logged = max(
        abs(now[key] - then[key]) / (1 + abs(then[key]))
        for then, now in zip(alone.values, one.values, strict=True)
        for key in then
        if math.isfinite(then[key])
    )

    def over(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> str:
        both = [key for key in moved if key in first]
        return f"{difference({k: first[k] for k in both}, {k: second[k] for k in both}):.1e}" if both else ""

    cells = [
        method,
        name,
        f"{difference(alone.gradients, one.gradients):.1e}",
        f"{largest(alone.gradients):.2g}",
        f"{logged:.1e}",
        over(alone.weights, one.weights),
        over(alone.average, one.average),
        f"{difference(alone.probabilities, one.probabilities):.1e}",
        f"{difference(one.weights, two.weights):g}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    torch.set_num_threads(1)
    print(HEAD.format(torch=torch.__version__))
    pool = Pool()
    with tempfile.TemporaryDirectory() as folder:
        places = Places(Path(folder) / "data", Path(folder) / "store")
        write_phantom(places.data, cases=5, labelled=2, test=1, shape=(24, 24, 24), seed=1)
        make_run(places, Path(folder) / "none", "encdec", [])
        for method in [name for name in recipe_names() if "-" not in name and load_config(name).trained]:
            for name, overrides in SCENARIOS.items():
                alone = take_steps(places, method, overrides, 1)
                one, two = pool(take_steps, places, method, overrides, 2)
                print(row(method, name, alone, one, two), flush=True)
    pool.close()


if __name__ == "__main__":
    main()
