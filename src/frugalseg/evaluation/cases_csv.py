"""The table of cases as a CSV file: one line per row, read back exactly as it was written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import cast, get_args

from frugalseg.errors import DataError
from frugalseg.evaluation.table import METRICS, WITHOUT_VALUES, CaseRow, Status, check_names
from frugalseg.files import read_text, write_atomic

_COLUMNS = [field.name for field in fields(CaseRow)]


def write_cases_csv(path: Path, rows: Iterable[CaseRow]) -> None:
    """Write rows to a CSV file in UTF-8, atomically. An empty field is a value that does not exist.

    Numbers are written in full, so that reading them back gives the same ones.

    Raises:
        DataError: The file cannot be written, or a name cannot be held by a table.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        check_names(row.case, row.structure)
        writer.writerow("" if value is None else value for value in asdict(row).values())
    content = text.getvalue().encode()

    def write(file: Path) -> None:
        file.write_bytes(content)

    write_atomic(path, write)


def read_cases_csv(path: Path) -> list[CaseRow]:
    """Read what `write_cases_csv` wrote.

    Raises:
        DataError: The file is missing or has other columns, or a line has a value that its column cannot have.
    """
    lines = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[CaseRow] = []
    try:
        header = next(lines, [])
        if header != _COLUMNS:
            raise DataError(f"has columns {', '.join(header)!r}; expected {', '.join(_COLUMNS)!r}", path)
        for line in lines:
            rows.append(_parse(line))
    except (ValueError, csv.Error) as error:
        raise DataError(f"line {lines.line_num}: {error}", path) from error
    return rows


def _parse(line: Sequence[str]) -> CaseRow:
    if len(line) != len(_COLUMNS):
        raise ValueError(f"{len(line)} fields; expected {len(_COLUMNS)}")
    field = dict(zip(_COLUMNS, line, strict=True))
    check_names(field["case"], field["structure"])
    if field["status"] not in get_args(Status):
        raise ValueError(f"status is {field['status']!r}; expected one of {', '.join(get_args(Status))}")
    values = {name: _number(field, name) if field[name] else None for name in METRICS}
    if any((value is None) != (field["status"] in WITHOUT_VALUES) for value in values.values()):
        without = " or ".join(WITHOUT_VALUES)
        raise ValueError(f"{', '.join(METRICS)} must be empty where the status is {without}, and there alone")
    unknown = field["status"] == "not_annotated"
    if any((field[name] == "") != unknown for name in ("voxels_truth", "volume_truth_ml")):
        raise ValueError("the truth's sizes must be empty where the status is not_annotated, and there alone")
    if max(values["dice"] or 0.0, values["surface_dice"] or 0.0) > 1:
        raise ValueError(f"dice is {field['dice']}, surface_dice {field['surface_dice']}; neither can exceed 1")
    return CaseRow(
        case=field["case"],
        structure=field["structure"],
        status=cast(Status, field["status"]),
        **values,
        tolerance_mm=_number(field, "tolerance_mm"),
        voxels_truth=None if unknown else _count(field, "voxels_truth"),
        voxels_prediction=_count(field, "voxels_prediction"),
        volume_truth_ml=None if unknown else _number(field, "volume_truth_ml"),
        volume_prediction_ml=_number(field, "volume_prediction_ml"),
        voxels_ignored=_count(field, "voxels_ignored"),
    )


def _number(field: Mapping[str, str], name: str) -> float:
    try:
        value = float(field[name])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {field[name]!r}; expected a number, 0 or more")
    return value


def _count(field: Mapping[str, str], name: str) -> int:
    value = _number(field, name)
    if not value.is_integer():
        raise ValueError(f"{name} is {field[name]!r}; expected a whole number")
    return int(value)
