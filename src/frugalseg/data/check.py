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

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.channels import require_channels
from frugalseg.data.check_text import (
    SEVERITIES,
    CaseRow,
    CheckReport,
    Finding,
    Role,
    Severity,
    StructureRow,
    render,
)
from frugalseg.data.lock import test_lock
from frugalseg.data.manifest import Case, DataSource, Manifest, read_manifest
from frugalseg.data.prepare import require_same_grid
from frugalseg.data.readers import read_header, read_image, read_label
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError
from frugalseg.geometry import Grid

__all__ = ["CaseRow", "CheckReport", "Finding", "StructureRow", "check", "check_case", "render"]


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
    jobs: list[tuple[Case, Role]] = [(c, "labelled" if c.label else "unlabelled") for c in manifest.training]
    jobs += [(case, "test") for case in manifest.test]

    def one(job: tuple[Case, Role]) -> tuple[CaseRow, list[Finding]]:
        result = check_case(manifest, *job)
        if progress is not None:
            progress(job[0].name)
        return result

    with ThreadPoolExecutor(max_workers=workers or min(os.cpu_count() or 1, 16)) as pool:
        results = list(pool.map(one, jobs))
    rows = tuple(row for row, _ in results)
    structures = tuple(_structure(name, rows) for name in manifest.scheme.structures)
    report = CheckReport(manifest.name, str(manifest.source.path), manifest.channels, structures, rows, ())
    findings = (
        [finding for _, found in results for finding in found]
        + _across(report, manifest.where.name)
        + _locked(manifest)
    )
    # Sorting is stable: within a severity the order of the cases and of what was looked at stays.
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return replace(report, findings=tuple(findings))


def check_case(manifest: Manifest, case: Case, role: Role) -> tuple[CaseRow, list[Finding]]:
    """Check one case; its label is opened only if the manifest names one, which it never does for a test case."""
    findings: list[Finding] = []

    def add(severity: Severity, file: Path, found: str, todo: str) -> None:
        findings.append(Finding(severity, case.name, _relative(file, manifest.folder), found, todo))

    shown = case.annotated or manifest.scheme.structures
    unknown = tuple(name for name in manifest.scheme.structures if name not in shown)
    row = CaseRow(case.name, role, not_annotated=unknown)
    try:
        header = read_header(case.image)
        grid = header.grid
        channels = header.channels if len(case.images) == 1 else len(case.images)
        facts = grid.shape, grid.spacing, grid.orientation, channels
        row = CaseRow(case.name, role, *facts, not_annotated=unknown)
        if len(case.images) > 1 or channels == len(manifest.channels):
            require_channels(case.images, manifest.channels, "the data set has")
        else:
            wanted = f"{len(manifest.channels)} ({', '.join(manifest.channels)})"
            found = f"has {channels} channels, the data set has {wanted}"
            add("error", case.image, found, 'give the image these channels in this order, or correct "modality"')
        for file in case.images:
            for severity, found, todo in _image_findings(read_image(file)[1]):
                add(severity, file, found, todo)
    except (DataError, OSError, MemoryError) as error:
        add("error", case.image, *_told(error, "replace the file, or take the case out of the data set"))
    if case.label is None:
        return row, findings
    try:
        where = read_header(case.label).grid
        if row.shape is not None:
            require_same_grid(grid, where, case)
    except (DataError, OSError) as error:
        add("error", case.label, *_told(error, "replace it by a label map made on this image"))
    try:
        where, label, rounded = read_label(case.label, manifest.scheme.allowed)
    except (DataError, OSError, MemoryError) as error:
        found, todo = _told(error, 'correct the label map, or "labels" in dataset.json')
        if not any(finding.found == found for finding in findings):  # the header may have said the same already
            add("error", case.label, found, todo)
        return row, findings
    if rounded:
        found = f"{rounded} label voxels lie within 0.001 of an integer and are rounded"
        add("note", case.label, found, "nothing to do; integers would be clearer")
    for found, todo in _label_findings(label, shown, manifest.scheme):
        add("warning", case.label, found, todo)
    return _with_label(row, where, label, shown, manifest.scheme), findings


def _image_findings(image: NDArray[np.float32]) -> list[tuple[Severity, str, str]]:
    """Look at the voxels of an image (channel, x, y, z), a channel at a time."""
    findings: list[tuple[Severity, str, str]] = []
    unusable = sum(int(np.size(channel) - np.isfinite(channel).sum()) for channel in image)
    if unusable:
        nan = sum(int(np.isnan(channel).sum()) for channel in image)
        kinds = f"{unusable} of {image.size} voxels are NaN ({nan}) or infinite ({unusable - nan})"
        findings.append(("error", kinds, "mend the image, or take the case out of the data set"))
    for index, channel in enumerate(image):
        low = channel.flat[0]
        if np.isfinite(low) and (channel == low).all():
            found = f"channel {index} is constant ({low:g}), a varying image was expected"
            findings.append(("warning", found, "make sure that this is the right file"))
    return findings


def _label_findings(label: NDArray[np.int32], shown: Sequence[str], scheme: LabelScheme) -> list[tuple[str, str]]:
    """Look at a label map (x, y, z) of which the structures `shown` were annotated: what is odd, and what to do."""
    known = label[~scheme.ignored(label)]
    if not known.size:
        return [(f"every voxel has the ignored value {scheme.ignore}", "take the label out: it teaches nothing")]
    if not known.any():
        return [("holds no structure at all", "make sure that the case really has none")]
    if len(shown) == len(scheme.structures):
        return []
    values = np.unique(known[known != 0])
    meant = np.any([scheme.mask(values, name) for name in shown], axis=0)
    strays = values[~meant]
    if not strays.size:
        return []
    names = {value: name for name, value in scheme.values}
    told = ", ".join(f"{value} ({names[value]})" for value in map(int, strays))
    count = int(np.isin(label, strays).sum())
    found = f"{count} voxels of value {told} belong to no structure that annotated_classes lists for the case"
    return [(found, "they are not used as such; add the structure to annotated_classes if the label shows it all")]


def _with_label(
    row: CaseRow, grid: Grid, label: NDArray[np.int32], shown: Sequence[str], scheme: LabelScheme
) -> CaseRow:
    voxels = {name: int(scheme.mask(label, name).sum()) for name in scheme.structures if name in shown}
    ml = {name: count * grid.voxel_volume / 1000 for name, count in voxels.items()}
    ignored = scheme.ignored(label)
    known = int(label.size - ignored.sum())
    foreground = float(((label != 0) & ~ignored).sum() / max(known, 1))
    share = None if scheme.ignore is None else float(ignored.mean())
    return replace(row, foreground=foreground, voxels=voxels, ml=ml, ignored=share)


def _structure(name: str, rows: Sequence[CaseRow]) -> StructureRow:
    having = [row for row in rows if row.voxels.get(name)]
    ml = [row.ml[name] for row in having]
    unknown = sum(bool(row.voxels) and name in row.not_annotated for row in rows)
    voxels = sum(row.voxels[name] for row in having)
    return StructureRow(name, len(ml), voxels, sum(ml), (min(ml), max(ml)) if ml else None, unknown)


def _across(report: CheckReport, where: str) -> list[Finding]:
    """Return what only shows when all cases are looked at together."""
    findings = []

    def add(severity: Severity, found: str, todo: str) -> None:
        findings.append(Finding(severity, "", where, found, todo))

    if not report.counts["labelled"]:
        add("error", "no training case has a label, at least one is needed", 'name a "label" in "training"')
    if len(report.orientations) > 1:
        mix = ", ".join(f"{count} {code}" for code, count in report.orientations.items())
        add(
            "note",
            f"orientations differ ({mix})",
            "nothing to do: all are turned to RAS, predictions are turned back",
        )
    for structure in report.structures:
        # Silent unless a label could be read: otherwise this would only repeat that none could.
        labels = sum(bool(case.voxels) for case in report.cases)
        if labels and structure.not_annotated == labels:
            found = f"{structure.name!r} was annotated in no label (annotated_classes), so it cannot be learnt"
            add("error", found, "list it for the cases whose labels show it, or take it out of the data set")
        elif labels and not structure.cases:
            found = f"{structure.name!r} occurs in no label, so it cannot be learnt"
            add("warning", found, 'correct "labels" or "regions", or label a case that has it')
    return findings


def _locked(manifest: Manifest) -> list[Finding]:
    """Return what training would refuse as a test case in disguise."""
    try:
        test_lock(manifest, {case.name for case in manifest.labelled})
    except DataError as error:
        found, todo = _told(error, "take it out")
        return [Finding("error", "", _relative(Path(error.where or ""), manifest.folder), found, todo)]
    return []


def _told(error: BaseException, todo: str) -> tuple[str, str]:
    """Return what was found and what to do; an error that ends in advice of its own ("...; do this") gives both."""
    if isinstance(error, DataError):
        found, _, advice = error.what.rpartition("; ")
        return (found, advice) if found else (advice, todo)
    if isinstance(error, MemoryError):
        return "there is not enough memory to read it", todo
    return f"cannot be read ({error})", todo


def _relative(file: Path, folder: Path) -> str:
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
