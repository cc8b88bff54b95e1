"""`frugalseg prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    data: Annotated[Path, typer.Argument(help="Folder with dataset.json.")],
    store: Annotated[
        Path | None, typer.Option(help="Where prepared cases go; by default the user's cache.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cases at a time.")] = None,
) -> None:
    """Orient, crop, normalise and store the training cases; `train` does it by itself where it is missing."""
    from frugalseg.jobs.prepare import prepare as job

    job(data, store, workers=workers)
