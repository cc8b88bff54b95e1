"""The command that makes a study, for its page and for whoever repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from frugalseg.study.design import Design


def command_line(
    data: Path, out: Path, design: Design, length: Sequence[str], overrides: Sequence[str], keep: bool
) -> str:
    """Return the command of a study, quoted for a shell.

    Args:
        data: The data set.
        out: The study's folder.
        design: Its cells.
        length: The options that say how long each run trains.
        overrides: Settings.
        keep: Whether runs and predictions stay.
    """
    words = ["frugalseg", "study", str(data), "--methods", ",".join(str(design.recipes[m]) for m in design.methods)]
    words += ["--labels", ",".join(map(str, design.budgets)), "--label-seeds", seeds_text(design.seeds)]
    words += length
    floor = design.floor
    words += ["--floor", "none" if floor is None else str(design.recipes[floor])]
    words += [] if design.ceiling is not None else ["--no-ceiling"]
    for one in design.primary:
        words += ["--primary", f"{one.first}:{one.second}@{one.labels}"]
    for setting in overrides:
        words += ["--set", setting]
    words += [] if keep else ["--no-keep"]
    return shlex.join([*words, "--out", str(out)])


def seeds_text(seeds: Sequence[int]) -> str:
    """Return seeds as `--label-seeds` takes them: "100-104"; "3-3" for one, since "3" is a number of sets."""
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join(map(str, seeds))
