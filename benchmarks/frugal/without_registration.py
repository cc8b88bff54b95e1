"""The same runs of `frugal`, predicted without registered cases: what the network alone is.

    python -m benchmarks.frugal.without_registration STUDY DATA OUT [STORE]

Predicts and scores the test cases with every finished run STUDY/cells/frugal-*/run (a study keeps them unless it is
told not to) and writes OUT/cells.csv, whose method is `frugal-network-alone`; `benchmarks.frugal.reading` takes OUT
as it takes a study. What is there already is not made again.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from frugalseg.formats import read_sealed
from frugalseg.jobs.evaluate import evaluate
from frugalseg.jobs.predict import predict
from frugalseg.study.cell import CASES, CELL, CELL_FORMAT
from frugalseg.study.design import Cell
from frugalseg.study.table import write_cells

NAME = "frugal-network-alone"


def main(study: Path, data: Path, out: Path, store: Path | None = None) -> None:
    """Predict, score and join the tables."""
    found = []
    for record in sorted(study.glob(f"cells/frugal-[0-9]*/{CELL}")):
        facts = read_sealed(record, CELL_FORMAT)
        if facts["error"] is not None:
            continue
        cell = Cell(NAME, facts["labels"], facts["seed"])
        folder = out / "cells" / cell.name
        if not (folder / CASES).exists():
            shutil.rmtree(folder, ignore_errors=True)  # half of it, if anything
            predict(record.parent / "run", [data], folder / "predictions", register=False, store=store)
            evaluate(folder / "predictions", data, folder / "scores")
            shutil.copyfile(folder / "scores" / CASES, folder / CASES)
        found.append((cell, folder))
    write_cells(out / "cells.csv", sorted(found, key=lambda one: (one[0].labels, one[0].seed)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
