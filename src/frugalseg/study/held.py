"""What a study is held to: what it was begun with, what its data mean, and a floor that is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalseg.config import Config
from frugalseg.data.manifest import Manifest
from frugalseg.errors import UserError
from frugalseg.study.design import Design

GROWING = ("methods", "budgets", "seeds")
"""What may be added to a study that was begun, and not taken away: else one would keep what pleases."""


def meaning_of(manifest: Manifest) -> Any:
    """Return what labels and channels mean, as JSON has it: with another meaning the same files are other data."""
    shown = {
        case.name: case.annotated for case in (*manifest.training, *manifest.test) if case.annotated is not None
    }
    told = {"labels": manifest.scheme.to_json(), "channels": manifest.channels, "annotated": shown}
    return json.loads(json.dumps(told))


def require_floor(design: Design, configs: Mapping[str, Config]) -> None:
    """Refuse settings that give the floor what it is to do without.

    Raises:
        UserError: It would train on unlabelled volumes.
    """
    floor = None if design.floor is None else configs[design.floor]
    if floor is not None and (floor.sampling.unlabelled or floor.pretrain is not None):
        raise UserError(f"{design.floor!r} trains on unlabelled volumes with these settings", "--floor")


def require_same(facts: dict[str, Any], before: dict[str, Any], out: Path) -> None:
    """Refuse to go on with a study that was begun otherwise. Label sets, budgets and methods may be added.

    Raises:
        UserError: Names what differs.
    """
    for key in GROWING:
        if gone := [str(one) for one in before[key] if one not in facts[key]]:
            raise UserError(
                f"has {key} {', '.join(gone)}, which its command does not name now; a study can be added to, but "
                "nothing is left out of it: name them, or choose another --out",
                out,
            )
    free = {*GROWING, "begun_with", "ceiling", "differences", "label_sets", "frugalseg", "command"}
    for key, value in facts.items():
        if key not in free and before.get(key, value) != value:
            raise UserError(
                f"was begun with {key} {before.get(key)!r}, now it is {value!r}; repeat its command, or choose "
                "another --out",
                out,
            )
