"""The processes of a run: they start together, the first one goes ahead and writes, and they end together.

A process that dies takes the others with it within seconds, and the person is told once, in a line: by the process
that failed if it can still speak, else by the first one. Nobody waits for a process that is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch import distributed

from frugalseg.errors import ProcessError, UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

POLL = 0.2
GRACE = 3.0  # seconds that a process has to tell its own error before another one tells that it is gone
_PARENT = "FRUGALSEG_FIRST_PROCESS"


class Processes:
    """Within the `with` block all processes of the run are there.

    Args:
        fabric: Of all processes, not launched. With one process nothing below does anything.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.world: int = fabric.world_size
        self._watch: _Watch | None = None
        self._opened = False

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return bool(self.fabric.global_rank == 0)

    def __enter__(self) -> Self:
        if self.world == 1:
            return self
        self._opened = not distributed.is_initialized()
        launcher: Any = self.fabric.strategy.launcher
        starts = launcher is not None and not launcher.cluster_environment.creates_processes_externally
        parent = os.environ.get(_PARENT)
        if starts:
            os.environ[_PARENT] = str(os.getpid())
            self._watch = _WatchChildren(launcher.procs, launcher.num_processes)
        elif parent is not None and int(parent) == os.getppid():
            self._watch = _WatchParent(int(parent))
        if self._watch is not None:
            self._watch.start()
        self.fabric.launch()
        os.environ.pop(_PARENT, None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.world == 1:
            return
        if error is None:
            self.wait()  # nobody leaves, and is missed, while the first one still writes
            if self._watch is not None:
                self._watch.end()
            if self._opened:
                distributed.destroy_process_group()
            return
        lost = is_lost(error)
        if not self.first:
            # Most errors happen to all processes alike; the first one tells them, and ends this one meanwhile.
            time.sleep(GRACE if lost else GRACE / 3)
            if lost:
                raise ProcessError("the run's other processes are gone", told=True) from error
            return
        if isinstance(self._watch, _WatchChildren):
            failure = self._watch.failure(GRACE) if lost else None
            self._watch.end()
            self._watch.kill()
            if failure is not None:
                raise failure from error
        if lost:
            reason = " ".join(str(error).split())[:120]
            raise ProcessError(
                f"another process of this run has ended or is out of reach ({reason}){_GO_ON}"
            ) from error

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            self.fabric.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process pass the `with` block while the others wait; then they do: its work is done."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def tell(self, value: Any) -> Any:
        """Return the first process's `value` (plain JSON) in every process."""
        if self.world == 1:
            return value
        text = json.dumps(value).encode() if self.first else b""
        size = torch.tensor(len(text), device=self.fabric.device)
        distributed.broadcast(size, 0)
        content = torch.zeros(int(size), dtype=torch.uint8, device=self.fabric.device)
        if self.first:
            content.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        distributed.broadcast(content, 0)
        return json.loads(bytes(content.tolist()))

    def require_same(self, value: Any, what: str) -> None:
        """Refuse to go on if a process sees something else than the first one.

        Raises:
            UserError: In the processes that do.
        """
        if self.tell(value) != value:
            raise UserError(
                f"process {self.fabric.global_rank} sees {what} otherwise than the first one; the data, the store "
                "and the run's folder must be on a file system that all machines share",
                "training.nodes",
            )


_GO_ON = "; the last checkpoint is intact, --resume goes on"


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, rather than what is wrong here."""
    if isinstance(error, distributed.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in ("gloo", "NCCL", "Connection closed"))


class Child(Protocol):
    """What is asked of a started process (a subprocess.Popen)."""

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""

    def kill(self) -> None:
        """End it."""


class _Watch(threading.Thread):
    """Looks at other processes now and then, until told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    def end(self) -> None:
        self._over.set()

    def leave(self, failure: ProcessError) -> None:
        """End this process, whose main thread may be waiting for ever."""
        if not failure.told:
            print(f"Error: {failure}", file=sys.stderr, flush=True)
        os._exit(failure.status)


class _WatchParent(_Watch):
    """In a process that the first one started."""

    def __init__(self, parent: int) -> None:
        super().__init__()
        self._first = parent

    def run(self) -> None:
        while not self._over.wait(POLL):
            if os.getppid() != self._first:
                self.leave(ProcessError("the first process of this run has ended" + _GO_ON))


class _WatchChildren(_Watch):
    """In the process that started the others.

    Fabric has an observer of its own, which looks every five seconds and ends this process by SIGKILL, without a
    word; it is left with nothing to observe.

    Args:
        started: Fabric's list of child processes, empty until they are started.
        count: Processes on this machine, this one included.
    """

    def __init__(self, started: list[Child], count: int) -> None:
        super().__init__()
        self._list, self._count = started, count
        self._children: list[Child] = []

    def run(self) -> None:
        while not self._over.wait(POLL):
            if len(self._list) == self._count - 1:
                self._children = list(self._list)
                self._list.clear()
            failure = self.failure()
            if failure is not None and not self._over.wait(GRACE):
                self.kill()
                self.leave(failure)

    def failure(self, patience: float = 0.0) -> ProcessError | None:
        """Return what to say of the first child that failed, within `patience` seconds; None if none did."""
        deadline = time.monotonic() + patience
        while True:
            for rank, child in enumerate(self._children, start=1):
                status = child.poll()
                if status is not None and status < 0:
                    return ProcessError(
                        f"process {rank} of this run was ended by signal {-status}"
                        f"{' (often: too little memory)' if status == -9 else ''}{_GO_ON}"
                    )
                if status:
                    return ProcessError(f"process {rank} of this run ended with status {status}", status, told=True)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)

    def kill(self) -> None:
        """End all children."""
        for child in self._children:
            child.kill()
