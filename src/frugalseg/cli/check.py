"""`frugalseg check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    data: Annotated[Path, typer.Argument(help="Folder with dataset.json, a CSV of paths, or a folder of images.")],
    label_maps: Annotated[
        Path | None, typer.Option("--label-maps", help="Folder of label maps, where DATA is a folder of images.")
    ] = None,
    describe: Annotated[
        Path | None,
        typer.Option("--describe", help="JSON that says what labels and channels mean (CSV or folders)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at every image and label before anything is trained; status 2 when training could not start."""
    import json

    from frugalseg.data import check as checking
    from frugalseg.data.manifest import DataSource, read_manifest
    from frugalseg.jobs.show import bar

    source = DataSource(data, label_maps, describe)
    count = len(read_manifest(source).training)
    with bar("checking", count) as advance:
        report = checking.check(source, advance)
    print(json.dumps(report.to_json(), indent=1) if as_json else checking.render(report))
    if not report.can_train:
        raise typer.Exit(2)
