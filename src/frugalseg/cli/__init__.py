"""The command line. Each command is a short file that imports what it needs when it runs: help is instant."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from frugalseg.cli import check, demo, evaluate, info, predict, prepare, pretrain, recipes, register, study, train
from frugalseg.errors import ProcessError, UserError, printable

app = typer.Typer(
    help="Segment 3D biomedical images when only a handful are labelled. Research use, not a medical device.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)
app.command("check")(check.check)
app.command("prepare")(prepare.prepare)
app.command("pretrain")(pretrain.pretrain)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("register")(register.register)
app.command("evaluate")(evaluate.evaluate)
app.command("study")(study.study)
app.command("info")(info.info)
app.command("demo")(demo.demo)
app.add_typer(recipes.recipes, name="recipes")


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Read the options that stand before the command."""
    if debug:
        os.environ["FRUGALSEG_DEBUG"] = "1"


class Stopped(BaseException):
    """Ctrl-C or SIGTERM where nothing is to be saved. Not KeyboardInterrupt, which typer takes for an exit."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"signal {number}")


def main() -> None:
    """Run the command line: status 2 for wrong input, 1 for a failure of ours, one line for either.

    Stopped by a signal: 128 and its number, 130 after Ctrl-C and 143 after SIGTERM. Every write is atomic, so
    outside training there is nothing to wait for; training saves first (`frugalseg.training.stop`).
    """
    debug = "--debug" in sys.argv
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except UserError as error:
        if debug:
            raise
        if not (isinstance(error, ProcessError) and error.told):
            print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except PermissionError as error:  # a folder on the way to a file that was named may not be entered
        if debug or error.filename is None:
            raise
        told = f"{error.filename}: may not be looked at ({error.strerror}); choose another, or ask for permission"
        print(f"Error: {printable(told)}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        _leave(128 + stopped.number)
    except Exception as error:
        if debug:
            raise
        line = " ".join(str(error).split())[:300]
        print(f"Internal error: {type(error).__name__}: {line} (--debug shows where)", file=sys.stderr)
        sys.exit(1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def _leave(status: int) -> NoReturn:
    """End at once, without waiting for threads that are half-way through a case."""
    print("stopped", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
