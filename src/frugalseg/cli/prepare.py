"""`frugalseg prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugalseg.cli.options import Data, Describe, LabelMaps


def prepare(
    data: Data,
    label_maps: LabelMaps = None,
    describe: Describe = None,
    store: Annotated[
        Path | None, typer.Option(help="Where prepared cases go; by default the user's cache.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Cases at a time.")] = None,
) -> None:
    """Orient, crop, normalise and store the training cases; `train` does it by itself where it is missing."""
    from frugalseg.data.source import DataSource
    from frugalseg.jobs.prepare import prepare as job

    job(DataSource(data, label_maps, describe), store, workers=workers)
