"""The report of a check, as values: what the data set is, what its cases are, and what was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from frugalseg.errors import DataError

Severity = Literal["error", "warning", "note"]
Role = Literal["labelled", "unlabelled", "test"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MEND = "check --mend OUT"


class Remark(NamedTuple):
    """What was found in a file, without saying in which; see `Finding`."""

    severity: Severity
    kind: str
    found: str
    harm: str
    todo: str
    mend: str = ""


@dataclass(frozen=True)
class Finding:
    """Something to know. `case` is "" for the data set as a whole, `file` is relative to its folder.

    `found` gives its size in numbers, `harm` what goes wrong if it is left, `todo` what to do. `kind` is a stable
    word for programs. `mend` is the command that mends it in a copy; empty if only a person can.
    """

    severity: Severity
    case: str
    file: str
    found: str
    todo: str
    harm: str = ""
    kind: str = ""
    mend: str = ""


def finding(case: str, file: Path, folder: Path, remark: Remark) -> Finding:
    """Say of a file of the data set in `folder` what was found in it."""
    where = (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()
    severity, kind, found, harm, todo, mend = remark
    return Finding(severity, case, where, found, todo, harm, kind, mend)


def refusal(error: BaseException, kind: str, harm: str, todo: str) -> Remark:
    """Turn an error into a remark; one that ends in advice of its own ("...; do this") brings its `todo` along."""
    if isinstance(error, DataError):
        found, _, advice = error.what.rpartition("; ")
        found, todo = (found, advice) if found else (advice, todo)
    elif isinstance(error, MemoryError):
        found = "there is not enough memory to read it"
    else:
        found = f"cannot be read ({error})"
    return Remark("error", kind, found, harm, todo)


@dataclass(frozen=True)
class CaseRow:
    """What a case is, as far as it could be read; None: not known.

    `shape` in voxels and `spacing` in millimetres follow the file's axes, which run to where `orientation` says.
    `foreground` is the share of the known voxels that have a label above 0, `ignored` that of all voxels which are
    not known. `voxels` and `ml` hold the size of every annotated structure; `not_annotated` names the others.
    `border`: how many voxels of a structure lie on the image's faces; `specks`: how many of its parts are tiny.
    `content` (a channel each) and `label_content`: hashes of the voxels in canonical orientation, "" of a constant.
    """

    name: str
    role: Role
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str | None = None
    channels: int | None = None
    foreground: float | None = None
    voxels: dict[str, int] = field(default_factory=dict)
    ml: dict[str, float] = field(default_factory=dict)
    ignored: float | None = None
    not_annotated: tuple[str, ...] = ()
    border: dict[str, int] = field(default_factory=dict)
    specks: dict[str, int] = field(default_factory=dict)
    content: tuple[str, ...] = ()
    label_content: str = ""

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures that occur in the case's label."""
        return tuple(name for name, count in self.voxels.items() if count)


@dataclass(frozen=True)
class StructureRow:
    """In how many labelled cases a structure occurs, and its size over them: voxels and ml in all, ml per case.

    `not_annotated`: in how many more labelled cases nothing is known of it.
    """

    name: str
    cases: int
    voxels: int
    ml: float
    ml_range: tuple[float, float] | None
    not_annotated: int = 0


@dataclass(frozen=True)
class CheckReport:
    """What the data set is, and everything that was found, the worst first."""

    name: str
    folder: str
    channels: tuple[str, ...]
    structures: tuple[StructureRow, ...]
    cases: tuple[CaseRow, ...]
    findings: tuple[Finding, ...]

    @property
    def can_train(self) -> bool:
        """Whether training should start: no error in a training case, and a label to learn from."""
        test = {case.name for case in self.cases if case.role == "test"}
        bad = any(finding.severity == "error" and finding.case not in test for finding in self.findings)
        return not bad and self.counts["labelled"] > 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of cases of each role."""
        roles = Counter(case.role for case in self.cases)
        return {"labelled": roles["labelled"], "unlabelled": roles["unlabelled"], "test": roles["test"]}

    @property
    def orientations(self) -> dict[str, int]:
        """Number of images of each orientation, the most frequent first."""
        return dict(Counter(case.orientation for case in self.cases if case.orientation).most_common())

    @property
    def spacing_range(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest spacing in mm to the right, to the front and upwards; empty if none is known."""
        world = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
        sides: tuple[list[float], ...] = ([], [], [])
        for case in self.cases:
            for code, side in zip(case.orientation or "", case.spacing or ()):
                sides[world[code]].append(side)
        return tuple((min(values), max(values)) for values in sides if values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        counted = {"counts": self.counts, "orientations": self.orientations, "spacing_range": self.spacing_range}
        value = {"format_version": 2, "can_train": self.can_train, **counted, **asdict(self)}
        return {key: _plain(item) for key, item in value.items()}


def _plain(value: Any) -> Any:
    """Turn tuples into lists, all the way down: what JSON gives back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
