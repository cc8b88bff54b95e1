"""`frugalseg register`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugalseg.cli.options import KeepMade, Store


def register(
    data: Annotated[Path, typer.Argument(help="Data set with test images.")],
    out: Annotated[Path, typer.Option(help="Folder for the label maps; must be new without --resume.")],
    labels: Annotated[int | None, typer.Option(help="How many labels may be read; all of them by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of labelled cases.")] = 0,
    labelled: Annotated[Path | None, typer.Option(help="File that names the labelled cases, one a line.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write probabilities.")] = False,
    recipe: Annotated[Path | None, typer.Option(help="Recipe file, instead of `registration`.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="e.g. atlas.registration.start=affine; repeatable."),
    ] = None,
    store: Store = None,
    resume: KeepMade = False,
) -> None:
    """Label test images by deforming labelled ones onto them: no training, a floor for every comparison."""
    from frugalseg.jobs.register import register as job

    job(data, out, labels, seed, labelled, recipe or "registration", settings or (), store, probabilities, resume)
