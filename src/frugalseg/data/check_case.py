"""One case looked at: its headers, its voxels, its label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from frugalseg.data.check_geometry import channel_remarks, geometry_remarks, label_remark
from frugalseg.data.check_image import content, image_remarks
from frugalseg.data.check_label import label_remarks, refused_remark, rounded_remark, with_label
from frugalseg.data.check_report import CaseRow, Finding, Remark, Role, finding, refusal
from frugalseg.data.manifest import Case, Manifest
from frugalseg.data.readers import read_header, read_image, read_label
from frugalseg.errors import DataError
from frugalseg.geometry import Grid

_UNREADABLE = (DataError, OSError, MemoryError)
_NO_CASE = "the case cannot be used"


def check_case(manifest: Manifest, case: Case, role: Role) -> tuple[CaseRow, list[Finding]]:
    """Check one case; its label is opened only if the manifest names one, which it never does for a test case."""
    findings: list[Finding] = []

    def add(file: Path, *remarks: Remark) -> None:
        findings.extend(finding(case.name, file, manifest.folder, remark) for remark in remarks)

    shown = case.annotated or manifest.scheme.structures
    row = CaseRow(
        case.name, role, not_annotated=tuple(name for name in manifest.scheme.structures if name not in shown)
    )
    grid: Grid | None = None
    file = case.image
    try:
        headers = []
        for file in case.images:
            headers.append(read_header(file))
        first, many = headers[0], len(headers) > 1 or bool(case.missing)
        grid = first.grid
        channels = len(headers) if many else first.channels
        if case.missing:
            add(case.image, _missing_remark(case, manifest))
        row = replace(row, shape=grid.shape, spacing=grid.spacing, orientation=grid.orientation, channels=channels)
        for file, header in zip(case.images, headers, strict=True):
            add(file, *geometry_remarks(file, header.grid))
            wanted = 1 if many else len(manifest.channels)
            if header.channels != wanted:
                add(file, _channels_remark(header.channels, manifest, many))
        for file, remark in channel_remarks(case.images, [header.grid for header in headers]):
            add(file, remark)
        hashes: list[str] = []
        present = [name for place, name in enumerate(manifest.channels) if place not in case.missing]
        for index, file in enumerate(case.images):
            on, image = read_image(file)
            add(file, *image_remarks(image, present, index))
            hashes += [content(on, channel) for channel in image]
        row = replace(row, content=tuple(hashes))
    except _UNREADABLE as error:
        add(file, refusal(error, "unreadable", _NO_CASE, "replace the file, or take the case out of the data set"))
    if case.label is not None:
        row = _check_label(manifest, case, case.label, grid, row, findings)
    return row, findings


def _missing_remark(case: Case, manifest: Manifest) -> Remark:
    names = ", ".join(manifest.channels[channel] for channel in case.missing)
    todo = "put the file there, take the case out, or train with preprocess.missing_channels=zero"
    return Remark("error", "channel-missing", f"has no channel {names}", "the network needs every channel", todo)


def _channels_remark(count: int, manifest: Manifest, many: bool) -> Remark:
    harm = "which channel is which is not known"
    if many:
        found = f"has {count} channels; one file a channel was expected"
        return Remark("error", "channels", found, harm, "give each channel a file of its own")
    found = f"has {count} channels, the data set has {len(manifest.channels)} ({', '.join(manifest.channels)})"
    todo = 'give the image these channels in this order, or correct "modality"'
    return Remark("error", "channels", found, harm, todo)


def _check_label(
    manifest: Manifest, case: Case, file: Path, grid: Grid | None, row: CaseRow, findings: list[Finding]
) -> CaseRow:
    """Look at the label of a case whose image lies on `grid` (None: unknown); return the row with what it holds."""

    def add(*remarks: Remark) -> None:
        findings.extend(finding(case.name, file, manifest.folder, remark) for remark in remarks)

    try:
        where = read_header(file).grid
    except _UNREADABLE as error:
        add(refusal(error, "unreadable", _NO_CASE, "replace it by a label map made on this image"))
        return row
    if grid is not None and (remark := label_remark(grid, where)) is not None:
        add(remark)
    add(*geometry_remarks(file, where))
    scheme = manifest.scheme
    try:
        where, label, rounded = read_label(file, scheme.allowed)
    except _UNREADABLE as error:
        told = refusal(error, "unreadable", _NO_CASE, 'correct the label map, or "labels" in dataset.json')
        add(refused_remark(file, scheme) or told)
        return row
    if rounded:
        add(rounded_remark(rounded))
    shown = case.annotated or scheme.structures
    add(*label_remarks(where, label, shown, scheme))
    return with_label(row, where, label, shown, scheme)
