"""A complete copy of a data set with its cases mended; what cannot be mended stays out, and it is said why.

Test cases never stay out, and their labels are put into the copy as they are, unopened: a test set that shrinks, or
whose labels change, is another test set. `dataset.json` comes last: without it the copy is not complete.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.data.annotated import KEY
from frugalseg.data.check import check_case, roles
from frugalseg.data.check_copies import COPY_OF_TEST
from frugalseg.data.check_report import CheckReport, Role
from frugalseg.data.imagetypes import is_image
from frugalseg.data.lock import IMAGES, test_label_files
from frugalseg.data.manifest import Case, Manifest
from frugalseg.data.mend import Change, MendSettings, mend_case
from frugalseg.data.mend_files import place
from frugalseg.errors import DataError
from frugalseg.files import read_json_object, write_json

RECORD, DATASET = "mended.json", "dataset.json"
FORMAT = 1


@dataclass(frozen=True)
class MendedCase:
    """What became of a case: the changes, and why it stayed out (empty: it did not).

    `target`: the case in the copy.
    """

    case: Case
    role: Role
    target: Case
    changes: tuple[Change, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """Whether it was left out, mended, or taken as it is."""
        return "left out" if self.reasons else "mended" if self.changes else "unchanged"


def mend_set(
    manifest: Manifest,
    report: CheckReport,
    out: Path,
    settings: MendSettings,
    progress: Callable[[], Any] | None = None,
) -> list[MendedCase]:
    """Write the copy into `out`, which must be new or empty.

    Args:
        manifest: The data set.
        report: What its check found: copies of test cases are left out.
        out: Folder of the copy.
        settings: What may be mended.
        progress: Called after each case.

    Raises:
        UserError: The settings make no sense for the data set.
        DataError: A file cannot be written.
    """
    settings.require(manifest.scheme)
    copied = {finding.case: finding.found for finding in report.findings if finding.kind == COPY_OF_TEST}
    result = []
    for case, role in roles(manifest):
        result.append(_mend(manifest, case, role, out, settings, copied.get(case.name)))
        if progress is not None:
            progress()
    for file in _other_files(manifest):
        if not (target := out / file.relative_to(manifest.folder)).exists():
            place(file, target, link=True)
    write_json(out / RECORD, _record(manifest, settings, result))
    content = read_json_object(manifest.folder / DATASET)
    write_json(out / DATASET, _without(manifest, content, {case.case.name for case in result if case.reasons}))
    return result


def _mend(
    manifest: Manifest, case: Case, role: Role, out: Path, settings: MendSettings, copied: str | None
) -> MendedCase:
    def moved(file: Path) -> Path:
        return out / file.relative_to(manifest.folder)

    images = tuple(moved(file) for file in case.images)
    target = replace(case, images=images, label=None if case.label is None else moved(case.label))
    if copied is not None:
        return MendedCase(case, role, target, reasons=(copied,))
    try:
        changes = mend_case(case, target, manifest.scheme, settings)
    except DataError as error:
        if error.where is not None and Path(error.where).is_relative_to(out):
            raise
        _remove(manifest, case, target)
        return MendedCase(case, role, target, reasons=(str(error),))
    _, found = check_case(replace(manifest, folder=out), target, role)
    errors = tuple(f"{finding.file}: {finding.found}" for finding in found if finding.severity == "error")
    if errors and role != "test":
        _remove(manifest, case, target)
        return MendedCase(case, role, target, reasons=errors)
    return MendedCase(case, role, target, tuple(changes))


def _remove(manifest: Manifest, case: Case, target: Case) -> None:
    """Take a case out of the copy again; removing a link leaves the original."""
    shared = any(other.label == case.label for other in manifest.labelled if other.name != case.name)
    for file in (*target.images, None if shared else target.label):
        if file is not None:
            file.unlink(missing_ok=True)


def _other_files(manifest: Manifest) -> Iterator[Path]:
    """Yield what belongs to the data set beside its cases: test labels, unlisted test images, files at the top."""
    known = {file for case in manifest.test for file in case.images}
    folder = manifest.folder
    unlisted = [file for file in sorted((folder / IMAGES).rglob("*")) if is_image(file)]
    top = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and not is_image(file)]
    for file in dict.fromkeys([*test_label_files(manifest.source), *unlisted, *top]):
        inside = file.is_relative_to(folder) and ".." not in file.parts
        if inside and file not in known and file.is_file() and file.name not in (DATASET, RECORD):
            yield file


def _without(manifest: Manifest, content: dict[str, Any], out: Collection[str]) -> dict[str, Any]:
    """Return what dataset.json holds without the cases that were left out."""
    gone = {file for case in manifest.training if case.name in out for file in (*case.images, case.label)}
    training = content.get("training")
    if isinstance(training, list):
        content["training"] = [
            entry
            for entry in training
            if manifest.folder / (entry if isinstance(entry, str) else entry["image"]) not in gone
        ]
    for key in ("groups", KEY, "dataset"):
        if isinstance(content.get(key), dict):
            content[key] = {name: value for name, value in content[key].items() if name not in out}
    if isinstance(content.get("validation"), list):
        content["validation"] = [name for name in content["validation"] if name not in out]
    if "numTraining" in content:
        labelled = sum(case.label is not None for case in manifest.training)
        counted = [
            case for case in manifest.training if content["numTraining"] != labelled or case.label is not None
        ]
        content["numTraining"] -= sum(case.name in out for case in counted)
    return content


def _record(manifest: Manifest, settings: MendSettings, result: list[MendedCase]) -> dict[str, Any]:
    changed = [case for case in result if case.status != "unchanged"]
    return {
        "format_version": FORMAT,
        "frugalseg": __version__,
        "source": str(manifest.folder.resolve()),
        "settings": {
            "mend_limit_mm": settings.limit,
            "remap": {str(old): new for old, new in settings.remap.items()},
            "resample_channels": settings.resample_channels,
            "nan_to_zero": settings.nan_to_zero,
        },
        "cases": {
            case.case.name: {
                "role": case.role,
                "status": case.status,
                "reasons": list(case.reasons),
                "changes": [change.to_json() for change in case.changes],
            }
            for case in changed
        },
        "unchanged": [case.case.name for case in result if case.status == "unchanged"],
    }
