"""Running a command line inside this process, with everything that it would have printed."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from frugalseg.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended. `lines`: what it printed on standard error, warnings and log lines included."""

    status: int
    lines: tuple[str, ...]
    printed: str


def run(arguments: Sequence[object]) -> Done:
    """Run `frugalseg ARGUMENTS`."""
    out, error = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams = [
        (handler, handler.stream)
        for handler in logging.getLogger("nibabel.global").handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    old, sys.argv = sys.argv, ["frugalseg", *map(str, arguments)]
    status = 0
    try:
        for handler, _ in streams:
            handler.setStream(error)
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(error),
        ):
            warnings.simplefilter("always")
            try:
                main()
            except SystemExit as left:
                status = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.argv = old
        for handler, stream in streams:
            handler.setStream(stream)
        for number, known in handlers.items():
            signal.signal(number, known)
    told = [f"{item.category.__name__}: {item.message}" for item in caught if not _hidden(item.category)]
    return Done(status, (*error.getvalue().splitlines(), *told), out.getvalue())


def _hidden(category: type[Warning]) -> bool:
    """Whether Python shows such a warning to nobody by default."""
    return issubclass(category, DeprecationWarning | PendingDeprecationWarning | ImportWarning | ResourceWarning)
