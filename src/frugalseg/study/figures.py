"""A study's figures: scores against the budget, paired differences, case by case; safe for colour-blind eyes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from frugalseg.study.compare import alike
from frugalseg.study.design import Design
from frugalseg.study.summary import MEASURES, PERFECT, StudySummary
from frugalseg.study.table import Row, scored_seeds, scores

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
MARKERS = "osD^vPX*"  # one more than colours: an eighth method is told apart from the first


def styles(design: Design) -> dict[str, dict[str, str]]:
    """Return colour and marker of every method; the marker tells them apart in grey, too."""
    return {
        name: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        for place, name in enumerate(design.recipes)
    }


def draw_curves(summary: StudySummary, design: Design, measure: str) -> Any:
    """Return a figure of a measure against the number of labels: mean, and the band of its first interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.0), dpi=110, layout="constrained")
    panel: Any = figure.subplots()
    for name, style in styles(design).items():
        points = [summary.point(name, labels, measure) for labels in design.budgets]
        there = [point for point in points if point is not None]
        if not there:
            continue
        budgets = [point.labels for point in there]
        label = f"{name} (floor: no unlabelled data)" if name == design.floor else name
        panel.plot(budgets, [point.mean for point in there], label=label, linewidth=1.6, markersize=5, **style)
        sure = [point for point in there if point.intervals]
        budgets = [point.labels for point in sure]
        low, high = ([getattr(point.interval, end) for point in sure] for end in ("low", "high"))
        if len(sure) > 1:
            panel.fill_between(budgets, low, high, color=style["color"], alpha=0.15, linewidth=0)
        else:
            panel.vlines(budgets, low, high, color=style["color"], alpha=0.5)
    top = design.ceiling
    ceiling = summary.point(top.method, top.labels, measure) if top is not None else None
    if top is not None and ceiling is not None:
        text = f"ceiling: {top.method}, all {top.labels} labels"
        panel.axhline(ceiling.mean, color="#555555", linestyle="--", linewidth=1.2, label=text)
    panel.set_xscale("log")
    panel.set_xticks(design.budgets, [str(budget) for budget in design.budgets])
    panel.minorticks_off()
    panel.set(xlabel="labelled cases", ylabel=f"{MEASURES[measure]}, mean of all structures")
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, frameon=False)
    return figure


def draw_pairs(summary: StudySummary, design: Design) -> Any | None:
    """Return a figure of the Dice differences of every comparison: a dot a label set, and mean with interval."""
    from matplotlib.figure import Figure

    chosen = [one for one in summary.comparisons if one.primary] or [
        one for one in summary.comparisons if design.floor in (one.first, one.second)
    ]
    if not chosen:
        return None
    figure = Figure(figsize=(6.2, 0.9 + 0.42 * len(chosen)), dpi=110, layout="constrained")
    panel: Any = figure.subplots()
    for place, one in enumerate(chosen):
        colour = styles(design)[one.first]["color"]
        panel.plot(one.result.differences, [place] * one.result.sets, "o", color=colour, alpha=0.45, markersize=5)
        interval = one.result.interval
        panel.hlines(place, interval.low, interval.high, color=colour, linewidth=2)
        panel.plot(one.result.difference, place, "|", color=colour, markersize=14, markeredgewidth=2)
    panel.axvline(0, color="#555555", linewidth=1)
    names = [f"{one.first} - {one.second}, {one.labels} labels{'' if one.primary else ' *'}" for one in chosen]
    panel.set_yticks(range(len(chosen)), names)
    panel.set_ylim(len(chosen) - 0.4, -0.6)  # the first on top
    panel.set_xlabel("difference in Dice (right of 0: the first is better)")
    panel.grid(axis="x", alpha=0.25)
    return figure


def draw_scatter(rows: Sequence[Row], design: Design, labels: int) -> Any | None:
    """Return a figure of each test case's Dice, the floor's across and each other method's up, at one budget."""
    from matplotlib.figure import Figure

    base = design.floor or design.methods[0]
    sets = {name: set(scored_seeds(rows, name, labels, "dice")) for name in design.recipes}
    others = [name for name in design.recipes if name != base and sets[name] & sets[base]]
    if not others:
        return None
    figure = Figure(figsize=(4.4, 4.2), dpi=110, layout="constrained")
    panel: Any = figure.subplots()
    low, high = 1.0, 0.0
    for name in others:
        seeds = tuple(sorted(sets[base] & sets[name]))
        own, other = (scores(rows, method, labels, seeds, "dice") for method in (base, name))
        tables = np.stack(alike(own, other, PERFECT["dice"]))
        scored = ~np.isnan(tables).any(axis=(0, 1))
        if not scored.any():
            continue
        across, up = (table[:, scored].mean(axis=0) for table in tables)
        low = min(low, float(across.min()), float(up.min()))
        high = max(high, float(across.max()), float(up.max()))
        style = styles(design)[name]
        panel.plot(across, up, linestyle="", alpha=0.6, markersize=4, label=name, **style)
    if low > high:  # no case has a score of both
        return None
    ends = (max(0.0, low - 0.02), min(1.0, high + 0.02))
    panel.plot(ends, ends, color="#555555", linewidth=1)
    panel.set(xlim=ends, ylim=ends, xlabel=f"Dice of {base}", ylabel="Dice")
    panel.set_title(f"Test cases, {labels} label{'' if labels == 1 else 's'}")
    panel.set_aspect("equal")
    panel.grid(alpha=0.25)
    panel.legend(fontsize=8, frameon=False)
    return figure
