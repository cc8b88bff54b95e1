"""What a study's runs took, and on which devices they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.formats import read_sealed
from frugalseg.study.cell import CELL, CELL_FORMAT
from frugalseg.study.design import Design


@dataclass(frozen=True)
class Took:
    """A method's runs at a budget: medians over label sets in minutes, and the devices in alphabetical order.

    A stopped run's minutes are those of all its sittings.
    """

    training: float
    in_all: float
    devices: tuple[str, ...]

    def describe(self) -> str:
        """Say it in a cell of a table."""
        return f"{self.training:.3g} ({self.in_all:.3g}), {' and '.join(self.devices)}"


def took(folder: Path, design: Design) -> dict[tuple[str, int], Took]:
    """Return what the finished runs took, by method and budget.

    Raises:
        DataError: A cell's record is damaged.
    """
    records: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in design.cells:
        path = folder / "cells" / cell.name / CELL
        if not path.exists():
            continue
        facts = read_sealed(path, CELL_FORMAT)
        if facts["error"] is None:
            records.setdefault((cell.method, cell.labels), []).append(facts)
    return {key: _median(found) for key, found in records.items()}


def _median(records: Sequence[dict[str, Any]]) -> Took:
    minutes = [
        float(np.median([float(one[key]) for one in records])) / 60 for key in ("training_seconds", "seconds")
    ]
    devices = {str(one["machine"].get("device", "cpu")) for one in records}
    return Took(minutes[0], minutes[1], tuple(sorted(devices)))
