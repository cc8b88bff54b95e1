"""Writing the files of a run anew with valid hashes: as another version, or somebody with a text editor, would."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugalseg.files import hash_file
from frugalseg.formats import seal
from tests.faults.corpus.scene import Scene, remove

LAST = "run/last"
FILES = ("model.safetensors", "model.json", "state.safetensors")


def alone(scene: Scene) -> None:
    """Leave the run without the checkpoint before the last one, which otherwise takes a damaged one's place."""
    remove(scene.run / "last.previous")


def flip(scene: Scene, name: str, place: int) -> None:
    """Flip a bit of a file of the last checkpoint."""
    content = bytearray((scene.folder / LAST / name).read_bytes())
    content[place] ^= 4
    scene.file(f"{LAST}/{name}", bytes(content))


def state(scene: Scene, change: Callable[[dict[str, Any]], object] = lambda facts: None) -> None:
    """Change the last checkpoint's state.json and seal it, with the hashes of the files as they are now."""
    alone(scene)
    facts = json.loads((scene.folder / LAST / "state.json").read_text())
    facts["sha256"] = {name: hash_file(scene.folder / LAST / name) for name in FILES}
    change(facts)
    scene.file(f"{LAST}/state.json", json.dumps(seal(facts, "seal")))


def weights(scene: Scene, change: Callable[[dict[str, Tensor]], object], name: str = "model.safetensors") -> None:
    """Change the weights of the last checkpoint and seal it."""
    tensors = {key: tensor.clone() for key, tensor in load_file(scene.folder / LAST / name).items()}
    change(tensors)
    remove(scene.folder / LAST / name)
    save_file(tensors, scene.folder / LAST / name)
    state(scene)


def model(scene: Scene, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the last checkpoint's model.json says and seal it."""
    scene.json(f"{LAST}/model.json", change)
    state(scene)


def record(scene: Scene, change: Callable[[dict[str, Any]], object] = lambda facts: None) -> None:
    """Change run.json and seal it, with the hashes of the files as they are now."""
    facts = json.loads((scene.run / "run.json").read_text())
    facts["files"] = {name: hash_file(scene.run / name) for name in ("config.yaml", "plan.json", "split.json")}
    change(facts)
    scene.file("run/run.json", json.dumps(seal(facts)))


def split(scene: Scene, change: Callable[[dict[str, Any]], object]) -> None:
    """Change split.json and seal it, and run.json for it."""
    facts = json.loads((scene.run / "split.json").read_text())
    change(facts)
    scene.file("run/split.json", json.dumps(seal(facts)))
    record(scene)


def drop(key: str) -> Callable[[dict[str, Any]], object]:
    """Return a change that takes a key away."""
    return lambda facts: facts.pop(key)


def put(**keys: Any) -> Callable[[dict[str, Any]], object]:
    """Return a change that sets keys."""
    return lambda facts: facts.update(keys)


def first(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    """Return a change of the first of some weights."""

    def change_first(tensors: Mapping[str, Tensor]) -> None:
        name = sorted(name for name, tensor in tensors.items() if tensor.dtype == torch.float32)[0]
        dict.update(tensors, {name: change(tensors[name]).contiguous()})

    return change_first
