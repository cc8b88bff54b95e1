"""Look at every file of a data set before anything is trained, and say in a line each what is wrong and what to do.

Test images are looked at, their labels are not opened. One case's error does not stop the others, and nothing is
changed on disk. Each worker holds one case at a time: memory does not grow with the data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from frugalseg.data.check_across import across
from frugalseg.data.check_case import check_case
from frugalseg.data.check_copies import copies
from frugalseg.data.check_report import SEVERITIES, CaseRow, CheckReport, Finding, Role, StructureRow
from frugalseg.data.check_text import render
from frugalseg.data.manifest import Case, DataSource, Manifest, read_manifest

__all__ = ["CaseRow", "CheckReport", "Finding", "StructureRow", "check", "check_case", "render", "roles"]


def check(
    data: Path | DataSource, progress: Callable[[str], Any] | None = None, workers: int | None = None
) -> CheckReport:
    """Check a data set, as many cases at a time as there are processors.

    Args:
        data: The data set: a folder with dataset.json, a CSV of paths, or a `DataSource`.
        progress: Called with a case's name when it has been looked at; from any of the workers' threads.
        workers: Cases at a time; by default the number of processors, 16 at most.

    Raises:
        DataError: There is no data set, or what lists its cases is malformed.
    """
    manifest = read_manifest(data)

    def one(job: tuple[Case, Role]) -> tuple[CaseRow, list[Finding]]:
        result = check_case(manifest, *job)
        if progress is not None:
            progress(job[0].name)
        return result

    with ThreadPoolExecutor(max_workers=workers or min(os.cpu_count() or 1, 16)) as pool:
        results = list(pool.map(one, roles(manifest)))
    rows = tuple(row for row, _ in results)
    structures = tuple(_structure(name, rows) for name in manifest.scheme.structures)
    report = CheckReport(manifest.name, str(manifest.source.path), manifest.channels, structures, rows, ())
    findings = [finding for _, found in results for finding in found]
    findings += copies(manifest, rows) + across(manifest, report)
    # Sorting is stable: within a severity the order of the cases and of what was looked at stays.
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return replace(report, findings=tuple(findings))


def roles(manifest: Manifest) -> list[tuple[Case, Role]]:
    """Return every case with what it is for."""
    jobs: list[tuple[Case, Role]] = [(c, "labelled" if c.label else "unlabelled") for c in manifest.training]
    return jobs + [(case, "test") for case in manifest.test]


def _structure(name: str, rows: Sequence[CaseRow]) -> StructureRow:
    having = [row for row in rows if row.voxels.get(name)]
    ml = [row.ml[name] for row in having]
    unknown = sum(bool(row.voxels) and name in row.not_annotated for row in rows)
    voxels = sum(row.voxels[name] for row in having)
    return StructureRow(name, len(ml), voxels, sum(ml), (min(ml), max(ml)) if ml else None, unknown)
