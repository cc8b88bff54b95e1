"""The page itself, filled from a run's files and an evaluation."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError
from frugalseg.evaluation import CaseRow, Summary
from frugalseg.evaluation.text import render
from frugalseg.files import read_json_object, read_text, write_text
from frugalseg.report.agreement import PANELS, draw_agreement
from frugalseg.report.curves import draw_curves, draw_looks, read_columns
from frugalseg.report.pictures import PictureCase, draw_case
from frugalseg.report.template import template

CROP_RULE = (
    "Dice on training crops: of a step's labelled crops together. Only in the truth or only in the prediction: 0. "
    "In neither, or not annotated: no value. Ignored voxels are in neither."
)


@dataclass(frozen=True)
class EvaluationPart:
    """An evaluation, and the cases to show. `truth` says where the labels came from.

    `transductive`: the model trained on the images of its test cases.
    """

    summary: Summary
    rows: Sequence[CaseRow]
    pictures: Sequence[PictureCase]
    scheme: LabelScheme
    truth: str
    transductive: bool = False


def write_report(path: Path, run: Path | None, evaluation: EvaluationPart | None) -> None:
    """Write report.html from a run's folder, an evaluation, or both. What is missing is left out.

    Raises:
        DataError: The page, or a picture's file, cannot be written or read.
    """
    page = template("template.html").render(
        version=__version__,
        date=datetime.date.today().isoformat(),
        run=None if run is None else _run_part(run),
        evaluation=evaluation,
        crop_rule=CROP_RULE,
        table=None if evaluation is None else render(evaluation.summary),
        panels=PANELS,
        agreement=None if evaluation is None else draw_agreement(evaluation.summary, evaluation.rows),
        pictures=[]
        if evaluation is None
        else [(case, draw_case(case, evaluation.scheme)) for case in evaluation.pictures],
    )
    write_text(path, page)


def _run_part(run: Path) -> dict[str, Any]:
    part: dict[str, Any] = {"folder": run.name, "curves": [], "config": None, "seconds": None}
    for name in ("run", "plan", "split"):
        part[name] = _json(run / f"{name}.json")
    if (run / "config.yaml").exists():
        part["config"] = read_text(run / "config.yaml")
    if (run / "metrics.csv").exists():
        part["curves"] = draw_curves(run / "metrics.csv")
    if (run / "validation.csv").exists():
        part["curves"] += draw_looks(run / "validation.csv")
    if (run / "timing.csv").exists() and (timing := read_columns(run / "timing.csv")):
        part["seconds"] = float(timing["seconds"].mean())
        part["waiting"] = float(timing["waiting"].sum() / timing["seconds"].sum())
    return part


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return read_json_object(path)
    except DataError:
        return None
