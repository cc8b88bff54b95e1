"""`frugalseg demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, run, predictions and scores; must be new.")] = Path(
        "frugalseg-demo"
    ),
    minutes: Annotated[float, typer.Option(help="Length of training.")] = 2.4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo in --out.")] = False,
) -> None:
    """Run the whole job on made-up data: check, prepare, train, predict, evaluate; about 4 minutes on 2 cores."""
    from frugalseg.jobs.demo import demo as job

    result = job(out, minutes, overwrite)
    if isinstance(result, int):  # stopped by that signal
        raise typer.Exit(128 + result)
