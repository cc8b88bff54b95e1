"""The job writes into its output folder and the store, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.data.datasets import contents
from tests.faults.micro import micro_data

ROOT = Path(__file__).parents[2]
JOB = """
from pathlib import Path
from frugalseg import train, predict, evaluate, prepare
from tests.faults.micro import SETTINGS
place = Path(PLACE)
settings = [item for item in SETTINGS if not item.startswith("training.steps")] + ["training.steps=1"]
train(place / "data", place / "out" / "run", "sscpcseg", labels=3, overrides=settings,
      store=place / "out" / "store", transductive=True)
predict(place / "out" / "run", [place / "data"], place / "out" / "predictions")
evaluate(place / "out" / "predictions", place / "data", place / "out" / "scores")
"""


def test_nothing_outside_and_transductive_is_printed(tmp_path: Path) -> None:
    micro_data(tmp_path / "data")
    before = contents(tmp_path / "data")
    for name in ("home", "temporary", "work", "matplotlib"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-B", "-c", JOB.replace("PLACE", repr(str(tmp_path)))],
        cwd=tmp_path / "work",
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "HOME": str(tmp_path / "home"),
            "TMPDIR": str(tmp_path / "temporary"),
            "MPLCONFIGDIR": str(tmp_path / "matplotlib"),  # a cache of fonts that is not ours
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "data") == before
    for name in ("home", "temporary", "work"):
        assert list((tmp_path / name).rglob("*")) == [], name
    page = (tmp_path / "out" / "scores" / "report.html").read_text()
    assert "Transductive: the model trained on the images of the test cases" in page
    assert "images of the test cases among them (transductive)" in (tmp_path / "out/run/report.html").read_text()
