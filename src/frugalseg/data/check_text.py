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
_HEAD = ("case", "role", "shape", "spacing mm", "axes", "channels", "foreground", "structures")
_RIGHT = ("channels", "foreground")


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
    `foreground` is the share of voxels whose label is above 0. `voxels` and `ml` hold every structure's size.
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

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that occur in the case's label."""
        return tuple(name for name, count in self.voxels.items() if count)


@dataclass(frozen=True)
class StructureRow:
    """In how many labelled cases a structure occurs, and its size over them: voxels and ml in all, ml per case."""

    name: str
    cases: int
    voxels: int
    ml: float
    ml_range: tuple[float, float] | None


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
        lines.append(f"  {printable(row.name)} in {row.cases} of {labels} labels{size}")
    return lines


def _table(report: CheckReport) -> list[str]:
    found = {finding.case for finding in report.findings}
    every = len(report.cases) <= ALL_UP_TO
    shown = [case for n, case in enumerate(report.cases) if every or n < SHOWN or case.name in found]
    rows = [_cells(case, len(report.structures)) for case in shown]
    widths = [max(len(row[column]) for row in [_HEAD, *rows]) for column in range(len(_HEAD))]
    head = _fixed(_HEAD, widths)
    lines = [head, "-" * len(head), *(_fixed(row, widths) for row in rows)]
    if len(shown) < len(report.cases):
        lines.append(f"... and {len(report.cases) - len(shown)} more without findings (--json lists all)")
    return lines


def _cells(case: CaseRow, structures: int) -> tuple[str, ...]:
    present = case.structures
    names = ", ".join(present) if 0 < len(present) <= _NAMES else f"{len(present)} of {structures}"
    return (
        printable(case.name),
        case.role,
        " x ".join(map(str, case.shape)) if case.shape else "unreadable",
        " x ".join(f"{side:.3g}" for side in case.spacing or ()),
        case.orientation or "",
        "" if case.channels is None else str(case.channels),
        "" if case.foreground is None else f"{case.foreground:.2%}",
        printable(names) if case.voxels else "",
    )


def _fixed(cells: Sequence[str], widths: Sequence[int]) -> str:
    parts = (
        f"{cell:>{width}}" if head in _RIGHT else f"{cell:{width}}"
        for cell, width, head in zip(cells, widths, _HEAD, strict=True)
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
