"""Checkpoints: complete or not there, checked when read, without pickle.

A checkpoint is a folder. It is written under another name, flushed, and renamed into place; the one before stays
as `<name>.previous` until the new one is complete. `state.json`, written last, holds the hashes of
the others and of itself.

    model.safetensors  what prediction needs (trunk, head, branches that feed the head); their running mean if kept
    model.json         what the model is
    state.safetensors  all other weights (with a running mean: all of them) and the optimiser's tensors
    state.json         step, the optimiser's numbers, hashes
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frugalseg.errors import DataError
from frugalseg.files import NEW_FOLDER_MODE, hash_file, sync_folder, write_atomic, write_json
from frugalseg.formats import describing, seal
from frugalseg.training.seal import (
    BEST,
    FILES,
    FORMAT_VERSION,
    LAST,
    SEAL,
    WEIGHTS,
    Intact,
    find_intact,
    previous,
    put_back,
    verify,
)

__all__ = [
    "BEST",
    "LAST",
    "TrainingState",
    "load_optimiser",
    "load_weights",
    "previous",
    "read_checkpoint",
    "save_checkpoint",
    "verify",
]
_OPTIMISER = "optimiser."


@dataclass
class TrainingState:
    """What training continues from. `average` is the running mean of the weights, None where none is kept."""

    step: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    facts: dict[str, Any]
    average: dict[str, Tensor] | None = None


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    deployed: frozenset[str],
    optimiser: torch.optim.Optimizer,
    step: int,
    model_facts: Mapping[str, Any],
    facts: Mapping[str, Any],
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint into `folder`; what was there stays intact until the new one is complete.

    Args:
        folder: E.g. RUN/last.
        network: All weights.
        deployed: Names of the weights that prediction needs.
        optimiser: Its tensors and numbers.
        step: Optimiser steps taken.
        model_facts: Goes into model.json.
        facts: Goes into state.json.
        average: Running mean of the deployed weights, which then goes into model.safetensors.

    Raises:
        DataError: It cannot be written; the last complete checkpoint is named.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    tensors, groups = _flatten(optimiser.state_dict())
    model = {name: weights[name] for name in sorted(deployed)}
    rest = {name: tensor for name, tensor in weights.items() if average is not None or name not in deployed}
    if average is not None:
        model = {name: average[name].detach().cpu().contiguous() for name in model}
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        write_atomic(
            temporary / WEIGHTS,
            lambda path: save_file(model, path),
        )
        write_json(temporary / "model.json", {"format_version": FORMAT_VERSION, **model_facts})
        write_atomic(temporary / "state.safetensors", lambda path: save_file({**rest, **tensors}, path))
        facts_now = {
            "format_version": FORMAT_VERSION,
            "step": step,
            "averaged": average is not None,
            "optimiser_groups": groups,
            **facts,
            "sha256": {name: hash_file(temporary / name) for name in FILES},
        }
        write_json(temporary / "state.json", seal(facts_now, SEAL))
        os.chmod(temporary, NEW_FOLDER_MODE)
        _swap(temporary, folder)
        temporary = None
    except (OSError, SafetensorError, DataError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the checkpoint of step {step} cannot be written ({reason}); any before it is intact", folder
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def read_checkpoint(folder: Path) -> TrainingState | None:
    """Read the checkpoint in `folder`; None if there is none at all.

    If it is damaged or missing the one before it takes its place, and `facts["fallback"]` says so.

    Raises:
        DataError: There are checkpoints and none is intact, or one is of a newer format.
    """
    found = find_intact(folder)
    if found is None:
        return None
    fallback = None
    if found.problem is not None:
        fallback = put_back(found, folder)
        found = Intact(folder, found.facts, None)
    deployed = load_weights(found.place / WEIGHTS)
    tensors = load_weights(found.place / "state.safetensors")
    own = {name: t for name, t in tensors.items() if name.startswith(_OPTIMISER)}
    model = deployed | {name: t for name, t in tensors.items() if name not in own}
    facts = dict(found.facts)
    if fallback is not None:
        facts["fallback"] = fallback
    with describing("a run's state", found.place / "state.json"):
        optimiser = _unflatten(own, facts["optimiser_groups"])
        average = deployed if facts["averaged"] else None
        step = int(facts["step"])
        if step < 0:
            raise ValueError(f"step is {step}")
        return TrainingState(step, model, optimiser, facts, average)


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser its saved state, each tensor in the order in memory of the weight it belongs to.

    The order is not saved. Without this the moments of a network kept in channels-last order would come back in the
    ordinary one, and the optimiser's arithmetic would take another path than in an undisturbed run.

    Raises:
        ValueError, KeyError: It is another network's.
    """
    for index, parameter in enumerate(p for group in optimiser.param_groups for p in group["params"]):
        for name, value in state["state"].get(index, {}).items():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{name} of weight {index} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
    optimiser.load_state_dict(state)
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            values = optimiser.state.get(parameter, {})
            for name, value in values.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter).copy_(value)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        DataError: It is missing or malformed.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"cannot be read as safetensors ({error}); copy it anew, or take another checkpoint", path
        ) from error


def _swap(new: Path, folder: Path) -> None:
    """Put `new` in the place of `folder`. Killed in between, `folder` is missing and its previous is complete."""
    sync_folder(new)
    kept = previous(folder)
    if folder.exists():
        # A complete checkpoint exists under one of the names at every moment: `folder` until the old previous is
        # gone, then the previous, then the new one.
        if kept.exists():
            shutil.rmtree(kept)
        os.replace(folder, kept)
    os.replace(new, folder)
    sync_folder(folder.parent)


def _flatten(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    tensors = {
        f"{_OPTIMISER}{index}.{name}": value.detach().cpu().contiguous().clone()
        for index, values in state["state"].items()
        for name, value in values.items()
    }
    return tensors, [dict(group) for group in state["param_groups"]]


def _unflatten(tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.removeprefix(_OPTIMISER).split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    return {"state": state, "param_groups": groups}
