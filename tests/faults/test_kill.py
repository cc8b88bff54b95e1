"""A run that is killed again and again ends bit for bit like one left alone. More of it: `make torture`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frugalseg.training.seal import find_intact
from tests.faults.micro import differences, micro_data, micro_run

ROOT = Path(__file__).parents[2]


def start(data: Path, out: Path, store: Path, *event: str | int) -> subprocess.CompletedProcess[str]:
    arguments = [data, out, store, 2, 0.001, *event]
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.micro", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_three_times_with_two_loader_workers(tmp_path: Path) -> None:
    data = micro_data(tmp_path / "data")
    micro_run(data, tmp_path / "left-alone", tmp_path / "store", workers=2)
    run = tmp_path / "killed"
    kills = [
        ("after rename to best", 1),  # best/ is newer than last/; the first look always finds a best one
        ("after rename to last.previous", 1),  # between the two renames: only the previous checkpoint has its name
        ("half row of validation.csv", 2),  # after a look, half of its row on the disk, best/ not written yet
    ]
    for event in kills:
        done = start(data, run, tmp_path / "store", *event)
        assert done.returncode == -signal.SIGKILL, (event, done.stderr)
        assert find_intact(run / "last") is not None
    done = start(data, run, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert differences(tmp_path / "left-alone", run) == []
    assert not list(run.glob(".last-*")) + list(run.glob(".tmp-*")) + list(run.glob("*.damaged"))
