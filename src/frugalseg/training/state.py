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
from frugalseg.files import hash_file, hash_value, read_json_object, sync_folder, write_atomic, write_json

FORMAT_VERSION = 1
LAST, BEST = "last", "best"
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
            temporary / "model.safetensors",
            lambda path: save_file(model, path),
        )
        write_json(temporary / "model.json", {"format_version": FORMAT_VERSION, **model_facts})
        write_atomic(temporary / "state.safetensors", lambda path: save_file({**rest, **tensors}, path))
        names = ("model.safetensors", "model.json", "state.safetensors")
        seal = {
            "format_version": FORMAT_VERSION,
            "step": step,
            "averaged": average is not None,
            "optimiser_groups": groups,
            **facts,
            "sha256": {name: hash_file(temporary / name) for name in names},
        }
        write_json(temporary / "state.json", {**seal, "seal": hash_value(seal)})
        os.chmod(temporary, 0o755)
        _swap(temporary, folder)
        temporary = None
    except (OSError, SafetensorError, DataError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the checkpoint of step {step} cannot be written ({reason}); the one before it is intact", folder
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def read_checkpoint(folder: Path) -> TrainingState | None:
    """Read the checkpoint in `folder`, or the one before it if that is damaged; None if there is none at all.

    Raises:
        DataError: There are checkpoints and none is intact.
    """
    problems = []
    for place in (folder, previous(folder)):
        if not place.is_dir():
            continue
        try:
            facts = verify(place)
            deployed = load_weights(place / "model.safetensors")
            tensors = load_weights(place / "state.safetensors")
        except DataError as error:
            problems.append(str(error))
            continue
        own = {name: t for name, t in tensors.items() if name.startswith(_OPTIMISER)}
        model = deployed | {name: t for name, t in tensors.items() if name not in own}
        if problems:
            facts["fallback"] = problems[0]
        optimiser = _unflatten(own, facts["optimiser_groups"])
        average = deployed if facts["averaged"] else None
        return TrainingState(int(facts["step"]), model, optimiser, facts, average)
    if problems:
        raise DataError(f"no intact checkpoint is left: {problems[0]}", folder)
    return None


def verify(folder: Path) -> dict[str, Any]:
    """Return the facts in state.json after checking every file against its hash.

    Raises:
        DataError: The checkpoint is incomplete, changed, or of a newer format.
    """
    facts = read_json_object(folder / "state.json")
    version = facts.get("format_version")
    if version != FORMAT_VERSION:
        raise DataError(f"has format {version}, this version of frugalseg reads {FORMAT_VERSION}", folder)
    if facts.pop("seal", None) != hash_value(facts):
        raise DataError("is damaged: it does not have the hash that was written with it", folder / "state.json")
    for name, value in facts.get("sha256", {}).items():
        if hash_file(folder / name) != value:
            raise DataError(f"is damaged: {name} does not have the hash that was written with it", folder)
    return facts


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        DataError: It is missing or malformed.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"cannot be read as safetensors ({error})", path) from error


def previous(folder: Path) -> Path:
    """Return where the checkpoint before the one in `folder` is kept."""
    return folder.with_name(folder.name + ".previous")


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
