"""The command line. Each command is a short file that imports what it needs when it runs: help is instant."""

from __future__ import annotations

import os
import sys

import typer

from frugalseg.cli import check, demo, evaluate, predict, prepare, recipes, train
from frugalseg.errors import ProcessError, UserError

app = typer.Typer(
    help="Segment 3D biomedical images when only a handful are labelled. Research use, not a medical device.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)
app.command("check")(check.check)
app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("demo")(demo.demo)
app.add_typer(recipes.recipes, name="recipes")


@app.callback()
def options(debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error.")) -> None:
    """Read the options that stand before the command."""
    if debug:
        os.environ["FRUGALSEG_DEBUG"] = "1"


def main() -> None:
    """Run the command line: status 2 for wrong input, 1 for a failure of ours, one line for either."""
    debug = "--debug" in sys.argv
    try:
        app()
    except UserError as error:
        if debug:
            raise
        if not (isinstance(error, ProcessError) and error.told):
            print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if debug:
            raise
        line = " ".join(str(error).split())[:300]
        print(f"Internal error: {type(error).__name__}: {line} (--debug shows where)", file=sys.stderr)
        sys.exit(1)
