"""`frugalseg prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    data: Annotated[Path, typer.Argument(help="Folder with dataset.json, a CSV of paths, or a folder of images.")],
    label_maps: Annotated[
        Path | None, typer.Option("--label-maps", help="Folder of label maps, where DATA is a folder of images.")
    ] = None,
    describe: Annotated[
        Path | None,
        typer.Option("--describe", help="JSON that says what labels and channels mean (CSV or folders)."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Where prepared cases go; by default the user's cache.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cases at a time.")] = None,
) -> None:
    """Orient, crop, normalise and store the training cases; `train` does it by itself where it is missing."""
    from frugalseg.data.source import DataSource
    from frugalseg.jobs.prepare import prepare as job

    job(DataSource(data, label_maps, describe), store, workers=workers)
