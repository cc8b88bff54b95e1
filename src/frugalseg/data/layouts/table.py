"""A CSV of paths: one row a case, with its files, patient and role; a JSON of its name says what labels mean.

Columns: `case`, `image` or one `image:CHANNEL` for each channel, `label`, `group`, `role`, `annotated`. A test row
may name a label, which is handed out by `test_label_paths` alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.data.annotated import KEY
from frugalseg.data.imagetypes import case_name
from frugalseg.data.layouts.description import read_description
from frugalseg.data.layouts.listing import MAX_CASES, MAX_CHANNELS, Cases, Listing, channel_names, patients
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError, did_you_mean
from frugalseg.files import read_text

COLUMNS = ("case", "image", "label", "group", "role", "annotated")
ROLES = ("train", "validation", "test")
CHANNEL = "image:"
MAX_FIELD = 4096


@dataclass(frozen=True)
class Row:
    """A row of the table. `line` is its place in the file, the header being line 1."""

    line: int
    case: str
    images: tuple[Path | None, ...]
    label: Path | None
    group: str
    role: str
    annotated: tuple[str, ...] | None


def read(source: DataSource) -> Listing:
    """Read a CSV and the JSON beside it (or the one that `source` names).

    Raises:
        DataError: A row is malformed (its line is named), a column is unknown, a case is there twice, or the JSON
            says the same as a column does.
    """
    path = source.path
    beside = source.describe or path.with_suffix(".json")
    describe = beside if source.describe is not None or beside.exists() else None
    content = read_description(describe)
    columns, rows = _rows(path)
    named = tuple(column.removeprefix(CHANNEL) for column in columns if column.startswith(CHANNEL))
    told = channel_names(content, beside)
    if named and told is not None and told != named:
        raise DataError(
            f"names the channels {', '.join(told)}, and the CSV {', '.join(named)}, in this order", beside
        )
    for column, key in (("group", "groups"), ("annotated", KEY)):
        if column in columns and content.get(key):
            raise DataError(f"has {key!r}, and the CSV a column {column!r}; say it in one place", beside)
    chosen = tuple(row.case for row in rows if row.role == "validation")
    if chosen and content.get("validation"):
        raise DataError('has "validation", and the CSV rows of that role; say it in one place', beside)
    groups = {row.case: row.group for row in rows if row.group} or patients(content, beside)
    training, test = Cases(path, groups), Cases(path, groups)
    for row in rows:
        cases, label = (test, None) if row.role == "test" else (training, row.label)
        cases.add(row.case, row.images, label, f"row {row.line}: ")
    annotated: Any = {row.case: list(row.annotated) for row in rows if row.annotated is not None}
    return Listing(
        folder=path.parent,
        where=path,
        content=content,
        channels=named or told or ("image",),
        training=training.sorted(),
        test=test.sorted(),
        validation=chosen,
        groups=groups,
        annotated=annotated or content.get(KEY),
    )


def test_label_paths(path: Path) -> dict[str, Path]:
    """Return the labels of a CSV's test rows, by case. For `manifest.test_labels` and the lock only."""
    return {row.case: row.label for row in _rows(path)[1] if row.role == "test" and row.label is not None}


def _rows(path: Path) -> tuple[list[str], list[Row]]:
    text = read_text(path).removeprefix("\ufeff")  # as spreadsheets begin their files
    if "\0" in text:
        raise DataError("holds a zero byte; it is no CSV", path)
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    columns: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            fields = [cell.strip() for cell in cells]
            if not any(fields):
                continue
            if max(map(len, fields)) > MAX_FIELD:
                raise DataError(f"row {reader.line_num}: a field is longer than {MAX_FIELD} characters", path)
            if not columns:
                columns = _columns(fields, path)
            elif len(rows) >= MAX_CASES:
                raise DataError(f"has more than {MAX_CASES} rows", path)
            else:
                rows.append(_row(reader.line_num, columns, fields, path))
    except csv.Error as error:
        raise DataError(f"row {reader.line_num}: is not valid CSV: {error}", path) from error
    if not rows:
        raise DataError("has no row; expected a first line with the columns' names, then a case a line", path)
    return columns, rows


def _columns(names: list[str], path: Path) -> list[str]:
    """Hold the first line to the columns that there are."""
    if len(names) == 1 and ";" in names[0]:
        raise DataError("has its columns parted by semicolons; save it with commas", path)
    for name in names:
        if name not in COLUMNS and (not name.startswith(CHANNEL) or name == CHANNEL):
            raise DataError(
                f"has an unknown column {name[:60]!r}.{did_you_mean(name, COLUMNS)} Known: {', '.join(COLUMNS)}, "
                "and image:CHANNEL for a file a channel",
                path,
            )
        if names.count(name) > 1:
            raise DataError(f"has the column {name!r} twice", path)
    channels = [name for name in names if name.startswith(CHANNEL)]
    if ("image" in names) == bool(channels) or len(channels) > MAX_CHANNELS:
        raise DataError('needs either a column "image" or columns such as "image:T1w", "image:FLAIR"', path)
    if channels and "case" not in names:
        raise DataError('has a file a channel, and so needs a column "case"', path)
    return names


def _row(line: int, columns: list[str], fields: list[str], path: Path) -> Row:
    if len(fields) != len(columns):
        raise DataError(f"row {line}: has {len(fields)} fields, {len(columns)} were expected", path)
    cells = dict(zip(columns, fields, strict=True))
    role = cells.get("role") or "train"
    if role not in ROLES:
        raise DataError(
            f"row {line}: there is no role {role[:60]!r}.{did_you_mean(role, ROLES)} Known: {', '.join(ROLES)}",
            path,
        )
    # An empty cell: the case lacks that channel.
    images = [
        path.parent / cells[column] if cells[column] else None
        for column in columns
        if column == "image" or column.startswith(CHANNEL)
    ]
    first = next((image for image in images if image is not None), None)
    if first is None:
        raise DataError(f"row {line}: has no image; name one, or take the case out", path)
    label = path.parent / cells["label"] if cells.get("label") else None
    if role == "validation" and label is None:
        raise DataError(f"row {line}: a case for validation needs a label", path)
    if "case" in columns and not cells["case"]:
        raise DataError(f"row {line}: the case has no name", path)
    shown = tuple(word.strip() for word in cells.get("annotated", "").split(";") if word.strip()) or None
    case = cells.get("case") or case_name(first)
    return Row(line, case, tuple(images), label, cells.get("group", ""), role, shown)
