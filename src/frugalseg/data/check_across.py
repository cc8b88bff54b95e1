"""What only shows when all cases are looked at together: structures, grids that stand out, patients' roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from frugalseg.data.check_report import CaseRow, CheckReport, Finding, Remark, finding
from frugalseg.data.manifest import Manifest

OUTLIER = 2.0
MANY_SPECKS = 20
_NAMES = 5
_WORLD = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
_SIDES = ("to the right", "to the front", "upwards")


def across(manifest: Manifest, report: CheckReport) -> list[Finding]:
    """Return what stands out, of a report without findings."""
    remarks: list[tuple[str, Remark]] = []
    if not report.counts["labelled"]:
        found = "no training case has a label, at least one is needed"
        remarks.append(("", Remark("error", "no-label", found, "", 'name a "label" in "training"')))
    if len(report.orientations) > 1:
        mix = ", ".join(f"{count} {code}" for code, count in report.orientations.items())
        todo = "nothing to do: all are turned to RAS, predictions are turned back"
        remarks.append(("", Remark("note", "orientations", f"orientations differ ({mix})", "", todo)))
    remarks += [("", remark) for remark in (*_structures(report), *_shapes_of_structures(report))]
    remarks += _outliers(report.cases)
    remarks += [("", remark) for remark in _patients(manifest)]
    where = manifest.where
    files = {case.name: case.image for case in (*manifest.training, *manifest.test)}
    return [finding(case, files.get(case, where), manifest.folder, remark) for case, remark in remarks]


def _structures(report: CheckReport) -> list[Remark]:
    """Say which structures cannot be learnt, or hardly; silent unless labels could be read."""
    remarks = []
    labels = [case for case in report.cases if case.voxels]
    for row in report.structures:
        shown = len(labels) - row.not_annotated
        if not labels:
            continue
        if not shown:
            found = f"{row.name!r} was annotated in no label (annotated_classes)"
            todo = "list it for the cases whose labels show it, or take it out of the data set"
            remarks.append(Remark("error", "structure-unknown", found, "it cannot be learnt", todo))
        elif not row.cases:
            found = f"{row.name!r} occurs in none of {shown} labels"
            todo = 'correct "labels" or "regions", or label a case that has it'
            remarks.append(Remark("error", "structure-absent", found, "it cannot be learnt", todo))
        elif row.cases == 1 < shown and len(labels) == report.counts["labelled"]:  # else the others may have it
            found = f"{row.name!r} occurs in only one of {shown} labels"
            harm = "what is learnt of it is that one case, and a budget of labels may miss it"
            remarks.append(Remark("warning", "structure-rare", found, harm, "label more cases that have it"))
        elif row.cases < shown:
            # A label without any structure has a warning of its own.
            lacking = [case.name for case in labels if case.structures and case.voxels.get(row.name) == 0]
            if not lacking:
                continue
            found = f"{row.name!r} is absent from {len(lacking)} of {shown} labels ({_few(lacking)})"
            harm = "its absence there is learnt"
            todo = "nothing to do if it is not there; annotated_classes says that it was not annotated"
            remarks.append(Remark("note", "structure-missing", found, harm, todo))
    return remarks


def _shapes_of_structures(report: CheckReport) -> list[Remark]:
    """Say which structures reach the border of their images, or come with many specks."""
    names = [row.name for row in report.structures]
    remarks = []
    cut = {name: {c.name: c.border[name] for c in report.cases if c.border.get(name)} for name in names}
    if told := _counted(report, cut, "voxels"):
        harm = "where it is cut off, volumes are too small and surface distances mean little"
        todo = "nothing to do if the images are meant to end there"
        remarks.append(Remark("note", "border", f"reaches the border of the image: {told}", harm, todo))
    many = {
        name: {c.name: c.specks[name] for c in report.cases if c.specks.get(name, 0) > MANY_SPECKS}
        for name in names
    }
    if told := _counted(report, many, "specks"):
        found = f"comes with more than {MANY_SPECKS} specks of under 10 voxels: {told}"
        harm = "each is an object of its own for surface distances"
        remarks.append(Remark("note", "specks", found, harm, "look whether they are meant; small lesions are"))
    return remarks


def _counted(report: CheckReport, counts: dict[str, dict[str, int]], unit: str) -> str:
    """Say of every structure in how many labels it has a count, and which has the most; "" if none has any."""
    told = []
    for name, found in counts.items():
        if found:
            labels = sum(bool(case.voxels.get(name)) for case in report.cases)
            worst = max(found, key=lambda case: found[case])
            told.append(f"{name!r} in {len(found)} of {labels} labels (most: {found[worst]} {unit} in {worst})")
    return ", ".join(told)


def _outliers(rows: Sequence[CaseRow]) -> list[tuple[str, Remark]]:
    """Name the cases whose spacing, or extent in mm, is more than twice or less than half the median on an axis."""

    def spacing(row: CaseRow) -> list[float]:
        return _world(row, row.spacing or ())

    def extent(row: CaseRow) -> list[float]:
        return _world(row, [n * side for n, side in zip(row.shape or (), row.spacing or ())])

    harm = "structures look twice as large or small there, and crops and resampling are planned for the others"
    told = _outside(
        rows, spacing, "voxel", "spacing-outlier", "warning", harm, "make sure that its header is right"
    )
    # Where the spacing stands out, so does the extent.
    others = [row for row in rows if row.name not in {name for name, _ in told}]
    harm = "it may show another part of the body, or be cut"
    return told + _outside(others, extent, "image", "size-outlier", "note", harm, "make sure that it belongs here")


def _outside(
    rows: Sequence[CaseRow],
    measure: Callable[[CaseRow], list[float]],
    what: str,
    kind: str,
    severity: str,
    harm: str,
    todo: str,
) -> list[tuple[str, Remark]]:
    known = [row for row in rows if row.shape is not None]
    if len(known) < 3:
        return []
    values = np.array([measure(row) for row in known])
    middle = np.median(values, axis=0)
    remarks = []
    for row, sides in zip(known, values, strict=True):
        factor = sides / middle
        axis = int(np.abs(np.log(factor)).argmax())
        if not 1 / OUTLIER <= factor[axis] <= OUTLIER:
            found = f"its {what}s measure" if what == "voxel" else f"its {what} measures"
            found += f" {sides[axis]:.4g} mm {_SIDES[axis]}, the median is {middle[axis]:.4g} mm"
            remarks.append((row.name, Remark("note" if severity == "note" else "warning", kind, found, harm, todo)))
    return remarks


def _world(row: CaseRow, sides: Sequence[float]) -> list[float]:
    """Bring what belongs to a file's axes into the order right, front, up."""
    ordered = [0.0, 0.0, 0.0]
    for code, side in zip(row.orientation or "", sides):
        ordered[_WORLD[code]] = side
    return ordered


def _patients(manifest: Manifest) -> list[Remark]:
    """Name the patients (groups) of which one case trains and another one tests or validates."""
    training = {case.group: case.name for case in manifest.training if case.name not in manifest.validation}
    others = [(case, "test") for case in manifest.test]
    others += [(case, "validation") for case in manifest.training if case.name in manifest.validation]
    remarks = []
    for case, role in others:
        if case.group in training:
            found = f"patient {case.group!r} is in training ({training[case.group]}) and in {role} ({case.name})"
            harm = "scores on a patient that the model has seen are too good"
            todo = "give all cases of a patient one role"
            remarks.append(Remark("warning", "patient-roles", found, harm, todo))
    return remarks


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES]) + (" ..." if len(names) > _NAMES else "")
