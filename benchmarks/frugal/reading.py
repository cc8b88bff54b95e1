"""How good is `frugal` with how many labels? Tables and figures from finished studies, nothing by hand.

Studies may differ in methods, budgets and label sets (few labels are read with more), not in what is scored. A run
that two of them have, or one with other cases, structures or another tolerance, is refused. The declared
comparisons are corrected together (Holm); all others are exploratory. Scores are means over test cases of each
case's mean over structures.

    python -m benchmarks.frugal.reading OUT STUDY [STUDY...]
    python -m benchmarks.frugal.reading OUT STUDY STUDY=long --sets 0-2

Reads STUDY/cells.csv and STUDY/cells/*/cell.json; writes OUT/reading.md and OUT/labels.png. With `=long` a study's
methods are called METHOD-long, so that two lengths can be compared. Of some label sets nothing was declared.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.evaluation.intervals import set_means
from frugalseg.files import hash_file
from frugalseg.formats import read_sealed
from frugalseg.study.cell import CASES, CELL, CELL_FORMAT
from frugalseg.study.compare import Paired, holm, paired
from frugalseg.study.design import parse_seeds
from frugalseg.study.summary import PERFECT
from frugalseg.study.table import Row, read_cells, scores, seeds_of, structures_of
from frugalseg.study.volumes import volume_bias

OURS = "frugal"
DECLARED = ("registration", "encdec-strong")
BUDGETS = (3, 6, 12, 24)
"""What `frugal` is compared with, and where, declared before the test cases were read. All 160 are trained once."""
COLOURS = {"frugal": "#D55E00", "encdec-strong": "#0072B2", "registration": "#009E73", "encdec": "#56B4E9",
           "frugal-network-alone": "#E69F00", "mean-teacher": "#CC79A7", "nnunet": "#000000"}  # fmt: skip
OTHER = "#999999"
MARKERS = "DosvPX^*"
POOR = 0.8
"""A case's Dice below which it is counted; chosen after the first look, for nothing but to describe."""


@dataclass(frozen=True)
class Results:
    """All rows of the studies, and what each run took: (method, labels, seed) to the facts of its cell.json."""

    rows: list[Row]
    taken: dict[tuple[str, int, int], dict[str, Any]]

    @property
    def budgets(self) -> tuple[int, ...]:
        """Numbers of labels, increasing."""
        return tuple(sorted({int(row["labels"]) for row in self.rows}))

    def methods(self, labels: int) -> tuple[str, ...]:
        """The methods of a budget, best first."""
        names = dict.fromkeys(row["method"] for row in self.rows if row["labels"] == str(labels))
        return tuple(sorted(names, key=lambda name: -self.means(name, labels, "dice").mean()))

    def means(self, method: str, labels: int, measure: str, structure: str | None = None) -> Any:
        """Return a mean over cases for every label set."""
        seeds = seeds_of(self.rows, method, labels)
        return set_means(scores(self.rows, method, labels, seeds, measure, structure))

    def poor(self, method: str, labels: int) -> str:
        """Return how many predictions are below `POOR`, of how many."""
        table = scores(self.rows, method, labels, seeds_of(self.rows, method, labels), "dice")
        return f"{int((table < POOR).sum())}/{int(np.isfinite(table).sum())}"

    def worst(self, method: str, labels: int) -> float:
        """Return the least score of a case, mean over label sets."""
        table = scores(self.rows, method, labels, seeds_of(self.rows, method, labels), "dice")
        return float(np.nanmin(table, axis=1).mean())

    def compare(self, first: str, second: str, labels: int, measure: str) -> Paired | None:
        """Compare over the label sets that both have; None without two of them."""
        ours, theirs = (set(seeds_of(self.rows, method, labels)) for method in (first, second))
        seeds = sorted(ours & theirs)
        if len(seeds) < 2:
            return None
        one, other = (scores(self.rows, method, labels, seeds, measure) for method in (first, second))
        return paired(one, other, PERFECT[measure])

    def joined(self, method: str, ends: Sequence[int], measure: str) -> list[float] | None:
        """Return the means at two budgets over the label sets that both have; None without two of them."""
        both = set.intersection(*(set(seeds_of(self.rows, method, labels)) for labels in ends))
        if len(both) < 2:
            return None
        return [
            float(set_means(scores(self.rows, method, labels, sorted(both), measure)).mean()) for labels in ends
        ]

    def steps(self, method: str, labels: int) -> str:
        """Return how many steps a method's runs took, which must be the same for all.

        Raises:
            ValueError: They differ: studies of different lengths were joined.
        """
        found = {
            facts["steps"] for (name, count, _), facts in self.taken.items() if (name, count) == (method, labels)
        }
        if len(found) > 1:
            raise ValueError(f"{method} with {labels} labels was trained {sorted(found)} steps; read them apart")
        return str(found.pop()) if found else "-"

    def minutes(self, method: str, labels: int, key: str) -> str:
        """Return the median minutes of a method's runs, by a key of cell.json (all sittings of a stopped one).

        What was not trained on a processor is named: its minutes are no others' minutes.
        """
        facts = [one for (name, count, _), one in self.taken.items() if (name, count) == (method, labels)]
        if not facts:
            return "-"
        devices = sorted({str(one["machine"]["device"]) for one in facts} - {"cpu"})
        found = f"{np.median([float(one[key]) / 60 for one in facts]):.1f}"
        return f"{found} ({', '.join(devices)})" if devices else found

    def volume(self, method: str, labels: int) -> str:
        """Return by how much the structures of all cases are too large in sum, in %, mean over label sets."""
        return f"{np.mean(volume_bias(self.rows, method, labels, *structures_of(self.rows))):+.1f}"


def read(studies: Sequence[str], sets: Collection[int] = ()) -> Results:
    """Read finished studies: folders, or FOLDER=NAME; of the label sets `sets`, or of all.

    Raises:
        ValueError: Two have the same run, its record is of another table, or runs were scored on other cases.
    """
    rows: list[Row] = []
    taken: dict[tuple[str, int, int], dict[str, Any]] = {}
    scored: dict[tuple[str, int, int], list[tuple[str, ...]]] = {}
    for folder, _, name in (text.partition("=") for text in studies):
        study, end = Path(folder), f"-{name}" if name else ""
        own: dict[tuple[str, int, int], list[tuple[str, ...]]] = {}
        for row in read_cells(study / "cells.csv"):
            if sets and int(row["seed"]) not in sets:
                continue
            row = {**row, "method": row["method"] + end}
            run = (row["method"], int(row["labels"]), int(row["seed"]))
            if run in scored:
                raise ValueError(f"{study}: {run} is in another study, too; which one is meant?")
            own.setdefault(run, []).append((row["case"], row["structure"], row["tolerance_mm"]))
            rows.append(row)
        for (method, labels, seed), what in own.items():
            cell = study / "cells" / f"{method.removesuffix(end)}-{labels}-{seed}"
            if what != next(iter((scored or own).values())):
                raise ValueError(f"{cell}: was scored on other cases, structures or with another tolerance")
            if (cell / CELL).exists():
                facts = taken[method, labels, seed] = read_sealed(cell / CELL, CELL_FORMAT)
                if hash_file(cell / CASES) != facts["cases_sha256"]:
                    raise ValueError(f"{cell}: {CELL} is of another {CASES}")
        scored |= own
    return Results(rows, taken)


def scores_table(results: Results, labels: int) -> str:
    """Return the scores of every method at a budget, best first."""
    structures = structures_of(results.rows)
    names = ["method", "steps", "label sets", "Dice", "sd over sets", "worst set", *structures, "worst case",
             f"below {POOR:.2f}", "HD95, mm", "surface Dice", "volume, %", "minutes of training",
             "minutes in all"]  # fmt: skip
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for method in results.methods(labels):
        dice = results.means(method, labels, "dice")
        values = [
            method,
            results.steps(method, labels),
            str(len(dice)),
            f"{dice.mean():.4f}",
            f"{np.std(dice, ddof=1):.4f}" if len(dice) > 1 else "-",
            f"{dice.min():.4f}",
            *(f"{results.means(method, labels, 'dice', name).mean():.4f}" for name in structures),
            f"{results.worst(method, labels):.3f}",
            results.poor(method, labels),
            f"{results.means(method, labels, 'hd95_mm').mean():.2f}",
            f"{results.means(method, labels, 'surface_dice').mean():.4f}",
            results.volume(method, labels),
            results.minutes(method, labels, "training_seconds") if results.steps(method, labels) != "0" else "0",
            results.minutes(method, labels, "seconds"),
        ]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def comparisons_table(results: Results, some: bool) -> str:
    """Return `frugal` against every other method at every budget; nothing was declared of `some` label sets."""
    pairs = [(other, labels) for labels in results.budgets for other in results.methods(labels) if other != OURS]
    found = {pair: results.compare(OURS, pair[0], pair[1], "dice") for pair in pairs}
    declared = [] if some else [(other, labels) for labels in BUDGETS for other in DECLARED]
    compared = [found.get(pair) for pair in declared]  # one that has no runs yet counts, with p = 1
    p_values = [one.p if one is not None and one.p is not None else 1.0 for one in compared]
    adjusted = dict(zip(declared, holm(p_values), strict=True))
    names = ["labels", f"{OURS} less", "", "label sets", "Dice (95 %)", "wins", "p", "p, Holm", "HD95, mm (95 %)"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for pair in pairs:
        one, far = found[pair], results.compare(OURS, pair[0], pair[1], "hd95_mm")
        if one is None or far is None:
            continue
        values = [
            str(pair[1]),
            pair[0],
            "declared" if pair in adjusted else "exploratory",
            str(one.sets),
            interval(one, 4),
            f"{one.wins}/{one.sets}",
            "-" if one.p is None else f"{one.p:.4f}",
            f"{adjusted[pair]:.4f}" if pair in adjusted else "-",
            interval(far, 3),
        ]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing is compared: that takes two label sets."


def interval(found: Paired, digits: int) -> str:
    """Return a mean difference and its 95 % interval."""
    low, high = found.interval.low, found.interval.high
    return f"{found.difference:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def draw(results: Results) -> Any:
    """Return a figure of Dice and HD95 against the number of labels.

    A dot is a label set, a mark their mean. Which sets they are moves a mean as much as labels do, so a line joins
    the means over the label sets that both its ends have, if there are two of them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), dpi=110, layout="constrained")
    panels: Any = figure.subplots(1, 2)
    names = dict.fromkeys(method for labels in results.budgets for method in results.methods(labels))
    ticks = [str(labels) for labels in results.budgets]
    titles = {"dice": "Dice (more is better)", "hd95_mm": "HD95, mm (less is better)"}
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        for place, method in enumerate(names):
            there = [labels for labels in results.budgets if method in results.methods(labels)]
            style: dict[str, Any] = {"color": COLOURS.get(method, OTHER)}
            shift = 1 + 0.03 * (place - (len(names) - 1) / 2)  # dots beside each other, not on each other
            for labels in there:
                dots = results.means(method, labels, measure)
                panel.plot([labels * shift] * len(dots), dots, "o", markersize=3, alpha=0.4, **style)
                label = method if measure == "dice" and labels == there[0] else None
                mark = MARKERS[place % len(MARKERS)]
                panel.plot(labels * shift, dots.mean(), mark, markersize=6, label=label, **style)
            for ends in pairwise(there):
                joined = results.joined(method, ends, measure)
                if joined is not None:
                    panel.plot([labels * shift for labels in ends], joined, linewidth=1.2, **style)
        panel.set_xscale("log")
        panel.set_xticks(results.budgets, ticks)
        panel.minorticks_off()
        panel.set(xlabel="labelled cases", ylabel=title)
        panel.grid(alpha=0.25)
    cases = len({row["case"] for row in results.rows})
    told = "a dot: a choice of labelled cases; a mark: their mean; a line: means of the choices that both ends have"
    figure.suptitle(f"{cases} test cases; {told}", fontsize=8.5)
    figure.legend(loc="outside lower center", ncols=min(6, len(names)), frameon=False, fontsize=9)
    return figure


def main(out: Path, studies: Sequence[str], sets: Collection[int] = ()) -> None:
    """Write the tables and the figure."""
    out.mkdir(parents=True, exist_ok=True)
    results = read(studies, sets)
    parts = [f"## {labels} labels\n\n{scores_table(results, labels)}\n" for labels in results.budgets]
    parts.append(f"## {OURS} against the others\n\n{comparisons_table(results, bool(sets))}\n")
    (out / "reading.md").write_text("\n".join(parts))
    draw(results).savefig(out / "labels.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="folder, or folder=name")
    parser.add_argument("--sets", type=parse_seeds, default=(), help="label sets, such as 0-2; by default all")
    given = parser.parse_args()
    main(given.out, given.studies, given.sets)
