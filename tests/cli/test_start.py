"""A command brings in what its work takes, and no more: PyTorch is two seconds of a core, its compiler two more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from frugalseg.data.phantom import write_phantom
from frugalseg.jobs.train import train

TINY = ["crop=[8,8,8]", "network.width=8", "network.blocks=[1,1]", "training.steps=1", "training.workers=0"]
HEAVY = "print('heavy:', sorted({'torch', 'torch._dynamo', 'lightning_fabric'} & set(sys.modules)))"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a run."""
    folder = tmp_path_factory.mktemp("start")
    write_phantom(folder / "data", cases=2, labelled=1, test=1, shape=(24, 24, 24), seed=0)
    train(folder / "data", folder / "run", "encdec", labels=1, overrides=TINY, store=folder / "store")
    return folder


def heavy_after(place: Path, code: str) -> str:
    """Return what a program in this folder that runs `code` says in the end that it has imported."""
    program = ["import sys", "from frugalseg.cli import app", code, HEAVY]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        capture_output=True, text=True, check=True, timeout=120, cwd=place,
    )  # fmt: skip
    return done.stdout.splitlines()[-1]


def command(words: str) -> str:
    return f"app({words.split()}, standalone_mode=False)"


def test_checking_and_preparing_do_without_pytorch(place: Path) -> None:
    code = command("check data") + "\n" + command("prepare data --store another")
    assert heavy_after(place, code) == "heavy: []"
    assert list((place / "another").glob("*.b2nd"))


def test_predicting_does_without_the_compiler_and_scoring_without_pytorch(place: Path) -> None:
    assert heavy_after(place, command("predict run data/imagesTs --out predictions")) == "heavy: ['torch']"
    assert heavy_after(place, command("evaluate predictions data --out scores")) == "heavy: []"
    page = (place / "scores" / "report.html").read_text()
    assert "Learning rate" in page, "the run that predicted is a part of the page"


@pytest.mark.parametrize("job", ["register", "train"])
def test_the_compiler_waits_until_a_run_begins(place: Path, job: str) -> None:
    assert heavy_after(place, f"import frugalseg.jobs.{job}") == "heavy: ['torch']"


def test_a_rehearsal_holds_what_a_run_does_when_it_looks_at_what_is_left(place: Path) -> None:
    code = f"""
from frugalseg.jobs import rehearse
rehearse.fitting = lambda *_: sys.exit({HEAVY})
try:
    {command("train data --method encdec --labels 1 --steps 1 --dry-run")}
except SystemExit:
    pass
"""
    heavy = "heavy: ['lightning_fabric', 'torch', 'torch._dynamo']"
    assert heavy_after(place, code) == heavy
