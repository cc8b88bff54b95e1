"""The same study on two local Ray workers, one of them killed in the middle: the same table. `make ray` runs it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frugalseg.errors import UserError
from frugalseg.study.on_ray import on_ray
from tests.study.micro import micro_data, micro_study

HAS_RAY = importlib.util.find_spec("ray") is not None
DRIVER = """
import sys
from pathlib import Path
from frugalseg.study.on_ray import on_ray
from frugalseg.study.run import study
from tests.study.micro import LENGTH, OVERRIDES, micro_design
data, out, store = map(Path, sys.argv[1:])
print(study(data, out, micro_design(), LENGTH, OVERRIDES, store, mapper=on_ray("auto")))
"""


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_says_what_to_install() -> None:
    with pytest.raises(UserError, match=r"--ray: needs Ray, which is not installed: install ray"):
        on_ray("auto")


@pytest.mark.skipif(not HAS_RAY, reason="an extra: `make ray` installs it and runs this")
def test_two_workers_one_killed_give_the_table_of_one_process(tmp_path: Path) -> None:
    data = micro_data(tmp_path / "data")
    micro_study(data, tmp_path / "alone", tmp_path / "store")
    out = tmp_path / "on_ray"
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, data, out, tmp_path / "store"], stdout=subprocess.PIPE, text=True
    )
    killed = kill_a_worker(out, process)
    told, _ = process.communicate(timeout=300)
    assert "done=9, failed=()" in told
    assert killed > 0
    assert (out / "cells.csv").read_bytes() == (tmp_path / "alone" / "cells.csv").read_bytes()


def kill_a_worker(out: Path, driver: subprocess.Popen[str]) -> int:
    """Kill the process that trains some cell, once one has begun; return its number."""
    begun = time.monotonic()
    while time.monotonic() - begun < 200 and driver.poll() is None:
        for lock in out.glob("cells/*/run/.lock"):
            try:
                number = int(lock.read_text().split('"process":')[1].split(",")[0])
                name = Path(f"/proc/{number}/cmdline").read_text()
            except (OSError, IndexError, ValueError):
                continue
            if number != driver.pid and "ray" in name and not (lock.parent.parent / "cell.json").exists():
                os.kill(number, signal.SIGKILL)
                return number
        time.sleep(0.005)
    return 0
