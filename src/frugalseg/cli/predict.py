"""`frugalseg predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugalseg.cli.options import Describe, KeepMade, LabelMaps, Store


def predict(
    run: Annotated[
        Path,
        typer.Argument(help="Folder of a training run, or of folds. With more of them after it they are averaged."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the predictions; must be new without --resume.")],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="More runs; then images, folders of images, or a data set or CSV (its test list)."),
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE, once for each of the model's channels, for one case.")
    ] = None,
    case: Annotated[str | None, typer.Option(help="Name of the case given by --channel.")] = None,
    flips: Annotated[bool | None, typer.Option("--flips/--no-flips", help="Average over mirrored copies.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write probabilities.")] = False,
    checkpoint: Annotated[str | None, typer.Option(help="last or best.")] = None,
    register: Annotated[
        bool,
        typer.Option(
            "--register/--no-register",
            help="Where the run gives registered labelled cases a share of its predictions: whether they have it.",
        ),
    ] = True,
    data: Annotated[
        Path | None, typer.Option(help="The data set that the run was trained on, if it was moved.")
    ] = None,
    label_maps: LabelMaps = None,
    describe: Describe = None,
    store: Store = None,
    resume: KeepMade = False,
) -> None:
    """Segment images, each on its own grid, with its own header."""
    from frugalseg.data.source import DataSource
    from frugalseg.errors import UserError
    from frugalseg.jobs.ensemble import is_trained
    from frugalseg.jobs.predict import predict as job

    named = {}
    for item in channel or []:
        name, equals, file = item.partition("=")
        if not equals or not name or not file:
            raise UserError(f"{item!r} is not of the form NAME=FILE, e.g. FLAIR=scan.nii.gz", "--channel")
        if name in named:
            raise UserError(f"{name!r} is given twice", "--channel")
        named[name] = Path(file)
    if data is None and (label_maps is not None or describe is not None):
        raise UserError("goes with --data, the data set that the run was trained on", "--label-maps, --describe")
    source = None if data is None else DataSource(data, label_maps, describe)
    given = paths or []
    more = next((place for place, path in enumerate(given) if not is_trained(path)), len(given))
    job(
        [run, *given[:more]],
        given[more:],
        out,
        named,
        case,
        flips,
        probabilities,
        checkpoint,
        register,
        source,
        store,
        resume,
    )
