"""The report of a check for people: what the data set is, a table of its cases, and the findings."""

from __future__ import annotations

from collections.abc import Sequence

from frugalseg.data.check_report import SEVERITIES, CaseRow, CheckReport, Finding

ALL_UP_TO = 30
"""A table of more cases than this is cut short."""
SHOWN = 12
"""Cases that a table cut short begins with; cases with findings follow wherever they are."""
ALIKE = 5
"""Of findings of one kind so many lines are shown, and the others are counted."""
_NAMES = 3
_IGNORED, _UNKNOWN = "ignored", "not annotated"
_HEAD = ("case", "role", "shape", "spacing mm", "axes", "channels", "foreground", "structures")
_RIGHT = ("channels", "foreground", _IGNORED)


def render(report: CheckReport) -> str:
    """Return the report as lines of text: summary, table of cases, findings, and whether training can start."""
    lines = [*_summary(report), "", *_table(report), ""]
    for severity in SEVERITIES:
        found = [finding for finding in report.findings if finding.severity == severity]
        if found:
            lines.append(f"{len(found)} {severity}{'s' * (len(found) != 1)}")
            lines += _lines(severity, found)
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


def _lines(severity: str, findings: Sequence[Finding]) -> list[str]:
    """Return a line for each finding; where a kind has many, for its first ones, and one that counts the rest."""
    lines: list[str] = []
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind or str(id(finding)), []).append(finding)
    for alike in kinds.values():
        shown = alike if len(alike) <= ALIKE + 1 else alike[:ALIKE]
        lines += [f"  {severity}: {line(finding)}" for finding in shown]
        if rest := len(alike) - len(shown):
            cases = {finding.case for finding in alike[len(shown) :]}
            lines.append(f"  ... and {rest} more of this kind, in {len(cases)} cases (--json lists all)")
    return lines


def line(finding: Finding) -> str:
    """Return a finding in one line: the file, what was found; what harm it does; what to do [what mends it]."""
    said = "; ".join(part for part in (finding.found, finding.harm, finding.todo) if part)
    return printable(f"{finding.file}: {said}" + (f" [{finding.mend}]" if finding.mend else ""))


def _span(low: float, high: float) -> str:
    ends = f"{low:.3g}", f"{high:.3g}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def printable(text: str) -> str:
    """Replace what is not printable: names come from files and could move the terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
