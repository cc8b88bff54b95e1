"""Which checkpoint of a run is intact. Reads files only, so that a run can be looked at without PyTorch.

A checkpoint is a folder; `state.json`, written last, holds the hashes of its files and of itself. The one before
stays as `<name>.previous` until the next is complete.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.errors import DataError
from frugalseg.files import hash_file, read_json_object, sync_folder
from frugalseg.formats import NewerFormat, describing, require_seal, require_version

FORMAT_VERSION = 1
LAST, BEST = "last", "best"
WEIGHTS = "model.safetensors"
FILES = (WEIGHTS, "model.json", "state.safetensors")
SEAL = "seal"


@dataclass(frozen=True)
class Intact:
    """A checkpoint whose files are as they were written. `problem`: why it is not the newest one."""

    place: Path
    facts: dict[str, Any]
    problem: str | None


def previous(folder: Path) -> Path:
    """Return where the checkpoint before the one in `folder` is kept."""
    return folder.with_name(folder.name + ".previous")


def verify(folder: Path) -> dict[str, Any]:
    """Return the facts in state.json after checking every file against its hash.

    Raises:
        DataError: The checkpoint is incomplete, changed, or of a newer format.
    """
    path = folder / "state.json"
    facts = read_json_object(path)
    require_version(facts, FORMAT_VERSION, path)
    facts = require_seal(facts, path, SEAL)
    with describing("a checkpoint", path):
        hashes = dict(facts["sha256"])
        facts["step"] = int(facts["step"])
    for name in FILES:
        if hash_file(folder / name) != hashes.get(name):
            raise DataError(f"is damaged: {name} does not have the hash that was written with it", folder)
    return facts


def find_intact(folder: Path) -> Intact | None:
    """Return the newest intact checkpoint of that name; None if there is none at all.

    Raises:
        DataError: There are checkpoints and none is intact, or one is of a newer format.
    """
    older = previous(folder)
    if not folder.exists() and not older.exists():
        return None
    problem: str | None = None
    for place in (folder, older):
        try:
            return Intact(place, verify(place), problem)
        except NewerFormat:
            raise
        except DataError as error:
            found = str(error) if place.exists() else f"{place}: does not exist"
            problem = problem or found
    raise DataError(f"no intact checkpoint is left: {problem}; start the run anew in another folder", folder)


def put_back(found: Intact, folder: Path) -> str:
    """Make an intact previous checkpoint the newest one again; a damaged one in its place is kept as NAME.damaged.

    Otherwise the next checkpoint would push out the intact one to make room for the damaged one.

    Returns:
        What was wrong and what was done, in words.
    """
    assert found.problem is not None
    away = folder.with_name(folder.name + ".damaged")
    done = f"{found.problem}; the checkpoint before it is used"
    try:
        if folder.exists():
            if away.exists():
                shutil.rmtree(away)
            os.replace(folder, away)
            done += f", the damaged one kept as {away.name}"
        os.replace(found.place, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise DataError(f"is damaged and cannot be renamed ({error.strerror or error})", folder) from error
    return done
