"""Cells in several processes of this machine, without Ray: for many cores, or small networks on a large GPU.

Each process takes one cell after another. One that dies takes nothing with it: its cell is begun again in a new
process and goes on from the last checkpoint. A signal that asks the study to stop is passed on, so that every
process saves what it is at; so does every process by itself when the one that began it is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import NoReturn

from frugalseg.errors import UserError
from frugalseg.jobs.resources import SHARE, usable_cpus
from frugalseg.study.cell import Interrupted, Outcome, Task, run_cell
from frugalseg.study.run import Mapper
from frugalseg.training.stop import StopRequest

RETRIES = 3  # of a cell whose process died; an error of the cell itself is its outcome
LOOK_SECONDS = 0.5  # how soon a signal is noticed
LEAVE_SECONDS = 60.0  # for saving; what is not done then is what the last checkpoint lacks


def side_by_side(processes: int, serve: Callable[[Connection], None] | None = None) -> Mapper:
    """Return what runs tasks in this many processes, spread over the machine's GPUs if it has some.

    Args:
        processes: How many.
        serve: What each of them does with its end of a pipe; by default it runs the cells that come through it.
    """

    def mapper(tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
        gpus = visible_gpus()
        crew = [_Worker(number, gpus, processes, serve or _serve) for number in range(min(processes, len(tasks)))]
        try:
            with StopRequest() as stop:
                _share(tasks, crew, ended, stop)
            if stop.signal is not None:
                raise Interrupted(stop.signal)
        finally:
            for worker in crew:
                worker.dismiss()

    return mapper


@dataclass
class _Job:
    task: Task
    died: int = 0


class _Worker:
    """A process that runs the tasks it is sent, one after another, and is started anew when it has died."""

    def __init__(
        self, number: int, gpus: Sequence[str], processes: int, serve: Callable[[Connection], None]
    ) -> None:
        self.serve = serve
        self.environment = environment_of(number, gpus, processes)
        self.job: _Job | None = None
        self._start()

    def _start(self) -> None:
        # A forked child would inherit PyTorch's threads and CUDA's state, and hang.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process: BaseProcess = context.Process(target=self.serve, args=(far,), name="frugalseg-cells")
        started_in(self.environment, self.process)
        far.close()

    def give(self, job: _Job) -> None:
        """Send a job; to a new process if the one before has died."""
        if not self.process.is_alive():
            self.process.join()
            self.pipe.close()
            self._start()
        self.job = job
        try:
            self.pipe.send(job.task)
        except OSError:  # it died meanwhile, which the next look at the pipe tells
            return

    def dismiss(self) -> None:
        """End the process: at once if it waits, killed if it is still at something."""
        self.pipe.close()
        if self.job is not None:
            self.process.kill()
        self.process.join()


def _share(
    tasks: Sequence[Task], crew: Sequence[_Worker], ended: Callable[[Outcome], None], stop: StopRequest
) -> None:
    left = [_Job(task) for task in reversed(tasks)]
    for worker in crew:
        worker.give(left.pop())
    while busy := [worker for worker in crew if worker.job is not None]:
        if stop.signal is not None:
            _let_them_save(busy)
            return
        for ready in wait([worker.pipe for worker in busy], LOOK_SECONDS):
            worker = next(one for one in busy if one.pipe is ready)
            job = worker.job
            assert job is not None
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):  # the latter where it died before it had read its task
                worker.process.join()
                job.died += 1
                if job.died <= RETRIES:
                    left.append(job)
                else:
                    code = worker.process.exitcode
                    line = f"its process died {job.died} times (the last time with exit status {code})"
                    ended(Outcome(job.task.folder, line, 0.0, None, True))
            else:
                if isinstance(answer, BaseException):
                    worker.job = None
                    _let_them_save([one for one in crew if one.job is not None])
                    raise answer
                ended(answer)
            worker.job = None
            if left:
                worker.give(left.pop())


def _let_them_save(busy: Sequence[_Worker]) -> None:
    """Pass a signal on and wait until all have saved what they are at."""
    for worker in busy:
        worker.process.terminate()
    waiting = list(busy)
    while waiting:
        ready = wait([worker.pipe for worker in waiting], LEAVE_SECONDS)
        if not ready:
            return
        for worker in [one for one in waiting if one.pipe in ready]:
            worker.job = None
            waiting.remove(worker)


def _serve(pipe: Connection) -> None:
    """Run what comes through the pipe until it closes. A terminal's Ctrl-C is for the process that began us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)  # training has its own way to stop; all else ends here, and says so
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    answer: Outcome | BaseException
    for task in _received(pipe):
        try:
            answer = run_cell(task)
        except (UserError, Interrupted) as error:
            answer = error
        with suppress(OSError):  # nobody waits for it any more, which the next look tells
            pipe.send(answer)


def _received(pipe: Connection) -> Iterator[Task]:
    """Yield what comes through the pipe until the other end is closed, even if an answer was left unread there."""
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError, Interrupted):
            return
        yield task


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _leave_with(parent: int) -> None:
    """Wait until the process that began us is gone, and then stop as if a signal said so; in the end, at once.

    What a handler raises can be lost, in a destructor for example: the signal is sent again.
    """
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    begun = time.monotonic()
    while time.monotonic() - begun < LEAVE_SECONDS:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LEAVE_SECONDS / 6)
    os.kill(os.getpid(), signal.SIGKILL)


def environment_of(number: int, gpus: Sequence[str], processes: int) -> dict[str, str]:
    """Return what process `number` of so many finds in its environment: its share of the processors, its GPU."""
    found = {SHARE: str(processes)}
    if "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, usable_cpus() // processes))
    if gpus:
        found["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return found


def started_in(environment: Mapping[str, str], process: BaseProcess) -> None:
    """Start a process with these variables in its environment."""
    with _environment(environment):
        process.start()


def visible_gpus() -> list[str]:
    import torch

    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in told.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that a child must find when it begins; libraries read them when they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
