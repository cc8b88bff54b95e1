"""What a study leaves: summary.json, figures as files, and report.html, one page that needs nothing else."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.evaluation.summary import RULE
from frugalseg.files import write_bytes, write_json, write_text
from frugalseg.report.pictures import png, png_uri
from frugalseg.report.template import template
from frugalseg.study.compare import Paired
from frugalseg.study.design import Design
from frugalseg.study.figures import draw_curves, draw_pairs, draw_scatter
from frugalseg.study.summary import MEASURES, Point, StudySummary, summarise
from frugalseg.study.table import read_cells
from frugalseg.study.took import Took, took
from frugalseg.study.volumes import volume_table

FORMAT_VERSION = 1
INCOMPLETE = (
    "Where some label sets have no run, or no score, the mean is of the others, which may be easier: compare "
    "methods by their differences on the label sets that both have"
)
CHECKPOINT_RULE = "the last checkpoint of every run; no label beyond the budget was read, and none of a test case"


def write_study_report(
    folder: Path, design: Design, facts: Mapping[str, Any], failed: Sequence[tuple[str, str]]
) -> StudySummary:
    """Write STUDY/summary.json, STUDY/figures and STUDY/report.html from STUDY/cells.csv.

    Args:
        folder: The study's folder.
        design: Its design.
        facts: What study.json holds.
        failed: Name and error of the cells that failed.

    Raises:
        DataError: A file cannot be written.
    """
    rows = read_cells(folder / "cells.csv")
    summary = summarise(rows, design)
    write_json(folder / "summary.json", {"format_version": FORMAT_VERSION, **summary.to_json()})
    figures = {f"{measure}_by_labels": draw_curves(summary, design, measure) for measure in ("dice", "hd95_mm")}
    figures |= {"paired": draw_pairs(summary, design)}
    figures |= {f"cases_{labels}_labels": draw_scatter(rows, design, labels) for labels in design.budgets}
    drawn = {name: png(figure) for name, figure in figures.items() if figure is not None}
    for name, picture in drawn.items():
        write_bytes(folder / "figures" / f"{name}.png", picture)
    cells = {(row["method"], row["labels"], row["seed"]) for row in rows}
    times, volumes = took(folder, design), volume_table(rows, design)
    page = template("template.html", "study").render(
        version=__version__,
        date=datetime.date.today().isoformat(),
        facts=facts,
        design=design,
        done=len(cells),
        failed=failed,
        tables=[(title, score_table(summary, design, measure)) for measure, title in MEASURES.items()],
        structures=[(name, score_table(summary, design, "dice", name)) for name in summary.structures],
        volumes=volumes,
        took=[(name, [_took(times.get((name, labels))) for labels in design.budgets]) for name in design.recipes],
        devices=sorted({device for one in times.values() for device in one.devices}),
        summary=summary,
        labels_word=labels_word,
        difference=difference,
        figures={name: png_uri(picture) for name, picture in drawn.items()},
        rule=RULE,
        checkpoint_rule=CHECKPOINT_RULE,
        incomplete_words=INCOMPLETE,
        how_compared=sorted({one.result.interval.how for one in summary.comparisons}),
        footnotes=footnotes(summary),
        cases=len({row["case"] for row in rows}),
        steps={name: count for name, count in facts["steps"].items() if count},
        later=sorted(set(facts["seeds"]) - set(facts.get("begun_with", facts)["seeds"])),
        narrow=[labels for labels in design.budgets if 2 * labels > design.available],
        incomplete=incomplete(summary, design),
    )
    write_text(folder / "report.html", page)
    write_text(folder / "summary.md", markdown(summary, design, volumes))
    return summary


def footnotes(summary: StudySummary) -> list[str]:
    """Return what the tables' intervals are over, in words."""
    return sorted({point.interval.how for point in summary.points if point.intervals})


def incomplete(summary: StudySummary, design: Design) -> bool:
    """Whether a method has no run of some label set at a budget: its means are of other label sets then."""
    points = (summary.point(name, labels, "dice") for name in design.recipes for labels in design.budgets)
    return any(point is not None and len(point.seeds) < len(design.seeds) for point in points)


def _took(one: Took | None) -> str:
    return "-" if one is None else one.describe()


def score_table(
    summary: StudySummary, design: Design, measure: str, structure: str | None = None
) -> list[tuple[str, list[str]]]:
    """Return the rows of a table: a method, and a cell of text for every budget."""
    digits = 2 if measure == "hd95_mm" else 3
    rows = []
    for name in design.recipes:
        points = [summary.point(name, labels, measure, structure) for labels in design.budgets]
        rows.append((name, [describe(point, digits, len(design.seeds)) for point in points]))
    top = design.ceiling
    if top is not None and top.labels not in design.budgets:
        point = summary.point(top.method, top.labels, measure, structure)
        if point is not None:
            rows.append((f"ceiling: {top.method}, all {top.labels} labels, one run", [describe(point, digits)]))
    return rows


def describe(point: Point | None, digits: int, asked: int = 1) -> str:
    """Say a point: mean, spread over label sets, its first interval, and how many label sets have no score."""
    if point is None:
        return "-"
    spread = "" if point.spread is None else f" ± {point.spread:.{digits}f}"
    ends = ""
    if point.intervals:
        ends = f" [{point.interval.low:.{digits}f}, {point.interval.high:.{digits}f}]"
    part = f" ({len(point.seeds)} of {asked} sets)" if len(point.seeds) < asked else ""
    return f"{point.mean:.{digits}f}{spread}{ends}{part}"


def markdown(summary: StudySummary, design: Design, volumes: Sequence[tuple[str, str, list[str]]]) -> str:
    """Return the tables as Markdown, for a README or a paper's supplement."""
    lines: list[str] = []
    for measure, title in MEASURES.items():
        lines += [f"### {title}", "", "| method | " + " | ".join(labels_word(n) for n in design.budgets) + " |",
                  "|---" * (len(design.budgets) + 1) + "|"]  # fmt: skip
        for name, cells in score_table(summary, design, measure):
            cells += [""] * (len(design.budgets) - len(cells))  # the ceiling's row has one
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    over = "; ".join(footnotes(summary))
    lines += [f"Mean ± standard deviation over label sets [95 % interval: {over}].", ""]
    if incomplete(summary, design):
        lines += [f"{INCOMPLETE}.", ""]
    lines += ["### Volume, predicted less true, all test cases together, %", ""]
    lines += ["| structure | method | " + " | ".join(labels_word(n) for n in design.budgets) + " |",
              "|---" * (len(design.budgets) + 2) + "|"]  # fmt: skip
    lines += ["| " + " | ".join([structure, name, *cells]) + " |" for structure, name, cells in volumes]
    lines.append("")
    if summary.comparisons:
        lines += [
            "| comparison | labels | Dice, difference [95 %] | d_z | p | p (Holm) | | HD95, mm, difference |",
            "|---" * 8 + "|",
        ]
    for one in summary.comparisons:
        result = one.result
        cells = [f"{one.first} - {one.second}", str(one.labels), difference(result, "+.3f")]
        cells += [number(result.effect, ".2f"), number(result.p, ".3g"), number(one.adjusted, ".3g"), one.verdict]
        lines.append("| " + " | ".join([*cells, difference(one.distance, "+.2f")]) + " |")
    if summary.worth:
        lines += ["", "| labels are worth | of the other method |", "|---|---|"]
    for worth in summary.worth:
        lines.append(f"| {worth.method} at {worth.labels} | {worth.other} at {worth.equivalence.describe()} |")
    return "\n".join(lines) + "\n"


def labels_word(count: int) -> str:
    """Return "1 label", "6 labels"."""
    return f"{count} label{'' if count == 1 else 's'}"


def difference(result: Paired, form: str) -> str:
    """Return a mean difference with its interval."""
    low, high = (format(end, form) for end in (result.interval.low, result.interval.high))
    return f"{result.difference:{form}} [{low}, {high}]"


def number(value: float | None, form: str) -> str:
    """Return a number, or nothing where there is none."""
    return "" if value is None else format(value, form)
