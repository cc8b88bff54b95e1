"""Predicted less true volume against their mean, a panel for each structure (Bland, Altman 1986)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from frugalseg.evaluation import CaseRow, Summary
from frugalseg.evaluation.volumes import volumes
from frugalseg.report.pictures import COLOURS, data_uri

PANELS = 12  # more are not looked at; the table has all
COLUMNS = 3


def draw_agreement(summary: Summary, rows: Sequence[CaseRow]) -> str | None:
    """Return a figure as a data URI; None where no structure has two cases that count."""
    from matplotlib.figure import Figure

    shown = [name for name, part in summary.structures.items() if part.volume and part.volume.n > 1][:PANELS]
    if not shown:
        return None
    columns = min(COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * lines), dpi=100, layout="constrained")
    panels: Any = figure.subplots(lines, columns, squeeze=False)
    for panel, name in zip(panels.flat, shown, strict=False):
        pairs = volumes([row for row in rows if row.structure == name])
        found = summary.structures[name].volume
        assert found is not None
        panel.axhline(0, color="#bbb", linewidth=0.8)
        panel.plot(pairs.mean(axis=1), pairs[:, 1] - pairs[:, 0], "o", markersize=4, alpha=0.7, color=COLOURS[5])
        panel.axhline(found.difference_ml, color=COLOURS[6], linewidth=1.2)
        for limit in (found.low_ml, found.high_ml):
            panel.axhline(limit, color=COLOURS[6], linewidth=1, linestyle="--")
        panel.set_title(name if len(name) <= 30 else name[:27] + "...", fontsize=9)
        panel.set_xlabel("mean of both, ml", fontsize=8)
        panel.set_ylabel("prediction - truth, ml", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.locator_params(nbins=5)
    for panel in list(panels.flat)[len(shown) :]:
        panel.set_visible(False)
    return data_uri(figure)
