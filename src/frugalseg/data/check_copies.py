"""Images and labels that are there twice, found by hashes of their voxels: one hash a channel, made as it is read.

A copy that was compressed again, saved with another data type, or with its axes in another order is found; one
that was cropped, resampled or rescaled is another image. Labels of test cases are not decoded: the test lock
compares their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frugalseg.data.check_report import CaseRow, Finding, Remark, finding, refusal
from frugalseg.data.lock import copies_of_test
from frugalseg.data.manifest import Case, Manifest

COPY_OF_TEST = "copy-of-test"
_ROLES = ("test", "labelled", "unlabelled")


def copies(manifest: Manifest, rows: Sequence[CaseRow]) -> list[Finding]:
    """Return the copies: of test cases in training as errors, all others as warnings that name the pair."""
    cases = {case.name: case for case in (*manifest.training, *manifest.test)}
    findings = []

    def add(case: str, file: Path | None, remark: Remark) -> None:
        findings.append(finding(case, file or cases[case].image, manifest.folder, remark))

    first: dict[str, CaseRow] = {}
    labels: dict[str, CaseRow] = {}
    for row in sorted(rows, key=lambda row: _ROLES.index(row.role)):  # of a pair the training case is blamed
        if same := _inside(row.content):
            names = " and ".join(_channel(manifest, place) for place in same)
            harm = "one of the two contrasts is missing, and no one sees it"
            todo = "replace the one that was copied by mistake"
            found = f"{names} hold the same voxels"
            add(row.name, _file(cases[row.name], same[1]), Remark("warning", "same-channels", found, harm, todo))
        twins: dict[str, int] = {}
        for digest in {digest for digest in row.content if digest}:
            other = first.setdefault(digest, row)
            if other is not row:
                twins[other.name] = twins.get(other.name, 0) + 1
        for name, count in twins.items():
            add(row.name, None, _pair(row, next(r for r in rows if r.name == name), count))
        other = labels.setdefault(row.label_content, row) if row.label_content else row
        if other is not row and other.name not in twins:
            found = f"holds the same voxels as the label of {other.name}, on another image"
            harm = "one of the two images is learnt with another one's structures"
            remark = Remark("warning", "same-label", found, harm, "look at both, and replace the wrong one")
            add(row.name, cases[row.name].label, remark)
    known = {found.case for found in findings if found.kind == COPY_OF_TEST}
    owners = {file: case for case in manifest.training for file in (*case.images, case.label) if file is not None}
    for error in copies_of_test(manifest, {case.name for case in manifest.labelled}):
        file = Path(error.where or "")
        case = owners[file].name
        if case not in known or file not in owners[file].images:
            add(case, file, refusal(error, COPY_OF_TEST, _LEAK, "take it out"))
    return findings


_LEAK = "what is measured on the test cases would be too good"


def _pair(row: CaseRow, other: CaseRow, count: int) -> Remark:
    """Say of a case that `count` of its channels hold the voxels of another case's."""
    part = "" if count == len(row.content) else f" in {count} of {len(row.content)} channels"
    if other.role == "test" and row.role != "test":
        found = f"holds the same voxels as the test image {other.name}{part}"
        todo = "take it out of the training images, or out of the test images"
        return Remark("error", COPY_OF_TEST, found, _LEAK, todo)
    found = f"holds the same voxels as {other.name} ({other.role}){part}"
    harm = "it is counted twice"
    if row.role != "test":
        harm = "it is learnt from twice, and a budget or a fold may have it on both sides"
    return Remark("warning", "copy", found, harm, "take one of them out")


def _inside(content: Sequence[str]) -> tuple[int, int] | None:
    """Return the first two channels of one case that are equal."""
    seen: dict[str, int] = {}
    for place, digest in enumerate(content):
        if digest and seen.setdefault(digest, place) != place:
            return seen[digest], place
    return None


def _channel(manifest: Manifest, place: int) -> str:
    return f"channel {place}" + (f" ({manifest.channels[place]})" if place < len(manifest.channels) else "")


def _file(case: Case, place: int) -> Path:
    return case.images[place] if len(case.images) > 1 else case.image
