"""What a person sees while work goes on: lines on standard error, and bars where that is a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that only draw a bar do not wait for what these need
    from frugalseg.config import Config
    from frugalseg.data.budget import Split
    from frugalseg.training.plan import Plan

TOLD_AFTER = 20.0  # seconds: by then the pace is known, and who looks into a log wonders
_muted = False
_log: Path | None = None


def mute() -> None:
    """Show nothing from now on: of a run's processes only the first one speaks."""
    global _muted
    _muted = True


def shown() -> bool:
    """Whether there is a terminal to draw bars on, and this process is to speak."""
    return not _muted and _log is None and sys.stderr.isatty()


def say(line: str) -> None:
    """Print a line on standard error, or into the log of the job that is one of many."""
    if _log is not None:
        with _log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    elif not _muted:
        print(line, file=sys.stderr, flush=True)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Let what a job says and draws go into a file instead, because it is one of many."""
    global _log
    path.parent.mkdir(parents=True, exist_ok=True)
    before, _log = _log, path
    try:
        yield
    finally:
        _log = before


@contextmanager
def bar(title: str, total: int, told: bool = False) -> Iterator[Any]:
    """Yield a function that moves a bar on by one.

    In a pipe it does nothing, or, if it is to be `told`, says once how long work takes that no plan counts.
    """
    if not shown():
        yield _forecast(title, total) if told else lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda *_: progress.advance(task)


def _forecast(title: str, total: int) -> Callable[[], None]:
    """Return a function to be called after each of `total` pieces of work, by any thread."""
    lock, begun, done, said = threading.Lock(), time.monotonic(), 0, False

    def advance() -> None:
        nonlocal done, said
        with lock:
            done += 1
            spent = time.monotonic() - begun
            if said or spent < TOLD_AFTER:
                return
            said, left = True, spent / done * (total - done) / 60
        if left >= 1:
            say(f"{title}: {done} of {total} in {spent:.0f} s, about {left:.0f} min more")

    return advance


class TrainingBar:
    """A bar with losses, Dice on the training crops (running means) and the time left."""

    def __init__(self, steps: int, first: int, structures: tuple[str, ...]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._means: dict[str, float] = {}
        self._structures = structures
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("training", total=steps, completed=first, state="")

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show the state after `step` steps."""
        for name, value in values.items():
            if value == value:  # NaN: nothing to measure in this step
                self._means[name] = 0.9 * self._means.get(name, value) + 0.1 * value
        loss = sum(v for k, v in self._means.items() if k.startswith("segmentation."))
        dice = [self._means[f"dice.{name}"] for name in self._structures if f"dice.{name}" in self._means]
        state = f"loss {loss:.3f}  Dice {' '.join(f'{d:.2f}' for d in dice)}"
        if "cpc.accuracy" in self._means:
            state += f"  CPC {self._means['cpc.accuracy']:.2f} (chance {self._means['cpc.chance']:.2f})"
        self._progress.update(self._task, completed=step, state=state)


def announce(config: Config, plan: Plan, split: Split, processes: int) -> None:
    """Say what is about to be trained."""
    crop = "x".join(map(str, plan.crop))
    say(
        f"{config.method}: {len(split.labelled)} labelled and {len(split.unlabelled)} unlabelled volumes, "
        f"crop {crop}, width {plan.width}, {plan.steps} steps, {plan.precision} on {plan.device}"
        + (f", {processes} processes" if processes > 1 else "")
    )
    for name in config.auxiliary:
        if name in plan.reasons:
            say(f"{name}: {plan.reasons[name]}")
