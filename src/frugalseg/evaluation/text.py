"""The summary as a table of plain text, at most 110 columns wide, with the empty-mask rule under it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from frugalseg.evaluation.summary import Statistics, Summary

WIDTH = 110
_CASE = 24
_COLUMNS = (
    ("structure", 18),
    ("cases", 5),
    ("missed", 6),
    ("spurious", 8),
    ("empty", 5),
    ("Dice", 5),
    ("sd", 5),
    ("95 % interval", 14),
    ("median", 6),
    ("min", 5),
    ("HD95 mm", 8),
    ("median", 6),
    ("sDice", 5),
)
# With structures that were not annotated in every case: one column more, as wide as before.
_IN_PART = (("structure", 14), *_COLUMNS[1:5], ("n/a", 3), *_COLUMNS[5:])


def render(summary: Summary) -> str:
    """Return the table of a summary, ending in a line break.

    The first line of numbers is the data set's: the mean over cases of each case's mean over its structures.
    """
    columns = _IN_PART if summary.n_cases_in_part else _COLUMNS
    total = [str(summary.n_cases), "", "", str(summary.n_cases_empty), *([""] if summary.n_cases_in_part else [])]
    table = [[title for title, _ in columns], ["all structures", *total, *_cells(summary.overall)]]
    parts = dict(summary.structures)
    if summary.any_foreground is not None:
        parts["any foreground" if summary.n_cases_in_part else "(any foreground)"] = summary.any_foreground
    for name, part in parts.items():
        counts = [part.n_cases, part.n_missed, part.n_spurious, part.n_both_empty]
        counts += [part.n_not_annotated] if summary.n_cases_in_part else []
        table.append([name, *map(str, counts), *_cells(part.statistics)])
    head, *lines = (_line(cells, [width for _, width in columns]) for cells in table)
    lines = [head, "-" * WIDTH, *lines]
    lines.append("-" * WIDTH)
    lines += textwrap.wrap(summary.rule, WIDTH)
    reading = (
        f"sDice: surface Dice at {summary.tolerance_mm:g} mm. All structures: mean over cases of each case's mean. "
        "Any foreground: in no mean."
    )
    lines += textwrap.wrap(reading, WIDTH)
    if summary.n_cases_ignored:
        told = (
            f"Ignored: {summary.voxels_ignored} voxels in {summary.n_cases_ignored} of {summary.n_cases} cases, "
            "where the truth says nothing; they were taken out of truth and prediction."
        )
        lines += textwrap.wrap(told, WIDTH)
    sizes = [f"{_short(name, 18):18} {part.volume.describe()}" for name, part in parts.items() if part.volume]
    if sizes:
        lines += ["Volume, prediction less truth:", *sizes]
    for word, score in summary.examples.items():
        means = score.means
        lines.append(
            f"{word:6} case  {_short(score.case, _CASE):{_CASE}}  Dice {means['dice']:.3f}, "
            f"HD95 {means['hd95_mm']:.2f} mm, surface Dice {means['surface_dice']:.3f}"
        )
    if summary.without_prediction:
        names = ", ".join(summary.without_prediction)
        text = f"Without a prediction, counted as missed ({len(summary.without_prediction)}): {names}"
        lines += textwrap.wrap(text, WIDTH, max_lines=3, placeholder=" ...")
    return "\n".join(lines) + "\n"


def _cells(values: Mapping[str, Statistics | None]) -> list[str]:
    dice, distance, surface = (values[metric] for metric in ("dice", "hd95_mm", "surface_dice"))
    if dice is None or distance is None or surface is None:
        return ["-"] * 8
    spread = ["-", "-"]
    if dice.sd is not None and dice.low is not None and dice.high is not None:
        spread = [f"{dice.sd:.3f}", f"[{dice.low:.3f}, {dice.high:.3f}]"]
    overlap = [f"{dice.mean:.3f}", *spread, f"{dice.median:.3f}", f"{dice.minimum:.3f}"]
    return [*overlap, f"{distance.mean:.2f}", f"{distance.median:.2f}", f"{surface.mean:.3f}"]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Join one cell per column: the name to the left, numbers to the right."""
    first, *widths = widths
    right = [f"{cell:>{width}}" for cell, width in zip(cells[1:], widths, strict=True)]
    return " ".join([f"{_short(cells[0], first):{first}}", *right])


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."
