"""`frugalseg check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(
    data: Annotated[Path, typer.Argument(help="Folder with dataset.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Look at every image and label before anything is trained; status 2 when training could not start."""
    import json

    from frugalseg.data import check as checking
    from frugalseg.data.manifest import read_manifest
    from frugalseg.jobs.show import bar

    count = len(read_manifest(data).training)
    with bar("checking", count) as advance:
        report = checking.check(data, advance)
    print(json.dumps(report.to_json(), indent=1) if as_json else checking.render(report))
    if not report.can_train:
        raise typer.Exit(2)
