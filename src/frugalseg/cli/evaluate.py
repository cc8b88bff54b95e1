"""`frugalseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predictions.")],
    truth: Annotated[
        Path, typer.Argument(help="The data set or CSV (its test labels are read), or a folder of labels.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html, cases.csv and summary.json; must be new.")],
    tolerance: Annotated[float, typer.Option(min=0, help="Of surface Dice, in millimetres.")] = 1.0,
    cases: Annotated[Path | None, typer.Option(help="File naming the cases to score, one a line.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count truth cases without a prediction as missed.")
    ] = False,
    describe: Annotated[
        Path | None,
        typer.Option("--describe", help="JSON that says what the labels mean (CSV or folder of labels)."),
    ] = None,
) -> None:
    """Score predictions: Dice, HD95 and surface Dice per case and structure, in millimetres."""
    from frugalseg.data.budget import read_names
    from frugalseg.evaluation import render
    from frugalseg.jobs.evaluate import evaluate as job

    names = read_names(cases) if cases is not None else None
    result = job(predictions, truth, out, tolerance, names, allow_missing, describe)
    print(render(result.summary))
