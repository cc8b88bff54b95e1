"""What a run's folder says about the run: written before the first step, checked before every other one.

`run.json` is written last and holds the hashes of the other files and of itself: without it the run has not begun,
with it every file is as it was written or the run does not go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from frugalseg.config import Config
from frugalseg.config.load import parse_yaml, save_config
from frugalseg.data.budget import Split
from frugalseg.data.manifest import DataSource, Manifest
from frugalseg.data.store import StoredCase
from frugalseg.errors import ConfigError, DataError, UserError
from frugalseg.files import hash_file, hash_value, read_json_object, read_text, write_json, write_text
from frugalseg.formats import RUN_FORMAT, VOTERS, describing, read_sealed, seal
from frugalseg.jobs.machine import describe
from frugalseg.jobs.mixtures import require_same_mixtures
from frugalseg.objectives import CpcSettings
from frugalseg.semisup.registration import VOXELS, registration_version
from frugalseg.training.lock import NAME as LOCK
from frugalseg.training.plan import Plan, choose_precision
from frugalseg.training.seal import BEST, LAST, previous

RECORD = "run.json"
CONFIG, PLAN, SPLIT = "config.yaml", "plan.json", "split.json"
FILES = (CONFIG, PLAN, SPLIT)
PRETRAIN = "pretrain"  # folder of the run that a recipe with a pre-training begins with
WITHOUT_ATLAS = "registration"  # what a plan says of a run that goes on without it
TO_FIT = "to fit the memory"  # ends the reason of what was made smaller than asked for
FREE = ("devices", "nodes", "workers", "checkpoint_seconds")  # settings that no weight depends on beyond rounding


def has_begun(folder: Path) -> bool:
    """Whether a run was recorded in the folder.

    Raises:
        UserError: It holds a checkpoint without the record, or something that is not a run's.
    """
    if (folder / RECORD).exists():
        return True
    for name in (LAST, BEST):
        for place in (folder / name, previous(folder / name)):
            if place.exists():
                raise DataError(
                    f"is missing, but there is a checkpoint ({place.name}): restore it from a copy, or start "
                    "the run anew in another folder",
                    folder / RECORD,
                )
    ours = {*FILES, LOCK, PRETRAIN}
    strange = [p.name for p in folder.iterdir() if p.name not in ours and not p.name.startswith(".tmp-")]
    if strange:
        raise UserError(f"holds no run to go on with, but {sorted(strange)[0]!r}; choose another --out", folder)
    return False


def write_record(
    folder: Path,
    config: Config,
    plan: Plan,
    split: Split,
    manifest: Manifest,
    cases: Sequence[StoredCase],
    checkpoint_rule: str,
    initial: Mapping[str, Any] | None = None,
    teachers: Mapping[str, Any] | None = None,
) -> None:
    """Write config.yaml, plan.json, split.json and, last, run.json.

    Raises:
        DataError: The folder cannot be written to.
    """
    write_text(folder / CONFIG, save_config(config))
    write_json(folder / SPLIT, split.to_json())
    write_json(folder / PLAN, plan.to_json())
    keys = {case.name: case.key for case in cases}
    facts = {
        "format_version": RUN_FORMAT,
        "method": config.method,
        "seed": config.training.seed,
        "deterministic": config.training.deterministic,
        "transductive": split.transductive,
        "data": {
            "folder": str(manifest.source.path.resolve()),
            **_beside(manifest.source),
            "name": manifest.name,
            "licence": manifest.licence,
            "channels": list(manifest.channels),
            "sha256": hash_value(keys),
            "cases": keys,
            "images": {case.name: case.image.name for case in cases},
        },
        "checkpoint_rule": checkpoint_rule,
        "machine": {**describe(plan.device), "precision": plan.precision, "processes": _processes(config)},
        "files": {name: hash_file(folder / name) for name in FILES},
        "spent": [],
    }
    if initial is not None:
        facts["initial"] = dict(initial)
    if config.atlas is not None:
        facts["registration"] = registration_version()
    if teachers is not None:
        facts["teachers"] = dict(teachers)
    if config.inference.registration:
        known = [case for case in cases if case.name in split.labelled and case.label is not None]
        facts[VOTERS] = {case.name: [case.image.name, case.label.name] for case in known if case.label is not None}
    write_json(folder / RECORD, seal(facts))


def read_record(folder: Path) -> dict[str, Any]:
    """Return what run.json holds, after checking it and the files that it names against their hashes.

    Raises:
        DataError: A file is missing, damaged, changed, or of a newer format; says which.
    """
    facts = read_sealed(folder / RECORD, RUN_FORMAT)
    with describing("a run", folder / RECORD):
        files = dict(facts["files"])
        dict(facts["machine"]), dict(facts["data"]["cases"]), [dict(part) for part in facts["spent"]]
        int(facts["machine"]["threads"])
    for name in FILES:
        if hash_file(folder / name) != files.get(name):
            raise DataError(
                f"is damaged or was changed after the run began (its hash is not the one in {RECORD}); restore it, "
                "or start a new run in another folder",
                folder / name,
            )
    return facts


def update_record(folder: Path, changes: Mapping[str, Any]) -> None:
    """Set keys of run.json."""
    write_json(folder / RECORD, seal({**read_sealed(folder / RECORD, RUN_FORMAT), **changes}))


def read_plan(folder: Path) -> Plan:
    """Read plan.json."""
    return Plan.from_json(read_json_object(folder / PLAN), folder / PLAN)


def same_run(folder: Path, config: Config, split: Split) -> Config:
    """Return the recorded configuration, with the processes, workers and checkpoint times that `config` asks for.

    Likewise the patches that contrastive coding encodes at a time, where `config` says how many.

    Raises:
        ConfigError: Names the first setting that differs, or the labels.
    """
    path = folder / CONFIG
    try:
        recorded = Config.model_validate(parse_yaml(read_text(path), path))
    except ValidationError as error:
        raise ConfigError(
            "has settings that this version of frugalseg does not know; was it written by another version?", path
        ) from error
    reasons = read_plan(folder).reasons
    if reasons.get("batch", "").endswith(TO_FIT):  # made smaller then: it stays so
        config = config.model_copy(update={"sampling": recorded.sampling})
    if WITHOUT_ATLAS in reasons:  # likewise
        if f"[{atlas_mark(config)}]" not in reasons[WITHOUT_ATLAS]:
            raise ConfigError(
                "the run in this folder was started with other settings of registration, found it useless, and "
                "went on without it; repeat its command, or start a new run",
                folder,
            )
        config = config.without_atlas()
    before = _that_count(recorded)
    now = _that_count(config)
    for key in now:
        if before[key] != now[key]:
            raise ConfigError(
                f"the run in this folder was started with another {_differing(key, before[key], now[key])!r}; "
                "repeat its command",
                folder,
            )
    if Split.from_json(read_json_object(folder / SPLIT), folder / SPLIT) != split:
        raise ConfigError("the run in this folder reads other labels; repeat its command", folder)
    require_same_mixtures(recorded, config, folder)
    asked = {name: getattr(config.training, name) for name in FREE}
    recorded = recorded.model_copy(update={"training": recorded.training.model_copy(update=asked)})
    return _with_chunks_of(recorded, config)


def atlas_mark(config: Config) -> str:
    """Return a short hash of the settings that are lost when a run goes on without registration."""
    settings = hashed(config)
    lost = [settings["atlas"], settings["augment"]["deform"], settings["inference"]["registration"]]
    return hash_value([*lost, settings["semisup"]])[:12]


def settings_hash(config: Config) -> str:
    """Return the hash of every setting that a run's weights depend on beyond rounding."""
    return hash_value(_that_count(config))


def same_data(facts: Mapping[str, Any], folder: Path, cases: Sequence[StoredCase]) -> None:
    """Refuse to go on with data whose content changed.

    Raises:
        DataError: Names the first case that differs.
    """
    before: dict[str, str] = facts["data"]["cases"]
    now = {case.name: case.key for case in cases}
    made_with = facts.get("registration")
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed and made_with not in (None, registration_version()):
        raise DataError(
            f"was begun with SimpleITK {made_with}, which registered its labelled cases; {registration_version()} "
            "is here, and registers otherwise: install the one before, or start a new run in another folder",
            folder,
        )
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        votes = "" if made_with is None else ", or another version of frugalseg registered it"
        raise DataError(
            f"the image or label of case {changed[0]!r}{more} is not what the run began with{votes}; restore it, "
            "or start a new run in another folder",
            folder,
        )


def other_conditions(facts: Mapping[str, Any], config: Config, plan: Plan, threads: int | None) -> str | None:
    """Return one line that names what differs from when the run began, or None.

    Args:
        facts: What run.json holds.
        config: The run's configuration.
        plan: The run's plan.
        threads: The number of threads that will be set, None if it is left alone.
    """
    precision = choose_precision(config.training.precision, plan.device)[0]
    now = {**describe(plan.device), "precision": precision, "processes": _processes(config)}
    if threads is not None:
        now["threads"] = threads
    before = facts["machine"]
    apart = [f"{key} {before.get(key)} (now {now[key]})" for key in now if before.get(key) != now[key]]
    if not apart:
        return None
    return f"the run began with {', '.join(apart)}: it goes on, but not bit for bit as it would have where it began"


def _with_chunks_of(recorded: Config, config: Config) -> Config:
    """Take over how many patches are encoded at a time where the command names a number."""
    tasks = dict(recorded.auxiliary)
    for name, task in config.auxiliary.items():
        other = tasks[name]
        if isinstance(task, CpcSettings) and isinstance(other, CpcSettings) and task.chunk is not None:
            tasks[name] = other.model_copy(update={"chunk": task.chunk})
    return recorded.model_copy(update={"auxiliary": tasks})


def _differing(key: str, before: Any, now: Any) -> str:
    """Return the dotted name of the first setting that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for inner in now:
            if before.get(inner) != now[inner]:
                return _differing(f"{key}.{inner}", before.get(inner), now[inner])
    return key


def _beside(source: DataSource) -> dict[str, str]:
    """Return what else was named to say where the data are."""
    named = {"label_maps": source.label_maps, "describe": source.describe}
    return {key: str(path.resolve()) for key, path in named.items() if path is not None}


def _processes(config: Config) -> int:
    return config.training.devices * config.training.nodes


def hashed(config: Config) -> dict[str, Any]:
    """Return all settings for a hash, less what came later where it says nothing else: runs of before go on."""
    settings = config.model_dump(mode="json")
    if settings["atlas"] is not None and settings["atlas"]["registration"]["voxels"] == VOXELS:
        del settings["atlas"]["registration"]["voxels"]
    return settings


def _that_count(config: Config) -> dict[str, Any]:
    """Return the settings but for those that only say who does the work, which may change when a run goes on.

    So may the number of patches that are encoded at a time: where memory runs out it has to.
    """
    settings = hashed(config)
    for name in FREE:
        del settings["training"][name]
    before = settings["pretrain"] or {"auxiliary": {}}
    for task in (*settings["auxiliary"].values(), *before["auxiliary"].values()):
        if "chunk" in task:
            task["chunk"] = None
    return settings
