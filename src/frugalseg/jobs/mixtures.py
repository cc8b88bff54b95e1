"""What copy-paste asks of labels and processes: crops of one process are mixed with each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frugalseg.config import Config
from frugalseg.data.store import StoredCase
from frugalseg.errors import ConfigError, UserError
from frugalseg.semisup import CopyPasteSettings


def require_mixable(config: Config, labelled: Sequence[StoredCase]) -> None:
    """Refuse copy-paste where a label shows a part only, or where a process would have one kind of crops alone.

    Raises:
        UserError: Tells which.
    """
    if not isinstance(config.semisup, CopyPasteSettings):
        return
    if any(case.in_part for case in labelled):
        raise UserError(
            "copy_paste needs labels that show every structure; take semisup.kind=teacher", "semisup.kind"
        )
    world, least = (
        config.training.devices * config.training.nodes,
        min(config.sampling.labelled, config.sampling.unlabelled),
    )
    if world > least:
        raise UserError(
            f"{world} processes cannot each mix a labelled with an unlabelled crop: a step has {least} of a kind; "
            "take fewer --devices or --nodes, or more crops (sampling.labelled, sampling.unlabelled)",
            "training.devices",
        )


def require_same_mixtures(recorded: Config, config: Config, folder: Path) -> None:
    """Refuse other processes where they would mix other crops: those of one process are mixed with each other.

    Raises:
        ConfigError: They would.
    """
    if not isinstance(config.semisup, CopyPasteSettings):
        return
    before, now = (one.training.devices * one.training.nodes for one in (recorded, config))
    if before != now and any(config.sampling.labelled % world for world in (before, now)):
        raise ConfigError(
            f"the run in this folder has {before} process{'es' * (before > 1)}; {now} would mix other crops "
            "(copy_paste); go on with as many",
            folder,
        )
