"""Check a data set, with a picture of every case if they are asked for."""

from __future__ import annotations

from pathlib import Path

from frugalseg.data.check import check, roles
from frugalseg.data.check_report import SEVERITIES, CheckReport, Finding
from frugalseg.data.check_text import line
from frugalseg.data.manifest import Case, DataSource, Manifest, read_manifest
from frugalseg.errors import DataError, UserError
from frugalseg.jobs.prepare import bytes_reading
from frugalseg.jobs.resources import at_a_time
from frugalseg.jobs.show import bar
from frugalseg.report.overlay import draw_overlay, read_overlay
from frugalseg.report.overlay_page import OverlayEntry, picture_name, write_overlay_page


def check_data(data: Path | DataSource, overlays: Path | None = None) -> CheckReport:
    """Look at every case of a data set; draw each in `overlays`, a folder that is new or empty.

    Raises:
        DataError: There is no data set, its dataset.json is malformed, or a picture cannot be written.
        UserError: `overlays` is not empty or lies in the data set.
    """
    manifest = read_manifest(data)
    if overlays is not None:
        require_new(overlays, DataSource.of(data).path, "--overlays")
    with bar("checking", len(manifest.training) + len(manifest.test)) as advance:
        report = check(data, advance, at_a_time(bytes_reading((*manifest.training, *manifest.test))))
    if overlays is not None:
        draw_overlays(manifest, report, overlays)
    return report


def require_new(out: Path, data: Path, option: str) -> None:
    """Refuse a folder for results that holds something, or lies in the data set: nothing there is ever changed.

    Raises:
        UserError: It does.
    """
    inside, outside = out.resolve(), data.resolve()
    if inside == outside or outside in inside.parents:
        raise UserError(f"lies in the data set, which is never changed; choose another folder for {option}", out)
    if inside in outside.parents:
        raise UserError(f"holds the data set; choose an empty folder for {option}", out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"exists and is not empty; choose another folder for {option}", out)


def draw_overlays(manifest: Manifest, report: CheckReport, folder: Path) -> None:
    """Write a picture of every case, and index.html with the findings, the worst first.

    Raises:
        DataError: A file cannot be written.
    """
    found: dict[str, list[Finding]] = {}
    for finding in report.findings:
        found.setdefault(finding.case, []).append(finding)

    def worst(case: Case) -> tuple[int, int]:
        own = [SEVERITIES.index(finding.severity) for finding in found.get(case.name, ())]
        return min(own, default=len(SEVERITIES)), -len(own)

    jobs = sorted(roles(manifest), key=lambda job: worst(job[0]))
    entries: list[OverlayEntry] = []
    taken: set[str] = set()
    with bar("drawing", len(jobs)) as advance:
        for case, role in jobs:
            name = picture_name(case.name, taken)
            drawn = draw(folder / name, case, manifest, role)
            taken.add(name)
            entries.append(OverlayEntry(case.name, role, lines(found.get(case.name, ())), [("", name)] * drawn))
            advance()
    write_overlay_page(folder, f"{report.name}: check", lines(found.get("", ())), entries)


def draw(path: Path, case: Case, manifest: Manifest, role: str, channel: int = 0) -> bool:
    """Draw a case; return whether its image could be read."""
    try:
        overlay = read_overlay(case, manifest.scheme, role, channel)
    except (DataError, OSError, MemoryError):
        return False
    draw_overlay(path, overlay, manifest.scheme)
    return True


def lines(findings: list[Finding] | tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Return severity and text of every finding."""
    return [(finding.severity, line(finding)) for finding in findings]
