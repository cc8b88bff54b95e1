"""What training writes down: metrics.csv (one row a step), timing.csv, and TensorBoard files.

metrics.csv holds only what a second run would repeat; times are kept apart in timing.csv.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from frugalseg.files import write_text

TENSORBOARD_EVERY = 10


class CsvLog:
    """A CSV file that grows by a row a step. Rows after the step that training goes on from are dropped.

    `kept` are the steps of the rows that were there before.
    """

    def __init__(self, path: Path, columns: list[str], after: int) -> None:
        self.columns = ["step", *columns]
        lines = [",".join(self.columns) + "\n"]
        self.kept: list[int] = []
        if path.exists():
            # A damaged byte must not stop a run whose checkpoint is intact; the row it is in shows it.
            with path.open(newline="", encoding="utf-8", errors="replace") as old:
                for line in old:
                    number = line.split(",", 1)[0]
                    if re.fullmatch("[0-9]{1,18}", number) and int(number) <= after and line.endswith("\n"):
                        self.kept.append(int(number))
                        lines.append(line)
        write_text(path, "".join(lines))
        self._file: TextIO = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row; a missing value or NaN (nothing to measure) leaves its cell empty."""
        cells = [values.get(name, math.nan) for name in self.columns[1:]]
        self._writer.writerow([step, *("" if math.isnan(cell) else f"{cell:.7g}" for cell in cells)])

    def flush(self) -> None:
        """Put the rows so far on the disk: a checkpoint may not be newer than its rows."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Log:
    """All logs of a run. `complete`: metrics.csv has the row of every step up to `after`."""

    def __init__(self, folder: Path, columns: list[str], after: int, tensorboard: bool = True) -> None:
        self.metrics = CsvLog(folder / "metrics.csv", columns, after)
        self.complete = self.metrics.kept == list(range(1, after + 1))
        self.timing = CsvLog(folder / "timing.csv", ["seconds", "waiting"], after)
        self._board: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)

    def write(self, step: int, values: Mapping[str, float], seconds: float, waiting: float) -> None:
        """Write one step: its scalars, how long it took, and how much of that it waited for samples (seconds)."""
        self.metrics.write(step, values)
        self.timing.write(step, {"seconds": seconds, "waiting": waiting})
        if self._board is not None and step % TENSORBOARD_EVERY == 0:
            for name, value in values.items():
                if not math.isnan(value):
                    self._board.add_scalar(name.replace(".", "/", 1), value, step)

    def flush(self) -> None:
        """Put everything on the disk."""
        self.metrics.flush()
        self.timing.flush()
        if self._board is not None:
            self._board.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except OSError:
            if kind is None:
                raise  # otherwise the first error says more

    def close(self) -> None:
        """Close all files."""
        self.metrics.close()
        self.timing.close()
        if self._board is not None:
            self._board.close()
