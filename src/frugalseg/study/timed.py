"""The cost of a step where several cells run at a time: timed in as many processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

from frugalseg.config import load_config
from frugalseg.errors import UserError
from frugalseg.study.estimate import UNTRAINED, StepCost, Timer, measure_step
from frugalseg.study.side_by_side import environment_of, started_in, visible_gpus

PATIENCE_SECONDS = 900.0  # for the slowest process to begin


def timed_beside(processes: int) -> Timer:
    """Return what times a method's steps in so many processes at once, and takes the mean.

    Args:
        processes: How many cells will run at a time.
    """

    def timer(
        data: Path, recipe: str | Path, labels: int, seed: int, overrides: Sequence[str], store: Path | None
    ) -> StepCost:
        from frugalseg.jobs.measure import undertaken

        if not load_config(recipe, overrides).trained:
            return UNTRAINED
        asked = (data, recipe, labels, seed, tuple(overrides), store)
        undertaken(*asked)  # prepares the cases, once
        costs = _at_once(processes, asked)
        mean = sum(cost.seconds for cost in costs) / len(costs)
        return StepCost(mean, costs[0].weight_bytes, sum(cost.before for cost in costs) / len(costs))

    return timer


def _at_once(processes: int, asked: tuple[Any, ...]) -> list[StepCost]:
    context = multiprocessing.get_context("spawn")
    barrier, gpus = context.Barrier(processes), visible_gpus()
    crew = []
    try:
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_time, args=(theirs, barrier, asked), name="frugalseg-timing")
            started_in(environment_of(number, gpus, processes), process)
            theirs.close()
            crew.append((process, ours))
        return _answers([pipe for _, pipe in crew], barrier)
    finally:
        for process, pipe in crew:
            pipe.close()
            process.kill()
            process.join()


def _answers(pipes: Sequence[Connection], barrier: Any) -> list[StepCost]:
    """Wait for all; the first that went wrong is told, and the others do not wait for it."""
    found: list[StepCost] = []
    left = list(pipes)
    while left:
        for pipe in wait(left):
            assert isinstance(pipe, Connection)
            left.remove(pipe)
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                answer = UserError("a process died while steps were timed; take fewer", "--processes")
            if isinstance(answer, UserError):
                barrier.abort()
                raise answer
            found.append(answer)
    return found


def _time(pipe: Connection, barrier: Any, asked: tuple[Any, ...]) -> None:
    data, recipe, labels, seed, overrides, store = asked
    try:
        cost = measure_step(
            data, recipe, labels, seed, overrides, store, begin=lambda: barrier.wait(PATIENCE_SECONDS)
        )
        pipe.send(cost)
    except UserError as error:
        pipe.send(error)
    except BrokenBarrierError:  # another one said why
        pass
