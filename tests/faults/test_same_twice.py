"""Two runs of one command are equal bit for bit, by default and with --deterministic, whatever the workers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from frugalseg.jobs.record import update_record
from frugalseg.jobs.train import train
from tests.faults.micro import SETTINGS, micro_data

WEIGHTS = (
    "last/model.safetensors",
    "last/state.safetensors",
    "best/model.safetensors",
    "metrics.csv",
    "validation.csv",
)


@pytest.mark.parametrize(("deterministic", "precision"), [(False, "auto"), (True, "fp32")])
def test_equal_for_0_and_2_workers(deterministic: bool, precision: str, tmp_path: Path) -> None:
    data = micro_data(tmp_path / "data")
    keep = [
        item for item in SETTINGS if not item.startswith(("training.deterministic", "augment", "training.steps"))
    ]
    runs = []
    for workers in (0, 2):
        out = tmp_path / f"run-{workers}"
        more = [f"training.deterministic={str(deterministic).lower()}", f"training.workers={workers}"]
        settings = [*keep, *more, "training.steps=3", f"training.precision={precision}"]
        train(data, out, "sscpcseg", labels=3, overrides=settings, store=tmp_path / "store", validation=1)
        runs.append(out)
    for name in WEIGHTS:
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name


def test_a_deterministic_run_keeps_its_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frugalseg.training import loop as looping

    data = micro_data(tmp_path / "data")
    before, seen = torch.get_num_threads(), []
    original = looping.Loop.step

    def step(self: looping.Loop, number: int, batch: object) -> dict[str, float]:
        seen.append(torch.get_num_threads())
        return original(self, number, batch)  # type: ignore[arg-type]

    def go() -> None:
        settings = [item for item in SETTINGS if not item.startswith("training.steps")] + ["training.steps=2"]
        train(
            data, tmp_path / "run", "sscpcseg", labels=3, overrides=settings, store=tmp_path / "store", resume=True
        )

    monkeypatch.setattr(looping.Loop, "step", step)
    try:
        torch.set_num_threads(2)
        go()
        shutil.rmtree(tmp_path / "run" / "last")
        update_record(tmp_path / "run", {"spent": []})  # as if it had been killed before its first checkpoint
        torch.set_num_threads(1)
        go()
        assert seen == [2] * 4
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
