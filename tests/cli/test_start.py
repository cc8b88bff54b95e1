"""A command brings in what its work takes, and no more: PyTorch is two seconds of a core, its compiler two more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from frugalseg.data.phantom import write_phantom

ENDING = "; import sys; print('heavy:', sorted({'torch', 'torch._dynamo', 'lightning_fabric'} & set(sys.modules)))"


def heavy_after(code: str, *arguments: str | Path) -> str:
    program = [sys.executable, "-c", code + ENDING, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()[-1]


def test_checking_preparing_and_scoring_do_without_pytorch(tmp_path: Path) -> None:
    write_phantom(tmp_path / "data", cases=2, labelled=1, test=1, shape=(24, 24, 24), seed=0)
    code = """
import sys
from frugalseg.cli import app
data, store, predictions, out = sys.argv[1:]
app(["check", data], standalone_mode=False)
app(["prepare", data, "--store", store], standalone_mode=False)
app(["evaluate", predictions, data, "--out", out], standalone_mode=False)
"""
    places = (tmp_path / "data", tmp_path / "store", tmp_path / "data" / "labelsTs", tmp_path / "scores")
    assert heavy_after(code.strip(), *places) == "heavy: []"
    assert (tmp_path / "scores" / "cases.csv").is_file()


@pytest.mark.parametrize("job", ["predict", "register", "train"])
def test_fabric_and_the_compiler_wait_until_a_run_begins(job: str) -> None:
    assert heavy_after(f"import frugalseg.jobs.{job}") == "heavy: ['torch']"
