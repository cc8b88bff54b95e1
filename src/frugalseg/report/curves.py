"""The curves of a training run, from its metrics.csv."""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.report.pictures import COLOURS, data_uri

POINTS = 1000
SMOOTH = 25  # steps of the running mean
PLACE = (0.18, 0.18, 0.76, 0.74)  # of a plot's axes in its figure: to find it out is half of the time of drawing
_NOT_LOSSES = (".accuracy", ".chance", ".gradient_ratio")


def read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the columns of a CSV of numbers; empty cells are NaN. Rows cut short by a killed run are left out."""
    return _columns(path.read_text(encoding="utf-8"))


def _columns(text: str) -> dict[str, NDArray[np.float64]]:
    rows = list(csv.reader(io.StringIO(text)))
    values = []
    for row in rows[1:]:
        if len(row) == len(rows[0]):
            try:
                values.append([float(cell) if cell else np.nan for cell in row])
            except ValueError:
                continue
    return dict(zip(rows[0], np.array(values).T, strict=True)) if values else {}


def running_mean(values: NDArray[np.float64], width: int = SMOOTH) -> NDArray[np.float64]:
    """Return the mean of the last `width` numbers at each place, NaN not counted."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - width)
    found = counts[stop] - counts[start]
    return np.where(found > 0, (sums[stop] - sums[start]) / np.maximum(found, 1), np.nan)


def draw_curves(path: Path) -> list[tuple[str, str]]:
    """Return (title, data URI) of each plot that metrics.csv has columns for; not of nothing but 0."""
    return list(_drawn(path.read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def _drawn(text: str) -> tuple[tuple[str, str], ...]:
    """Draw a run's curves; once for its own page and that of its evaluation, where they follow each other."""
    columns = {name: values for name, values in _columns(text).items() if np.nan_to_num(values).any()}
    groups = {
        "Losses": [n for n in columns if "." in n and not n.startswith("dice.") and not n.endswith(_NOT_LOSSES)],
        "Dice on training crops": [name for name in columns if name.startswith("dice.")],
        "Contrastive accuracy and chance": [n for n in columns if n.endswith((".accuracy", ".chance"))],
        "Gradient on the encoder: auxiliary task over segmentation": [
            name for name in columns if name.endswith("gradient_ratio")
        ],
        "Learning rate": [name for name in columns if name == "learning_rate"],
    }
    widths = {"Learning rate": 1}  # of the running mean: it has no noise
    return tuple(
        (title, _draw(columns, names, widths.get(title, SMOOTH))) for title, names in groups.items() if names
    )


def draw_looks(path: Path) -> list[tuple[str, str]]:
    """Return the plot of validation.csv: the mean Dice that chose the checkpoint, and each structure's."""
    columns = read_columns(path)
    names = [name for name in columns if name != "step"]
    return [("Dice on the validation cases", _draw(columns, names, width=1))] if names else []


def _draw(columns: dict[str, NDArray[np.float64]], names: list[str], width: int = SMOOTH) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.6), dpi=100)
    panel: Any = figure.add_axes(PLACE)
    panel.locator_params(nbins=6)
    panel.ticklabel_format(axis="y", scilimits=(-3, 4))  # a number of up to 9 characters has room beside the axes
    panel.tick_params(labelsize=9)
    steps = columns["step"]
    every = max(1, len(steps) // POINTS)
    for name, colour in zip(names, ("#0072B2", *COLOURS) * 40):
        panel.plot(steps[::every], columns[name][::every], color=colour, alpha=0.18, linewidth=0.7)
        panel.plot(
            steps[::every], running_mean(columns[name], width)[::every], color=colour, linewidth=1.6, label=name
        )
    panel.set_xlabel("step")
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    legend = panel.legend(frameon=False, fontsize=8 if len(names) < 10 else 5, ncols=1 + len(names) // 10)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return data_uri(figure)
