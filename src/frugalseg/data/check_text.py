"""The report of a check, as values and for people: what the data set is, a table of its cases, and the findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
Role = Literal["labelled", "unlabelled", "test"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

ALL_UP_TO = 30
"""A table of more cases than this is cut short."""
SHOWN = 12
"""Cases that a table cut short begins with; cases with findings follow wherever they are."""
_NAMES = 3
_IGNORED, _UNKNOWN = "ignored", "not annotated"
_HEAD = ("case", "role", "shape", "spacing mm", "axes", "channels", "foreground", "structures")
_RIGHT = ("channels", "foreground", _IGNORED)


@dataclass(frozen=True)
class Finding:
    """Something to know. `case` is "" for the data set as a whole, `file` is relative to its folder."""

    severity: Severity
    case: str
    file: str
    found: str
    todo: str


@dataclass(frozen=True)
class CaseRow:
    """What a case is, as far as it could be read; None: not known.

    `shape` in voxels and `spacing` in millimetres follow the file's axes, which run to where `orientation` says.
    `foreground` is the share of the known voxels that have a label above 0, `ignored` that of all voxels which are
    not known. `voxels` and `ml` hold the size of every annotated structure; `not_annotated` names the others.
    """

    name: str
    role: Role
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    channels: int | None = None
    foreground: float | None = None
    voxels: dict[str, int] = field(default_factory=dict)
    ml: dict[str, float] = field(default_factory=dict)
    ignored: float | None = None
    not_annotated: tuple[str, ...] = ()

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that occur in the case's label."""
        return tuple(name for name, count in self.voxels.items() if count)


@dataclass(frozen=True)
class StructureRow:
    """In how many labelled cases a structure occurs, and its size over them: voxels and ml in all, ml per case.

    `not_annotated`: in how many more labelled cases nothing is known of it.
    """

    name: str
    cases: int
    voxels: int
    ml: float
    ml_range: tuple[float, float] | None
    not_annotated: int = 0


@dataclass(frozen=True)
class CheckReport:
    """What the data set is, and everything that was found, the worst first."""

    name: str
    folder: str
    channels: tuple[str, ...]
    structures: tuple[StructureRow, ...]
    cases: tuple[CaseRow, ...]
    findings: tuple[Finding, ...]

    @property
    def can_train(self) -> bool:
        """Whether training could start: no error in a training case, and a label to learn from."""
        test = {case.name for case in self.cases if case.role == "test"}
        bad = any(finding.severity == "error" and finding.case not in test for finding in self.findings)
        return not bad and self.counts["labelled"] > 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases of each role."""
        roles = Counter(case.role for case in self.cases)
        return {"labelled": roles["labelled"], "unlabelled": roles["unlabelled"], "test": roles["test"]}

    @property
    def orientations(self) -> dict[str, int]:
        """Number of images of each orientation, the most frequent first."""
        return dict(Counter(case.orientation for case in self.cases if case.orientation).most_common())

    @property
    def spacing_range(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest spacing in mm to the right, to the front and upwards; empty if none is known."""
        world = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
        sides: tuple[list[float], ...] = ([], [], [])
        for case in self.cases:
            for code, side in zip(case.orientation or "", case.spacing or ()):
                sides[world[code]].append(side)
        return tuple((min(values), max(values)) for values in sides if values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        counted = {"counts": self.counts, "orientations": self.orientations, "spacing_range": self.spacing_range}
        value = {"format_version": 1, "can_train": self.can_train, **counted, **asdict(self)}
        return {key: _plain(item) for key, item in value.items()}


def render(report: CheckReport) -> str:
    """Return the report as lines of text: summary, table of cases, findings, and whether training can start."""
    lines = [*_summary(report), "", *_table(report), ""]
    for severity in SEVERITIES:
        found = [finding for finding in report.findings if finding.severity == severity]
        if found:
            lines.append(f"{len(found)} {severity}{'s' * (len(found) != 1)}")
            lines += [f"  {severity}: {_line(finding)}" for finding in found]
    test = {case.name for case in report.cases if case.role == "test"}
    stops = sum(finding.severity == "error" and finding.case not in test for finding in report.findings)
    verdict = "can start" if report.can_train else f"cannot start: {stops} error{'s' * (stops != 1)} to mend first"
    return "\n".join([*lines, f"training {verdict}"])


def _summary(report: CheckReport) -> list[str]:
    counts = report.counts
    labels = sum(bool(case.voxels) for case in report.cases)
    lines = [
        f"{printable(report.name)}: {counts['labelled']} labelled, {counts['unlabelled']} unlabelled, "
        f"{counts['test']} test cases; channels {printable(', '.join(report.channels))}",
        f"  folder {printable(report.folder)}",
    ]
    if report.orientations:
        lines.append("  axes " + ", ".join(f"{code} ({count})" for code, count in report.orientations.items()))
        spans = " x ".join(_span(low, high) for low, high in report.spacing_range)
        lines.append(f"  spacing {spans} mm (right x front x up)")
    for row in report.structures:
        size = ""
        if row.ml_range is not None:
            size = f": {row.voxels} voxels, {row.ml:.3g} ml in all, {_span(*row.ml_range)} ml a case"
        unknown = f", not annotated in {row.not_annotated} more" if row.not_annotated else ""
        lines.append(
            f"  {printable(row.name)} in {row.cases} of {labels - row.not_annotated} labels{unknown}{size}"
        )
    if part := sum(bool(case.not_annotated) for case in report.cases if case.voxels):
        lines.append(f"  {part} of {labels} labels show only a part of the structures (annotated_classes)")
    shares = [case.ignored for case in report.cases if case.ignored]
    if shares:
        lines.append(
            f"  ignored voxels in {len(shares)} of {labels} labels: {_percent(min(shares), max(shares))} of each"
        )
    return lines


def _percent(low: float, high: float) -> str:
    ends = f"{low:.2%}", f"{high:.2%}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _table(report: CheckReport) -> list[str]:
    found = {finding.case for finding in report.findings}
    every = len(report.cases) <= ALL_UP_TO
    shown = [case for n, case in enumerate(report.cases) if every or n < SHOWN or case.name in found]
    # These two columns only where there is something to say.
    extra = [_IGNORED] if any(case.ignored for case in report.cases) else []
    extra += [_UNKNOWN] if any(case.not_annotated for case in report.cases) else []
    titles = (*_HEAD, *extra)
    rows = [_cells(case, len(report.structures), extra) for case in shown]
    widths = [max(len(row[column]) for row in [titles, *rows]) for column in range(len(titles))]
    head = _fixed(titles, widths, titles)
    lines = [head, "-" * len(head), *(_fixed(row, widths, titles) for row in rows)]
    if len(shown) < len(report.cases):
        lines.append(f"... and {len(report.cases) - len(shown)} more without findings (--json lists all)")
    return lines


def _cells(case: CaseRow, structures: int, extra: Sequence[str]) -> tuple[str, ...]:
    further = {
        _IGNORED: "" if case.ignored is None else f"{case.ignored:.2%}",
        _UNKNOWN: printable(_few(case.not_annotated, structures)) if case.not_annotated else "",
    }
    return (
        printable(case.name),
        case.role,
        " x ".join(map(str, case.shape)) if case.shape else "unreadable",
        " x ".join(f"{side:.3g}" for side in case.spacing or ()),
        case.orientation or "",
        "" if case.channels is None else str(case.channels),
        "" if case.foreground is None else f"{case.foreground:.2%}",
        printable(_few(case.structures, structures)) if case.voxels else "",
        *(further[title] for title in extra),
    )


def _few(names: Sequence[str], structures: int) -> str:
    """Return the names, or how many of all they are where they would take too much room."""
    return ", ".join(names) if 0 < len(names) <= _NAMES else f"{len(names)} of {structures}"


def _fixed(cells: Sequence[str], widths: Sequence[int], titles: Sequence[str]) -> str:
    parts = (
        f"{cell:>{width}}" if head in _RIGHT else f"{cell:{width}}"
        for cell, width, head in zip(cells, widths, titles, strict=True)
    )
    return "  ".join(parts).rstrip()


def _line(finding: Finding) -> str:
    return printable(f"{finding.file}: {finding.found}; {finding.todo}")


def _span(low: float, high: float) -> str:
    ends = f"{low:.3g}", f"{high:.3g}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def printable(text: str) -> str:
    """Replace what is not printable: names come from files and could move the terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down: what JSON gives back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
