"""What the studies of docs/studies/cpc.md found: tables and figures from their cells.csv, nothing by hand.

A ground is a study's setting (machine, width, steps), and may have several tables: a method with a number of labels
is read from the first that has it. Declared comparisons are corrected together within a ground (Holm); all others
are exploratory.

Command: python -m benchmarks.cpc.reading OUT NAME=CELLS.csv[,CELLS.csv...] ...
Writes OUT/reading.md, OUT/paired.png and OUT/curve-*.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.evaluation.intervals import set_means
from frugalseg.study.compare import Paired, holm, paired
from frugalseg.study.table import Row, read_cells, scores, seeds_of, structures_of

LABELS = 6
DECLARED = [("sscpcseg", "encdec"), ("sscpcseg", "permuted"), ("sscpcseg", "cpcseg"), ("pre-encdec", "encdec")]
FURTHER = [("sscpcseg", "encdec-time"), ("published-sscpcseg", "published-encdec")]
BASE = "encdec"
CURVE = ("encdec", "sscpcseg")
COLOURS = {"encdec": "#0072B2", "sscpcseg": "#D55E00"}


@dataclass(frozen=True)
class Ground:
    """A study's setting, and the rows of its tables."""

    name: str
    rows: list[Row]

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods at six labels, in the tables' order."""
        return tuple(dict.fromkeys(row["method"] for row in self.rows if row["labels"] == str(LABELS)))

    def compare(self, first: str, second: str, measure: str, structure: str | None = None) -> Paired | None:
        """Compare over the label sets that both have; None without two of them."""
        ours, theirs = (set(seeds_of(self.rows, method, LABELS)) for method in (first, second))
        seeds = sorted(ours & theirs)
        if len(seeds) < 2:
            return None
        one, other = (scores(self.rows, method, LABELS, seeds, measure, structure) for method in (first, second))
        return paired(one, other)


def read(name: str, paths: Sequence[Path]) -> Ground:
    """Read a ground's tables; NAME:PATH gives a table's one method another name."""
    rows: list[Row] = []
    for path in paths:
        known = {(row["method"], row["labels"]) for row in rows}
        renamed, _, place = str(path).rpartition(":")
        own = [{**row, "method": renamed} if renamed else row for row in read_cells(Path(place))]
        rows += [row for row in own if (row["method"], row["labels"]) not in known]
    return Ground(name, rows)


def interval(found: Paired | None, digits: int = 4) -> str:
    """Return a mean difference and its 95 % interval."""
    if found is None:
        return "-"
    return f"{found.difference:+.{digits}f} ({found.interval.low:+.{digits}f} to {found.interval.high:+.{digits}f})"


def scores_table(ground: Ground) -> str:
    """Return every method's scores at six labels."""
    structures = structures_of(ground.rows)
    names = ["method", "sets", "Dice", "sd over sets", "HD95, mm", *(f"{name}: Dice" for name in structures)]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for method in ground.methods:
        seeds = seeds_of(ground.rows, method, LABELS)
        dice = set_means(scores(ground.rows, method, LABELS, seeds, "dice"))
        far = set_means(scores(ground.rows, method, LABELS, seeds, "hd95_mm"))
        each = [set_means(scores(ground.rows, method, LABELS, seeds, "dice", name)).mean() for name in structures]
        spread = f"{np.std(dice, ddof=1):.4f}" if len(seeds) > 1 else "-"
        values = [
            method,
            str(len(seeds)),
            f"{dice.mean():.4f}",
            spread,
            f"{far.mean():.2f}",
            *(f"{v:.4f}" for v in each),
        ]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def comparisons_table(ground: Ground) -> str:
    """Return the declared comparisons, and every method against the floor."""
    structures = structures_of(ground.rows)
    pairs = DECLARED
    compared = [ground.compare(*pair, "dice") for pair in pairs]  # one that has no runs yet counts, with p = 1
    adjusted = holm([found.p if found is not None and found.p is not None else 1.0 for found in compared])
    others = [(m, BASE) for m in ground.methods if m != BASE and (m, BASE) not in DECLARED]
    others += [pair for pair in FURTHER if set(pair) <= set(ground.methods)]
    names = ["comparison", "", "sets", "Dice (95 %)", "wins", "p", "p, Holm", "HD95, mm (95 %)",
             *(f"{name}: Dice" for name in structures)]  # fmt: skip
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for place, (first, second) in enumerate([*pairs, *others]):
        found = ground.compare(first, second, "dice")
        if found is None:
            continue
        declared = place < len(pairs)
        kind = "declared" if declared else "exploratory"
        p = "-" if found.p is None else f"{found.p:.3f}"
        values = [f"{first} - {second}", kind, str(found.sets), interval(found), f"{found.wins}/{found.sets}", p]
        values += [f"{adjusted[place]:.3f}" if declared else "-"]
        values += [interval(ground.compare(first, second, "hd95_mm"), 2)]
        values += [interval(ground.compare(first, second, "dice", name)) for name in structures]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def curve_table(ground: Ground) -> str:
    """Return both main methods at every number of labels, and their difference."""
    lines = ["| labels | sets | encdec | sscpcseg | difference (95 %) | HD95, mm, difference |", "|---" * 6 + "|"]
    for labels in budgets(ground):
        seeds = sorted(set.intersection(*(set(seeds_of(ground.rows, method, labels)) for method in CURVE)))
        if len(seeds) < 2:
            continue
        tables = [scores(ground.rows, method, labels, seeds, "dice") for method in reversed(CURVE)]
        far = [scores(ground.rows, method, labels, seeds, "hd95_mm") for method in reversed(CURVE)]
        means = [set_means(table).mean() for table in reversed(tables)]
        lines.append(f"| {labels} | {len(seeds)} | {means[0]:.4f} | {means[1]:.4f} | {interval(paired(*tables))} | "
                     f"{interval(paired(*far), 2)} |")  # fmt: skip
    return "\n".join(lines)


def budgets(ground: Ground) -> list[int]:
    """Return the numbers of labels that both main methods have."""
    found = [{int(row["labels"]) for row in ground.rows if row["method"] == method} for method in CURVE]
    return sorted(set.intersection(*found))


def draw_paired(grounds: Sequence[Ground]) -> Any:
    """Return a figure of every method's Dice less the floor's: a dot a label set, mean and interval."""
    from matplotlib.figure import Figure

    height = 1.2 + 0.32 * sum(len(ground.methods) for ground in grounds)
    figure = Figure(figsize=(7.4, height), dpi=110, layout="constrained")
    panels = figure.subplots(len(grounds), 1, squeeze=False, sharex=True,
                             height_ratios=[len(ground.methods) for ground in grounds])[:, 0]  # fmt: skip
    for panel, ground in zip(panels, grounds, strict=True):
        # Of a tenth of a Dice beside differences of a hundredth nothing could be seen.
        names = [m for m in ground.methods if m != BASE and not m.startswith("published")]
        names = [method for method in names if ground.compare(method, BASE, "dice")]
        for place, method in enumerate(names):
            found = ground.compare(method, BASE, "dice")
            assert found is not None
            panel.plot(found.differences, [place] * found.sets, "o", color="#56B4E9", markersize=4, alpha=0.7)
            panel.plot([found.interval.low, found.interval.high], [place, place], color="#000000", linewidth=1.6)
            panel.plot([found.difference], [place], "D", color="#D55E00", markersize=6)
        panel.axvline(0, color="#555555", linewidth=1)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_title(f"{ground.name}: Dice less EncDec's", fontsize=10, loc="left")
        panel.grid(axis="x", alpha=0.25)
    panels[-1].set_xlabel("difference of mean Dice: label sets (dots), mean and 95 % interval")
    return figure


def draw_curve(ground: Ground) -> Any:
    """Return a figure of both main methods against the number of labels: a thin line a label set, and the means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.0), dpi=110, layout="constrained")
    panel: Any = figure.subplots()
    for method in CURVE:
        there = budgets(ground)
        seeds = [seed for seed in seeds_of(ground.rows, method, there[0])
                 if all(seed in seeds_of(ground.rows, method, labels) for labels in there)]  # fmt: skip
        values = np.array([set_means(scores(ground.rows, method, labels, seeds, "dice")) for labels in there])
        panel.plot(there, values, color=COLOURS[method], linewidth=0.7, alpha=0.35)
        panel.plot(there, values.mean(axis=1), "o-", color=COLOURS[method], linewidth=2, label=method)
    panel.set_xscale("log")
    panel.set_xticks(budgets(ground), [str(labels) for labels in budgets(ground)])
    panel.minorticks_off()
    panel.set(xlabel="labelled cases", ylabel="Dice, mean of both structures", title=ground.name)
    panel.grid(alpha=0.25)
    panel.legend(frameon=False)
    return figure


def main(out: Path, words: Sequence[str]) -> None:
    """Write the tables and figures."""
    out.mkdir(parents=True, exist_ok=True)
    grounds = []
    for word in words:
        name, _, paths = word.partition("=")
        grounds.append(read(name, [Path(path) for path in paths.split(",")]))
    parts = []
    for ground in grounds:
        parts += [
            f"## {ground.name}\n",
            f"### Six labels\n\n{scores_table(ground)}\n",
            f"{comparisons_table(ground)}\n",
        ]
        if len(budgets(ground)) > 1:
            parts.append(f"### The number of labels\n\n{curve_table(ground)}\n")
            word = ground.name.split()[0].strip(":,").lower()
            draw_curve(ground).savefig(out / f"curve-{word}.png")
    draw_paired(grounds).savefig(out / "paired.png")
    (out / "reading.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
