"""Signals: saved within seconds and told by the exit status; a second Ctrl-C leaves at once; resumed exactly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from frugalseg.jobs import run as runs
from frugalseg.jobs import validate as looking
from frugalseg.training import loop as looping
from frugalseg.training.seal import find_intact
from tests.faults.micro import SETTINGS, differences, micro_data, micro_run

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    micro_data(folder / "data")
    micro_run(folder / "data", folder / "whole", folder / "store", checkpoint_seconds=1e6)
    return folder


def command(place: Path, out: Path, *more: str) -> list[str]:
    settings = [f"--set={item}" for item in SETTINGS if not item.startswith("training.steps")]
    code = (  # SIGUSR1 tells where every thread is, also in the loader's workers
        "import faulthandler, signal; faulthandler.register(signal.SIGUSR1); from frugalseg.cli import main; main()"
    )
    paths = [
        "train",
        "--method",
        "sscpcseg",
        str(place / "data"),
        "--out",
        str(out),
        "--store",
        str(place / "store"),
        "--labels",
        "3",
    ]
    return [sys.executable, "-c", code, *paths, *settings, "--set=training.checkpoint_seconds=1000", *more]


def start(place: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start a long run in a process group of its own, and wait until it has begun to train."""
    process = subprocess.Popen(
        command(place, out, "--steps", "100000", *more),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    for _ in range(6000):
        if (out / "tensorboard").exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(1.0)
    assert process.poll() is None
    return process


def errors_of(process: subprocess.Popen[str]) -> str:
    """Wait for the end and return what was said; if there is no end, fail with the place where it hangs."""
    try:
        return process.communicate(timeout=120)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGUSR1)
        time.sleep(5.0)
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"still there after 120 s:\n{process.communicate()[1]}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves_and_is_told(number: int, place: Path, tmp_path: Path) -> None:
    """A batch system and a terminal signal the loader's workers, too."""
    process = start(place, tmp_path / "run", "--set=training.workers=2")
    os.killpg(process.pid, number)
    errors = errors_of(process)
    assert process.returncode == 128 + number, errors
    found = find_intact(tmp_path / "run" / "last")
    assert found is not None, errors
    assert found.facts["step"] > 0
    assert f"stopped by signal {number}" in errors
    assert "Traceback" not in errors


def test_a_signal_before_training_leaves_nothing_behind(place: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(place, tmp_path / "run", "--steps", "3"),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (143, -15), errors  # the latter: before Python could listen
    assert "Traceback" not in errors
    assert not (tmp_path / "run" / "run.json").exists()


def signal_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, numbers: list[int]) -> None:
    """Send signals to this process at the start of call number `at`."""
    original = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("look", [1, 4])  # the fourth one is the one after the last step
def test_a_look_is_cut_off_and_done_after_resuming(
    look: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    signal_in(monkeypatch, looking.Validation, "_case", look, [signal.SIGTERM])
    stopped = micro_run(place / "data", run, place / "store", checkpoint_seconds=1e6)
    assert stopped.signal == signal.SIGTERM
    assert stopped.step == 2 * look
    rows = (run / "validation.csv").read_text().splitlines()
    assert len(rows) == look, "the look is not in the log"
    monkeypatch.undo()
    done = micro_run(place / "data", run, place / "store", checkpoint_seconds=1e6)
    assert done.signal is None
    assert differences(place / "whole", run) == []


def test_a_look_that_is_done_again_may_be_cut_off_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    for _ in range(2):  # the second time it is the look with which the resumed run begins
        with monkeypatch.context() as patch:
            signal_in(patch, looking.Validation, "_case", 1, [signal.SIGTERM])
            stopped = micro_run(place / "data", run, place / "store", checkpoint_seconds=1e6)
        assert (stopped.signal, stopped.step) == (signal.SIGTERM, 2)
    micro_run(place / "data", run, place / "store", checkpoint_seconds=1e6)
    assert differences(place / "whole", run) == []


def test_stopped_after_any_step(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    for step in (1, 2):
        with monkeypatch.context() as patch:
            signal_in(patch, looping.Loop, "step", step, [signal.SIGINT])
            assert micro_run(place / "data", run, place / "store", checkpoint_seconds=1e6).signal == signal.SIGINT
    micro_run(place / "data", run, place / "store", checkpoint_seconds=1e6)
    assert differences(place / "whole", run) == []


def test_a_second_ctrl_c_leaves_at_once(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    signal_in(monkeypatch, looping.Loop, "step", 2, [signal.SIGINT, signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):
        micro_run(place / "data", tmp_path / "run", place / "store", checkpoint_seconds=1e6)
    assert not (tmp_path / "run" / "last").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_workers_leave_though_somebody_holds_on_to_the_batches(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that was caught somewhere keeps frames alive, and with them the batches, at Python's whim."""
    held: list[Any] = []
    original = runs.Run.batches

    def kept(self: runs.Run, *arguments: Any, **options: Any) -> Any:
        held.append(original(self, *arguments, **options))
        return held[-1]

    monkeypatch.setattr(runs.Run, "batches", kept)
    signal_in(monkeypatch, looping.Loop, "step", 2, [signal.SIGTERM])
    others = multiprocessing.active_children()
    stopped = micro_run(place / "data", tmp_path / "run", place / "store", workers=2)
    assert stopped.signal == signal.SIGTERM
    assert held
    assert multiprocessing.active_children() == others
