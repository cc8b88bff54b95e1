"""Ctrl-C and SIGTERM: finish the step, save, leave. A second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class StopRequest:
    """Inside the `with` block, `signal` is the number of the signal that asked to stop, or None."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None:
            # Written past Python's buffers: a handler may interrupt a print.
            os.write(2, b"stopping: the step is finished and saved; Ctrl-C again leaves at once\n")
        self.signal = number


def ignore_signals(worker: int = 0) -> None:
    """Let the main process alone decide when to stop: for loader workers, which get a terminal's Ctrl-C as well.

    So does a batch system's SIGTERM to the whole group. A worker that died of it would end the run with an error
    before it is saved. Workers leave when the loader tells them to, or when the main process is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
