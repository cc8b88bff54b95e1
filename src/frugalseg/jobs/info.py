"""What a run is, from its files alone: method, length, labels, checkpoints, time, machine. Imports no PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, read_json_object
from frugalseg.formats import (
    PLAN_FORMAT,
    RUN_FORMAT,
    SPLIT_FORMAT,
    VOTERS,
    read_sealed,
    require_seal,
    require_version,
)
from frugalseg.training.lock import NAME, describe_owner, is_locked
from frugalseg.training.seal import BEST, LAST, previous, verify

FORMAT_VERSION = 1  # of the JSON that `info --json` prints


@dataclass(frozen=True)
class RunInfo:
    """A run in plain values.

    `checks`: file or checkpoint to "ok" or what is wrong, where that was asked for. `votes`: whether its labelled
    cases are registered onto what it predicts.
    """

    run: str
    state: str
    method: str
    seed: int
    step: int
    steps: int
    labels_read: int
    label_rule: str
    labelled: tuple[str, ...]
    validation: tuple[str, ...]
    unlabelled: int
    transductive: bool
    initial: dict[str, Any] | None
    teachers: dict[str, Any] | None
    deterministic: bool
    checkpoint_rule: str
    best: dict[str, Any] | None
    data: str
    data_sha256: str
    seconds: float
    sittings: int
    peak_bytes: int
    machine: dict[str, Any]
    checks: dict[str, str] | None
    votes: bool = False

    @property
    def intact(self) -> bool:
        """Whether no check found anything."""
        return all(found == "ok" for found in (self.checks or {}).values())

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}


def info(run: Path, verify_files: bool = False) -> RunInfo:
    """Read what a run is.

    Args:
        run: The run's folder.
        verify_files: Also check every file against the hash that was written with it (reads the weights).

    Raises:
        UserError: It is not the folder of a run.
        DataError: A record cannot be read, and `verify_files` is not set.
    """
    if not (run / "run.json").is_file():
        raise UserError("holds no run.json; expected a folder that `frugalseg train --out` made", run)
    checks = check_files(run) if verify_files else None
    if checks is None:
        facts = read_sealed(run / "run.json", RUN_FORMAT)
    else:
        facts = read_json_object(run / "run.json")
    split, plan = read_json_object(run / "split.json"), read_json_object(run / "plan.json")
    require_version(split, SPLIT_FORMAT, run / "split.json")
    require_version(plan, PLAN_FORMAT, run / "plan.json")
    try:
        return _describe(run, facts, split, plan, checks)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"does not describe a run ({type(error).__name__}: {error}); was it written by another version?",
            run / "run.json",
        ) from error


def check_files(run: Path) -> dict[str, str]:
    """Check every file of a run that has a hash; return what was found, "ok" or a line."""
    checks: dict[str, str] = {}
    named: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    try:
        facts = read_json_object(run / "run.json")
        require_version(facts, RUN_FORMAT, run / "run.json")
        named = facts["files"] if isinstance(facts.get("files"), dict) else {}
        require_seal(facts, run / "run.json")
        checks["run.json"] = "ok"
    except DataError as error:
        checks["run.json"] = error.what
    for name in ("config.yaml", "plan.json", "split.json"):
        try:
            same = hash_file(run / name) == named.get(name)
            checks[name] = "ok" if same else "does not have the hash that stands in run.json"
        except DataError as error:
            checks[name] = error.what
    spent = facts.get("spent") if checks["run.json"] == "ok" else None
    if spent and spent[-1]["to"] > 0 and not any(p.exists() for p in (run / LAST, previous(run / LAST))):
        checks[LAST] = f"is missing, though {spent[-1]['to']} steps were taken"
    best = facts.get("best") if checks["run.json"] == "ok" else None
    if (
        isinstance(best, dict)
        and best.get("step")
        and not any(p.exists() for p in (run / BEST, previous(run / BEST)))
    ):
        checks[BEST] = f"is missing, though that of step {best['step']} was chosen"
    for name in (LAST, BEST):
        for place in (run / name, previous(run / name)):
            if place.exists():
                try:
                    verify(place)
                    checks[place.name] = "ok"
                except DataError as error:
                    checks[place.name] = error.what
    return checks


def render(found: RunInfo) -> str:
    """Return the lines that a person reads."""
    machine = found.machine
    share = f" ({100 * found.step / found.steps:.0f} %)" if found.steps else ""
    rows = [
        ("run", found.run),
        ("state", found.state),
        ("method", f"{found.method}, seed {found.seed}{', deterministic' if found.deterministic else ''}"),
        ("steps", f"{found.step} of {found.steps}{share}"),
        ("labels read", f"{found.labels_read}: {found.label_rule}"),
        ("trained on", ", ".join(found.labelled) or "no labelled case"),
        ("validation", ", ".join(found.validation) or "none"),
        ("unlabelled", f"{found.unlabelled} volumes" + (" (test images among them)" if found.transductive else "")),
        ("result", found.checkpoint_rule),
    ]
    if found.initial is not None:
        rows.append(("began with", began_with(found.initial)))
    if found.teachers:
        rows.append(("taught by", taught_by(found.teachers)))
    if found.votes:
        rows.append(
            ("predicts with", "its labelled cases, too, registered onto the image: it needs their data set")
        )
    if found.best and found.best.get("step"):
        rows.append(("best", f"step {found.best['step']}, Dice {found.best['dice']:.3f} on the validation cases"))
    rows += [
        ("data", f"{found.data}, sha256 {found.data_sha256[:16]}"),
        ("time", f"{found.seconds / 60:.1f} min, in {found.sittings} sittings, {found.peak_bytes / 2**30:.2f} GiB"),
        ("machine", ", ".join(f"{key} {value}" for key, value in machine.items())),
    ]
    rows += [(f"file {name}", text) for name, text in (found.checks or {}).items()]
    return "\n".join(f"{name:<20}{text}" for name, text in rows)


def began_with(initial: dict[str, Any]) -> str:
    """Say where a run's first weights came from, and which labels these had seen."""
    labels = initial["labels_read"]
    seen = f"which read {labels} labels of its own" if labels else "which read no label"
    return f"the weights of {initial['run']} ({initial['method']}, {initial['step']} steps), {seen}"


def taught_by(teachers: dict[str, Any]) -> str:
    """Say which runs taught a run, and how many labels they had read."""
    named = (
        f"{one['run']} ({one['method']}, {one['step']} steps, {one['labels_read']} labels)"
        for one in teachers["members"]
    )
    return f"{', '.join(named)}, on the unlabelled volumes"


def _describe(
    run: Path, facts: dict[str, Any], split: dict[str, Any], plan: dict[str, Any], checks: dict[str, str] | None
) -> RunInfo:
    spent = list(facts["spent"])
    step, steps = _steps_done(run), int(plan["steps"])
    finished = step >= steps
    state = "finished" if finished else "not finished; the same command with --resume goes on"
    if is_locked(run):
        state = f"at work: {describe_owner(run / NAME)}"
    return RunInfo(
        run=str(run),
        state=state,
        method=str(facts["method"]),
        seed=int(facts["seed"]),
        step=step,
        steps=steps,
        labels_read=int(split["labels_read"]),
        label_rule=str(split["rule"]),
        labelled=tuple(split["labelled"]),
        validation=tuple(split["validation"]),
        unlabelled=len(split["unlabelled"]),
        transductive=bool(facts["transductive"]),
        initial=None if facts.get("initial") is None else dict(facts["initial"]),
        teachers=None if facts.get("teachers") is None else dict(facts["teachers"]),
        deterministic=bool(facts["deterministic"]),
        checkpoint_rule=str(facts["checkpoint_rule"]),
        best=None if facts.get("best") is None else dict(facts["best"]),
        data=f"{facts['data']['name']} ({facts['data']['folder']})",
        data_sha256=str(facts["data"]["sha256"]),
        seconds=float(sum(part["seconds"] for part in spent)),
        sittings=len(spent),
        peak_bytes=max((int(part["peak_bytes"]) for part in spent), default=0),
        machine=dict(facts["machine"]),
        checks=checks,
        votes=VOTERS in facts,
    )


def _steps_done(run: Path) -> int:
    """Return the step of the newest checkpoint that can be read, without reading its weights; 0 without one."""
    for place in (run / LAST, previous(run / LAST)):
        try:
            return int(read_json_object(place / "state.json")["step"])
        except (DataError, KeyError, TypeError, ValueError):
            continue
    return 0
