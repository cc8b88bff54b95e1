"""The time that a cell takes, over all its sittings: a study that is stopped and goes on reports what it cost."""

from __future__ import annotations

import time
from pathlib import Path

from frugalseg.files import write_json
from frugalseg.formats import read_sealed, seal

SPENT_FORMAT = 1
SPENT = "spent.json"


class Clock:
    """Seconds that a cell took, pauses left out; what a killed sitting had not kept is lost.

    Raises:
        DataError: CELL/spent.json, which earlier sittings left, is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / SPENT
        self._before = float(read_sealed(self._path, SPENT_FORMAT)["seconds"]) if self._path.exists() else 0.0
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """What the cell took so far."""
        return self._before + time.monotonic() - self._begun

    def keep(self) -> None:
        """Write it, for a later sitting."""
        write_json(self._path, seal({"format_version": SPENT_FORMAT, "seconds": round(self.seconds, 3)}))

    def drop(self) -> None:
        """Remove what was kept: the cell is finished, and its record has it."""
        self._path.unlink(missing_ok=True)
