"""Putting a run's folder in order after a kill, before it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

from frugalseg.errors import DataError
from frugalseg.files import remove_temporary
from frugalseg.formats import NewerFormat
from frugalseg.jobs.show import say
from frugalseg.jobs.validate import Best
from frugalseg.training.seal import BEST, LAST, find_intact, put_back


def tidy(folder: Path) -> None:
    """Remove what a killed process left half-written in a run's folder. Only under the folder's lock."""
    for stale in (*folder.glob(f".{LAST}-*"), *folder.glob(f".{BEST}-*")):
        shutil.rmtree(stale, ignore_errors=True)
    remove_temporary(folder)


def still_best(folder: Path, best: Best) -> Best:
    """Return the best look whose checkpoint is still there, with that checkpoint in `folder` (RUN/best).

    A checkpoint newer than the last one is left alone: its look is done again, and writes it again.
    """
    if best.step == 0:
        return best
    try:
        found = find_intact(folder)
    except NewerFormat:
        raise
    except DataError:
        found = None
    if found is not None and found.problem is not None:
        say(put_back(found, folder))
    if found is not None and int(found.facts["step"]) >= best.step:
        return best
    kept = Best() if found is None else Best.from_json(found.facts["best"])
    how = f"the one of step {kept.step} counts as the best" if kept.step else "looks from here on choose anew"
    say(f"{folder}: no intact checkpoint of step {best.step} is left; {how}")
    return kept
