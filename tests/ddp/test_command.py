"""`frugalseg train --devices 2` from the command line: equal to one process; and what a death does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from frugalseg.config import load_config
from frugalseg.errors import ConfigError
from frugalseg.jobs.record import other_conditions, read_record, same_run, settings_hash
from frugalseg.jobs.run import Run
from tests.ddp.test_run import table
from tests.ddp.work import TINY, TINY_CPC, Places, make_run

PATIENCE = 120.0  # for a busy machine; the end itself takes a few seconds


def start(places: Places, out: Path, *more: str) -> subprocess.Popen[str]:
    options: list[str] = []
    for setting in (*TINY, *TINY_CPC, "training.checkpoint_seconds=0.001"):
        options += ["--set", setting]
    where: Sequence[str | Path] = [places.data, "--out", out, "--store", places.store]
    return subprocess.Popen(
        [sys.executable, "-m", "frugalseg", "train", "--method", "sscpcseg", *map(str, where), *options, *more],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    """Return what it wrote; its standard error closes only when every process of the run has gone."""
    try:
        return process.communicate(timeout=PATIENCE)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def child_of(process: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])


@pytest.fixture
def running(places: Places, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of two processes in the middle of training."""
    process = start(places, tmp_path / "run", "--method", "sscpcseg", "--steps", "100000", "--devices", "2")
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "run" / "last").exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def test_two_processes_from_the_command_line_are_one(places: Places, tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    started = start(places, two, "--steps", "2", "--devices", "2")
    said = end(started)
    assert started.returncode == 0, said
    run = make_run(places, one, "sscpcseg", ["training.steps=2"])
    run.record()
    run.fit()
    for found, expected in zip(table(two / "metrics.csv"), table(one / "metrics.csv"), strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
    found_weights, weights = (load_file(folder / "last" / "model.safetensors") for folder in (two, one))
    assert found_weights.keys() == weights.keys()
    assert "2 processes" in said
    assert said.count("trained 2 steps") == 1, said
    assert said.count("store: ") == 1, said
    assert "Warning" not in said
    assert len(said.splitlines()) == 6, said


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
@pytest.mark.parametrize("who", ["first", "other"])
def test_a_process_that_dies_ends_the_run_with_a_line(running: subprocess.Popen[str], who: str) -> None:
    os.kill(running.pid if who == "first" else child_of(running), signal.SIGKILL)
    said = end(running)
    assert "Traceback" not in said
    assert "gloo" not in said
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, said
    assert "--resume goes on" in errors[0]
    if who == "first":
        assert running.returncode == -signal.SIGKILL
        assert "the first process of this run has ended" in errors[0]
    else:
        assert running.returncode == 1
        assert "process 1 of this run was ended by signal 9" in errors[0]


def test_two_processes_killed_and_resumed_end_bit_for_bit_as_undisturbed(places: Places, tmp_path: Path) -> None:
    options = ("--method", "sscpcseg", "--steps", "24", "--devices", "2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = end(start(places, whole, *options))
    assert "trained 24 steps" in said
    process = start(places, killed, *options)
    deadline = time.monotonic() + PATIENCE
    while not (killed / "last").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # both at once, as a cluster does
    end(process)
    assert "trained 24 steps" in end(start(places, killed, *options, "--resume"))
    for name in ("last/model.safetensors", "last/state.safetensors", "metrics.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    spent = json.loads((killed / "run.json").read_text())["spent"]
    assert 0 < spent[-1]["from"] < 24


def test_a_mistake_is_told_once(places: Places, tmp_path: Path) -> None:
    process = start(places, tmp_path / "run", "--devices", "9")
    said = end(process)
    assert process.returncode == 2
    assert said.count("Error: ") == 1
    assert "9 processes cannot share the 4 samples of a step" in said
    assert not (tmp_path / "run").exists()


def test_going_on_with_other_processes_is_told_and_other_settings_are_refused(
    places: Places, tmp_path: Path
) -> None:
    run: Run = make_run(places, tmp_path / "run", "encdec", ["training.devices=2"])
    run.record()
    settings = [*TINY, "training.steps=4"]
    alone = load_config("encdec", settings)
    facts = read_record(tmp_path / "run")
    config = same_run(tmp_path / "run", alone, run.split)
    assert config.training.devices == 1
    said = other_conditions(facts, config, run.plan, None)
    assert said is not None
    assert "the run began with processes 2 (now 1)" in said
    assert settings_hash(config) == settings_hash(run.config)
    same = same_run(tmp_path / "run", run.config, run.split)
    assert other_conditions(facts, same, run.plan, None) is None
    with pytest.raises(ConfigError, match=r"another 'training\.seed'"):
        same_run(tmp_path / "run", load_config("encdec", [*settings, "training.seed=1"]), run.split)
