"""Join nnU-Net's scores of several budgets into a table as studies have it, so that one script reads both.

Command: python -m benchmarks.peers.nnunet.table OUT WORK
Reads WORK/LABELS-SEED/{record.json, scores/cases.csv}; writes OUT/cells.csv and OUT/LABELS-SEED.json.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

from frugalseg.files import write_text

METHOD = "nnunet"


def main(out: Path, work: Path) -> None:
    """Write the table and the records of the runs that are scored."""
    text = io.StringIO()
    writer = None
    for folder in sorted(work.iterdir()):
        scores, match = folder / "scores" / "cases.csv", re.fullmatch(r"(\d+)-(\d+)", folder.name)
        if match is None or not scores.exists():
            continue
        rows = list(csv.DictReader(scores.open()))
        if writer is None:
            writer = csv.DictWriter(text, ["method", "labels", "seed", *rows[0]], lineterminator="\n")
            writer.writeheader()
        writer.writerows({"method": METHOD, "labels": match[1], "seed": match[2], **row} for row in rows)
        record = json.loads((folder / "record.json").read_text())
        write_text(out / f"{folder.name}.json", json.dumps(record, indent=1) + "\n")
    write_text(out / "cells.csv", text.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
