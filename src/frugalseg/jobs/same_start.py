"""A run that goes on has the first weights that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalseg.config import Config
from frugalseg.errors import DataError, UserError
from frugalseg.jobs.initial import Initial


def require_same_start(facts: Mapping[str, Any] | None, config: Config, init: Path | None, out: Path) -> None:
    """Refuse to go on with a run that began with other first weights than the command says.

    Raises:
        UserError: Says with which it began.
    """
    if facts is None:
        return
    began = facts.get("initial")
    if began is not None and began["own"]:
        if init is not None:
            raise UserError("was begun with a pre-training of its own; leave --init out", out)
        return
    if began is not None and init is None:
        raise UserError(f"was begun with --init {began['run']}; repeat its command", out)
    if began is None and init is not None:
        raise UserError("was begun without --init; repeat its command", out)
    if began is not None and init is not None and began["run"] != str(init.resolve()):
        raise UserError(f"was begun with --init {began['run']}; repeat its command", out)


def require_same_weights(facts: Mapping[str, Any] | None, initial: Initial, out: Path) -> None:
    """Refuse other weights than those that the run was recorded with.

    Raises:
        DataError: They have changed since.
    """
    began = None if facts is None else facts.get("initial")
    if began is not None and began["sha256"] != initial.sha256:
        raise DataError(
            "has other weights than when this run began with it; restore them, or start a new run", initial.run
        )
