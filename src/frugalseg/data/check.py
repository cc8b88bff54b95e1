"""Look at every file of a data set before anything is trained, and say in a line each what is wrong and what to do.

Test images are looked at, their labels are not opened. One case's error does not stop the others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.manifest import Case, Manifest, read_manifest
from frugalseg.data.prepare import require_same_grid
from frugalseg.data.readers import read_image, read_label
from frugalseg.errors import DataError
from frugalseg.geometry import Grid

Severity = Literal["error", "warning", "note"]
Role = Literal["labelled", "unlabelled", "test"]
_SHOWN = 12


@dataclass(frozen=True)
class Finding:
    """Something to know about a case ("" for the data set): one line."""

    severity: Severity
    case: str
    what: str


@dataclass(frozen=True)
class CaseFacts:
    """What a case is. `structures` holds each structure's volume in ml; spacing is in mm; None: not readable."""

    name: str
    role: Role
    shape: tuple[int, ...] | None = None
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    foreground: float | None = None
    structures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckReport:
    """Facts of all cases and everything that was found."""

    name: str
    folder: str
    channels: tuple[str, ...]
    structures: tuple[str, ...]
    cases: tuple[CaseFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def can_train(self) -> bool:
        """Whether training could start: no error in a training case, and a label to learn from."""
        test = {case.name for case in self.cases if case.role == "test"}
        bad = any(f.severity == "error" and f.case not in test for f in self.findings)
        return not bad and any(case.role == "labelled" for case in self.cases)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"format_version": 1, "can_train": self.can_train, **asdict(self)}


def check(folder: Path, progress: Callable[[], Any] | None = None, workers: int | None = None) -> CheckReport:
    """Check a data set, as many cases at a time as there are processors.

    Raises:
        DataError: There is no data set, or its dataset.json is malformed.
    """
    manifest = read_manifest(folder)
    jobs: list[tuple[Case, Role]] = [(c, "labelled" if c.label else "unlabelled") for c in manifest.training]
    jobs += [(case, "test") for case in manifest.test]

    def one(job: tuple[Case, Role]) -> tuple[CaseFacts, list[Finding]]:
        result = check_case(manifest, *job)
        if progress is not None:
            progress()
        return result

    with ThreadPoolExecutor(max_workers=workers or min(os.cpu_count() or 1, 16)) as pool:
        results = list(pool.map(one, jobs))
    facts = tuple(fact for fact, _ in results)
    findings = [finding for _, found in results for finding in found] + across(manifest, facts)
    order = {"error": 0, "warning": 1, "note": 2}
    return CheckReport(
        manifest.name,
        str(folder),
        manifest.channels,
        manifest.scheme.structures,
        facts,
        tuple(sorted(findings, key=lambda finding: (order[finding.severity], finding.case))),
    )


def check_case(manifest: Manifest, case: Case, role: Role) -> tuple[CaseFacts, list[Finding]]:
    """Check one case."""
    findings: list[Finding] = []

    def add(severity: Severity, what: str) -> None:
        findings.append(Finding(severity, case.name, what))

    try:
        grid, image = read_image(case.image)
    except DataError as error:
        return CaseFacts(case.name, role), [Finding("error", case.name, str(error))]
    facts = CaseFacts(case.name, role, grid.shape, grid.spacing, grid.orientation)
    if len(image) != len(manifest.channels):
        add("error", f"{case.image}: has {len(image)} channels, dataset.json names {len(manifest.channels)}")
    bad = int((~np.isfinite(image)).sum())
    if bad:
        add("error", f"{case.image}: {bad} of {image.size} voxels are NaN or infinite; mend or remove the image")
    for index, channel in enumerate(image):
        if not bad and channel.min() == channel.max():
            add("warning", f"{case.image}: channel {index} is constant ({channel.flat[0]:g}); nothing can be seen")
    if case.label is None:
        return facts, findings
    try:
        where, label, rounded = read_label(case.label, manifest.scheme.allowed)
        require_same_grid(grid, where, case)
    except DataError as error:
        return facts, [*findings, Finding("error", case.name, str(error))]
    if rounded:
        add("note", f"{case.label}: {rounded} label voxels were within 0.001 of an integer and are rounded")
    if not label.any():
        add("warning", f"{case.label}: the label map is empty; is the case really without any structure?")
    return _with_label(facts, grid, label, manifest), findings


def _with_label(facts: CaseFacts, grid: Grid, label: NDArray[np.int32], manifest: Manifest) -> CaseFacts:
    volumes = {
        name: float(manifest.scheme.mask(label, name).sum()) * grid.voxel_volume / 1000
        for name in manifest.scheme.structures
    }
    return CaseFacts(
        facts.name, facts.role, facts.shape, facts.spacing, facts.orientation, float((label > 0).mean()), volumes
    )


def across(manifest: Manifest, facts: Sequence[CaseFacts]) -> list[Finding]:
    """Return what only shows when all cases are looked at together."""
    findings = []
    if not manifest.labelled:
        findings.append(Finding("error", "", f"{manifest.folder}: no training case has a label; one is needed"))
    codes = Counter(case.orientation for case in facts if case.orientation)
    if len(codes) > 1:
        mix = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        findings.append(Finding("note", "", f"orientations differ ({mix}); all are turned to RAS"))
    for structure in manifest.scheme.structures:
        seen = sum(case.structures.get(structure, 0) > 0 for case in facts)
        if manifest.labelled and not seen:
            findings.append(Finding("warning", "", f"{structure!r} occurs in no label; it cannot be learnt"))
    return findings


def render(report: CheckReport) -> str:
    """Return the report for people: counts, a table of cases, findings with the worst first."""
    roles = Counter(case.role for case in report.cases)
    lines = [
        f"{report.name}: {roles['labelled']} labelled, {roles['unlabelled']} unlabelled, {roles['test']} test "
        f"cases; channels {', '.join(report.channels)}",
    ]
    labelled = [case for case in report.cases if case.structures]
    for name in report.structures:
        volumes = [case.structures[name] for case in labelled if case.structures[name] > 0]
        if volumes:
            span = f"{min(volumes):.3g} to {max(volumes):.3g} ml"
            lines.append(f"  {name}: in {len(volumes)} of {len(labelled)} labels, {span}")
    width = max(len(case.name) for case in report.cases)
    head = f"{'case':{width}}  {'role':10}  {'shape':15}  {'spacing mm':18}  {'axes':4}  {'foreground':>10}"
    found = {finding.case for finding in report.findings}
    shown = [case for n, case in enumerate(report.cases) if n < _SHOWN or case.name in found]
    lines += ["", head, "-" * len(head)]
    for case in shown:
        shape = " x ".join(map(str, case.shape)) if case.shape else "unreadable"
        spacing = " x ".join(f"{side:.3g}" for side in case.spacing) if case.spacing else ""
        share = "" if case.foreground is None else f"{case.foreground:.2%}"
        axes = case.orientation or ""
        lines.append(f"{case.name:{width}}  {case.role:10}  {shape:15}  {spacing:18}  {axes:4}  {share:>10}")
    if len(shown) < len(report.cases):
        lines.append(f"... and {len(report.cases) - len(shown)} more without findings (--json lists all)")
    lines.append("")
    lines += [f"{finding.severity}: {finding.what}" for finding in report.findings]
    errors = sum(finding.severity == "error" for finding in report.findings)
    lines.append(
        "training can start" if report.can_train else f"training cannot start: {errors} error{'s' * (errors != 1)}"
    )
    return "\n".join(lines)
