"""Do a method's predictions have the right size? By label set, from the rows of cells.csv."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frugalseg.evaluation.table import WITHOUT_VALUES
from frugalseg.study.design import Design
from frugalseg.study.table import Row, structures_of


def volume_bias(rows: Sequence[Row], method: str, labels: int, *structures: str) -> list[float]:
    """Return by how many percent volumes are too large, all cases and these structures together, by label set.

    Cases in which the structure is in neither, or was not annotated, do not count; a label set without any true
    volume has no number.
    """
    sums: dict[str, list[float]] = {}
    for row in rows:
        if (row["method"], row["labels"]) != (method, str(labels)) or row["structure"] not in structures:
            continue
        if row["status"] in WITHOUT_VALUES:
            continue
        both = sums.setdefault(row["seed"], [0.0, 0.0])
        both[0] += float(row["volume_truth_ml"])
        both[1] += float(row["volume_prediction_ml"])
    return [100 * (made / true - 1) for true, made in sums.values() if true > 0]


def volume_table(rows: Sequence[Row], design: Design) -> list[tuple[str, str, list[str]]]:
    """Return a structure, a method, and a cell of text for every budget: mean and spread over label sets in %."""
    found = []
    for structure in structures_of(rows):
        for name in design.recipes:
            biases = [volume_bias(rows, name, labels, structure) for labels in design.budgets]
            found.append((structure, name, [_describe(one) for one in biases]))
    return found


def _describe(biases: Sequence[float]) -> str:
    if not biases:
        return "-"
    spread = f" ± {np.std(biases, ddof=1):.1f}" if len(biases) > 1 else ""
    return f"{np.mean(biases):+.1f}{spread}"
