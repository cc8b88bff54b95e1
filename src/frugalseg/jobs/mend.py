"""Mend a data set in a copy: pictures before and after, a record, and a check of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.data.check import check
from frugalseg.data.check_report import CheckReport
from frugalseg.data.check_text import printable
from frugalseg.data.manifest import DataSource, Manifest, read_manifest
from frugalseg.data.mend import MendSettings
from frugalseg.data.mend_set import RECORD, MendedCase, mend_set
from frugalseg.errors import UserError
from frugalseg.jobs.check import draw, require_new
from frugalseg.jobs.prepare import bytes_reading
from frugalseg.jobs.resources import at_a_time
from frugalseg.jobs.show import bar
from frugalseg.report.overlay_page import INDEX, OverlayEntry, picture_name, write_overlay_page

PICTURES = "overlays"


@dataclass(frozen=True)
class MendResult:
    """What became of each case, and the check of the copy (None: no training case was left for it)."""

    cases: tuple[MendedCase, ...]
    report: CheckReport | None
    unused: tuple[int, ...]

    @property
    def complete(self) -> bool:
        """Whether no case stayed out and training on the copy could start."""
        return self.report is not None and self.report.can_train and not any(case.reasons for case in self.cases)


def mend(
    data: Path | DataSource, out: Path, settings: MendSettings, report: CheckReport | None = None
) -> MendResult:
    """Write a mended copy of a data set into `out`, which must be new or empty, and check it.

    Args:
        data: The data set; nothing in it is changed.
        out: Folder of the copy; it gets `mended.json` and pictures of every case that was mended or left out.
        settings: What may be mended.
        report: The check of `data`, if it was made already.

    Raises:
        DataError: There is no data set, or a file cannot be written.
        UserError: `out` is not empty or lies in the data set; the settings make no sense for it.
    """
    source = DataSource.of(data)
    require_new(out, source.path, "--mend")
    manifest = read_manifest(source)
    if not (source.path / "dataset.json").is_file():
        raise UserError(
            "writes a mended copy of a folder with dataset.json; a CSV or folders of files lie wherever they lie: "
            "write a dataset.json for them (docs/data.md), or mend the files by hand",
            "--mend",
        )
    settings.require(manifest.scheme)
    if report is None:
        with bar("checking", len(manifest.training) + len(manifest.test)) as advance:
            report = check(data, advance, at_a_time(bytes_reading((*manifest.training, *manifest.test))))
    with bar("mending", len(report.cases)) as advance:
        cases = mend_set(manifest, report, out, settings, advance)
    draw_mended(manifest, cases, out / PICTURES)
    done = [change.wrong for case in cases for change in case.changes]
    unused = tuple(old for old in settings.remap if not any(wrong.startswith(f"value {old} ") for wrong in done))
    left = any(not case.reasons for case in cases if case.role != "test")
    return MendResult(tuple(cases), check(out) if left else None, unused)


def draw_mended(manifest: Manifest, cases: Sequence[MendedCase], folder: Path) -> None:
    """Write a picture before and one after of every case that was mended, and one of those that were left out."""
    entries = []
    taken: set[str] = set()
    changed = sorted((case for case in cases if case.status != "unchanged"), key=lambda case: not case.reasons)
    for case in changed:
        pictures = []
        channel = next((change.channel for change in case.changes if change.channel), 0)
        shown = (("before", case.case),) if case.reasons else (("before", case.case), ("after", case.target))
        for caption, which in shown:
            name = picture_name(case.case.name, taken, f"-{caption}")
            if draw(folder / name, which, manifest, case.role, channel):
                pictures.append((caption, name))
                taken.add(name)
        entries.append(OverlayEntry(case.case.name, f"{case.role}, {case.status}", _remarks(case), pictures))
    if entries:
        write_overlay_page(folder, f"{manifest.name}: mended", [], entries)


def _remarks(case: MendedCase) -> list[tuple[str, str]]:
    said = [("error", f"left out: {reason}") for reason in case.reasons]
    return said + [("mended", _told(case, place)) for place in range(len(case.changes))]


def _told(case: MendedCase, place: int) -> str:
    change = case.changes[place]
    return printable(f"{change.file}: {change.wrong}; {change.done} ({change.amount:.4g} {change.unit})")


def render_mended(result: MendResult, out: Path) -> str:
    """Return in lines what was mended, what was left out and why."""
    count = {
        status: sum(c.status == status for c in result.cases) for status in ("unchanged", "mended", "left out")
    }
    lines = [f"{out}: {count['unchanged']} cases unchanged, {count['mended']} mended, {count['left out']} left out"]
    for case in result.cases:
        lines += [f"  mended: {printable(case.case.name)}: {_told(case, n)}" for n in range(len(case.changes))]
    for case in result.cases:
        lines += [f"  left out: {printable(case.case.name)}: {printable(reason)}" for reason in case.reasons]
    lines += [f"  no label has the value {old} that --remap names" for old in result.unused]
    if count["mended"] or count["left out"]:
        lines.append(f"  {RECORD} has the record, {PICTURES}/{INDEX} the pictures")
    if result.report is None:
        lines.append("  no training case is left: this is no data set to train on")
    return "\n".join(lines)


def read_remap(words: Sequence[str]) -> dict[int, int]:
    """Read OLD=NEW pairs of integers.

    Raises:
        UserError: A word is no such pair, or a value is given twice.
    """
    pairs: dict[int, int] = {}
    for word in words:
        old, _, new = word.partition("=")
        try:
            key, value = int(old), int(new)
        except ValueError:
            raise UserError(f"must be OLD=NEW, two integers such as 255=1, not {word!r}", "--remap") from None
        if key in pairs:
            raise UserError(f"gives {key} two values", "--remap")
        pairs[key] = value
    return pairs
