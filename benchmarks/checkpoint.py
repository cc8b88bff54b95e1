"""How long a checkpoint of the full-size ssCPCseg takes, and what share of training that is.

Base width 32, 4 channels, contrastive coding on 144 x 144 x 128 (448 patches): the paper's size. A checkpoint
is due every 60 s, or after a step that takes longer.

Command: .venv/bin/python benchmarks/checkpoint.py [FOLDER ON THE DISK TO MEASURE]
Writes benchmarks/results/checkpoint.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from frugalseg.jobs.machine import describe
from frugalseg.networks import NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import CpcSettings, Shapes
from frugalseg.training.settings import TrainingSettings
from frugalseg.training.state import read_checkpoint, save_checkpoint

REPEATS = 5
INTERVAL = TrainingSettings().checkpoint_seconds


def main() -> None:
    kernels = ((3, 3, 3),) * 4
    shapes = Shapes(4, (144, 144, 128), PUBLISHED_STRIDES, (32, 64, 128, 256), 32, 3, 2, kernels)
    cpc = CpcSettings(patch=(32, 32, 32), axis="z").build(shapes)
    network = build_network(NetworkSettings(), 4, 6, PUBLISHED_STRIDES, kernels, {"cpc": cpc}, 32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    deployed = frozenset(name for name in network.state_dict() if not name.startswith("branches."))
    written, read = [], []
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        last = Path(place) / "last"
        for step in range(REPEATS):
            begun = time.perf_counter()
            save_checkpoint(last, network, deployed, optimiser, step, {}, {})
            written.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            assert read_checkpoint(last) is not None
            read.append(time.perf_counter() - begun)
        size = sum(file.stat().st_size for file in last.iterdir())
    seconds = sorted(written)[REPEATS // 2]
    result: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "bytes": size,
        "write_seconds": [round(value, 3) for value in written],
        "read_and_verify_seconds": [round(value, 3) for value in read],
        "share_of_training_at_one_a_minute": round(seconds / (seconds + INTERVAL), 4),
        "machine": describe("cpu"),
    }
    text = json.dumps(result, indent=1)
    (Path(__file__).parent / "results" / "checkpoint.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
