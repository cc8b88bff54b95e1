"""cells.csv: a row for every method, budget, label set, case and structure; and tables of scores from it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from frugalseg.errors import DataError
from frugalseg.evaluation.intervals import Scores
from frugalseg.evaluation.table import ANY_FOREGROUND
from frugalseg.files import read_text, write_text
from frugalseg.study.cell import CASES
from frugalseg.study.design import Cell

KEYS = ("method", "labels", "seed")
Row = dict[str, str]


def write_cells(path: Path, cells: Iterable[tuple[Cell, Path]]) -> None:
    """Join the cells' cases.csv into one table, in the order of the cells.

    Raises:
        DataError: A cell's table cannot be read, or has other columns.
    """
    text = io.StringIO()
    writer = None
    for cell, folder in cells:
        rows = list(csv.DictReader(io.StringIO(read_text(folder / CASES))))
        if not rows:
            raise DataError("holds no rows", folder / CASES)
        if writer is None:
            writer = csv.DictWriter(text, [*KEYS, *rows[0]], lineterminator="\n")
            writer.writeheader()
        try:
            writer.writerows(
                {"method": cell.method, "labels": cell.labels, "seed": cell.seed, **row} for row in rows
            )
        except ValueError as error:
            raise DataError("has other columns than the other cells' tables", folder / CASES) from error
    write_text(path, text.getvalue())


def read_cells(path: Path) -> list[Row]:
    """Read what `write_cells` wrote."""
    return list(csv.DictReader(io.StringIO(read_text(path))))


def structures_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the scored structures in the table's order."""
    return tuple(dict.fromkeys(row["structure"] for row in rows if row["structure"] != ANY_FOREGROUND))


def scores(
    rows: Sequence[Row], method: str, labels: int, seeds: Sequence[int], measure: str, structure: str | None = None
) -> Scores:
    """Return the table (label sets, cases) of a measure; NaN where a case has no score.

    Args:
        rows: Rows of cells.csv.
        method: Name of the method.
        labels: The budget.
        seeds: The label sets, one row each.
        measure: A column: dice, hd95_mm, surface_dice or assd_mm.
        structure: One structure; by default each case's mean over its counted structures.

    Raises:
        DataError: A label set has no rows.
    """
    cases = list(dict.fromkeys(row["case"] for row in rows))
    place = {case: index for index, case in enumerate(cases)}
    found: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        if row["method"] != method or row["labels"] != str(labels) or not row[measure]:
            continue
        wanted = row["structure"] == structure if structure else row["structure"] != ANY_FOREGROUND
        if wanted:
            found.setdefault((int(row["seed"]), row["case"]), []).append(float(row[measure]))
    table = np.full((len(seeds), len(cases)), np.nan)
    for (seed, case), values in found.items():
        if seed in seeds:
            table[seeds.index(seed), place[case]] = np.mean(values)
    empty = [seed for seed, line in zip(seeds, table, strict=True) if np.isnan(line).all()]
    if empty:
        raise DataError(f"has no score of {method} with {labels} labels of label set {empty[0]}")
    return table


def seeds_of(rows: Sequence[Row], method: str, labels: int) -> tuple[int, ...]:
    """Return the label sets that the table has of a method and budget."""
    seeds = {int(row["seed"]) for row in rows if row["method"] == method and row["labels"] == str(labels)}
    return tuple(sorted(seeds))


def scored_seeds(
    rows: Sequence[Row], method: str, labels: int, measure: str, structure: str | None = None
) -> tuple[int, ...]:
    """Return the label sets of which `scores` has a table: others have no score of the structure in any case.

    That is so where nobody annotated it, and where it is in no truth and was rightly found in none.
    """
    return seeds_of(
        [
            row
            for row in rows
            if row[measure] and (row["structure"] == structure if structure else row["structure"] != ANY_FOREGROUND)
        ],
        method,
        labels,
    )
