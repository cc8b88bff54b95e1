"""A run of seconds with everything in it: contrastive coding, a running mean, validation, many checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from frugalseg.data.phantom import write_phantom
from frugalseg.jobs.train import TrainResult
from tests.faults.killer import Killer

STEPS = 8
SETTINGS = (
    "crop=[16,16,16]",
    "network.width=8",
    "auxiliary.cpc.patch=[8,8,8]",
    "auxiliary.cpc.blocks=1",
    "sampling.labelled=1",
    "sampling.unlabelled=1",
    f"training.steps={STEPS}",
    "training.average=0.5",
    "training.learning_rate=0.02",
    "augment=none",
    "training.validate_every=2",
    "training.device=cpu",
    "training.deterministic=true",
)
SAME = ("last", "best", "metrics.csv", "validation.csv", "config.yaml", "plan.json", "split.json")


def micro_data(folder: Path) -> Path:
    """Make the data set."""
    write_phantom(folder, cases=4, labelled=3, test=1, shape=(24, 24, 24), seed=1)
    return folder


def micro_run(
    data: Path, out: Path, store: Path, workers: int = 0, checkpoint_seconds: float = 0.001, resume: bool = True
) -> TrainResult:
    """Start the run, or go on with it."""
    from frugalseg.jobs.train import train

    settings = [*SETTINGS, f"training.workers={workers}", f"training.checkpoint_seconds={checkpoint_seconds}"]
    return train(data, out, "sscpcseg", labels=3, overrides=settings, store=store, validation=1, resume=resume)


def differences(one: Path, two: Path) -> list[str]:
    """Return the names of the files that must be the same in two runs and are not."""
    found = []
    for name in SAME:
        pairs = [one / name]
        if (one / name).is_dir():
            pairs = sorted(path for path in (one / name).rglob("*") if path.is_file())
        for path in pairs:
            other = two / path.relative_to(one)
            if not other.exists() or path.read_bytes() != other.read_bytes():
                found.append(str(path.relative_to(one)))
    return found


def main(arguments: list[str]) -> None:
    """Run as a process: DATA OUT STORE WORKERS SECONDS [KIND NTH]; it dies at the nth event of that kind."""
    data, out, store, workers, seconds, *event = arguments
    options: dict[str, Any] = {"kind": event[0], "nth": int(event[1])} if event else {}
    Killer(**options).install()
    micro_run(Path(data), Path(out), Path(store), int(workers), float(seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
