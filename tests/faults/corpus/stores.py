"""Stores of prepared cases that are damaged or of another version: what can be made anew is made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from frugalseg.formats import seal
from tests.faults.corpus import command
from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import Scene, commands, remove


def filled(scene: Scene) -> None:
    """Fill the store."""
    assert command.run(commands(scene)["prepare"]).status == 0


def entry(scene: Scene, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what the store knows of every image and label, and seal it."""
    filled(scene)
    for path in sorted(scene.store.glob("*.json")):
        facts = json.loads(path.read_text())
        change(facts)
        scene.file(f"store/{path.name}", json.dumps(seal(facts, "seal")))


@malformed("train", "store/case_0", "has format 8", "update frugalseg")
def store_of_a_newer_format(scene: Scene) -> None:
    entry(scene, lambda facts: facts.update(format_version=8))


@malformed(
    "train", "store", "/case_00.a57996f5cfa9968b.image.b2nd: cannot be written (File exists)", "nothing was changed"
)
def store_that_is_a_file(scene: Scene) -> None:
    scene.file("store", "x")


@legal(before=filled)
def store_with_flipped_bits(scene: Scene) -> None:
    for path in sorted(scene.store.glob("*.b2nd")):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 16
        scene.file(f"store/{path.name}", bytes(content))


@legal(before=filled)
def store_cut_short(scene: Scene) -> None:
    for path in sorted(scene.store.iterdir()):
        scene.file(f"store/{path.name}", path.read_bytes()[:64])


@legal(before=filled)
def store_without_its_arrays(scene: Scene) -> None:
    for path in sorted(scene.store.glob("*.b2nd")):
        remove(path)


@legal(before=filled)
def store_entries_without_a_shape(scene: Scene) -> None:
    entry(scene, lambda facts: facts.pop("shape", None))


@legal(before=filled)
def store_entries_with_a_box_of_text(scene: Scene) -> None:
    entry(scene, lambda facts: facts.update(placement={"grid": "x", "box": "y"}))


@legal(before=filled)
def store_entries_with_hashes_in_a_list(scene: Scene) -> None:
    entry(scene, lambda facts: facts.update(sha256=[1]))


@legal(before=filled)
def store_entries_that_are_lists(scene: Scene) -> None:
    for path in sorted(scene.store.glob("*.json")):
        scene.file(f"store/{path.name}", "[]")
