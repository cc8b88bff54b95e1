"""Kills the process it runs in, with SIGKILL, at a chosen event of a training run.

Not in the program: it wraps what the program calls. An event is any point between two effects that a run has on its
folder, or a point inside a step, a look or a row of a log. `Killer(at=None)` only counts.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frugalseg.jobs import ending
from frugalseg.jobs import validate as looking
from frugalseg.training import log as logging
from frugalseg.training import loop as looping
from frugalseg.training import state as saving


class Killer:
    """Counts events from 1 and kills at number `at`, or at the `nth` one of the kind `kind`."""

    def __init__(self, at: int | None = None, kind: str | None = None, nth: int = 1) -> None:
        self.at, self.kind, self.nth = at, kind, nth
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self.process = os.getpid()

    def event(self, kind: str) -> None:
        """Take note of an event in this process (not in a loader worker); perhaps die."""
        if os.getpid() != self.process:
            return
        fatal = self.is_fatal(kind)
        self.count += 1
        self.kinds[kind] += 1
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def is_fatal(self, kind: str) -> bool:
        """Whether the next event, being of this kind, is the one to die at."""
        return self.count + 1 == self.at or (kind == self.kind and self.kinds[kind] + 1 == self.nth)

    def around(self, owner: Any, name: str, kind: str | Callable[..., str]) -> None:
        """Make events before and after a call."""
        original = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            what = kind if isinstance(kind, str) else kind(*arguments)
            self.event(f"before {what}")
            result = original(*arguments, **options)
            self.event(f"after {what}")
            return result

        setattr(owner, name, wrapped)

    def install(self) -> None:
        """Wrap everything; for the rest of the process."""
        self.around(os, "replace", lambda old, new: f"rename to {_kind(new)}")
        self.around(os, "fsync", "fsync")
        self.around(saving, "save_file", "weights")
        self.around(looping.Loop, "step", "step")
        self.around(looking.Validation, "_case", "look")
        self.around(ending, "write_report", "report")
        self._rmtree()
        self._rows()

    def _rmtree(self) -> None:
        """Also die half-way through the removal of a folder."""
        original = shutil.rmtree

        def wrapped(path: Any, *arguments: Any, **options: Any) -> None:
            self.event("before removal")
            files = sorted(file for file in Path(path).rglob("*") if file.is_file())
            for file in files[: len(files) // 2]:
                file.unlink()
            self.event("half removal")
            original(path, *arguments, **options)
            self.event("after removal")

        shutil.rmtree = wrapped  # type: ignore[assignment]

    def _rows(self) -> None:
        """Also die with half a row of a log on the disk."""
        original = logging.CsvLog.write
        killer = self

        def wrapped(log: logging.CsvLog, step: int, values: Any) -> None:
            path = Path(log._file.name)
            killer.event(f"before row of {path.name}")
            original(log, step, values)
            if killer.is_fatal(f"half row of {path.name}"):
                log._file.flush()
                os.truncate(path, path.stat().st_size - 3)
            killer.event(f"half row of {path.name}")

        logging.CsvLog.write = wrapped  # type: ignore[method-assign,assignment]


def _kind(path: Any) -> str:
    """Name what is renamed to, without what is random in it."""
    return Path(path).name
