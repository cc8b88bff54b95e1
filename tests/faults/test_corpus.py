"""Every malformed input ends in one line and changes nothing; every unusual but legal one gives the "
"plain result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.faults.corpus import command
from tests.faults.corpus.everything import LEGAL, MALFORMED
from tests.faults.corpus.registry import Legal, Malformed
from tests.faults.corpus.scene import Scene, arrays, build, commands, copy, tree


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(tmp_path_factory.mktemp("corpus") / "clean")


def test_there_are_a_hundred_and_each_says_something_of_its_own() -> None:
    assert len(MALFORMED) >= 100
    told = [(item.where, item.found, item.todo) for item in MALFORMED.values()]
    assert len(set(told)) == len(told)
    for item in MALFORMED.values():
        assert len(item.where) >= 3, item
        assert len(item.found) >= 8, item
        assert len(item.todo) >= 4, item
        assert item.todo not in item.found, item


@pytest.mark.parametrize("item", MALFORMED.values(), ids=lambda item: f"{item.group}-{item.name}")
def test_one_line_says_what_where_and_what_to_do(item: Malformed, clean: Scene, tmp_path: Path) -> None:
    scene = copy(clean, tmp_path)
    more = item.break_(scene)
    before = tree(scene.folder)
    done = command.run([*commands(scene)[item.command], *(more or ())])
    # Beside the one line: what was said before it came to that, and the hint above an option's mistake.
    said = ("store: ", "prepare: ", "train: ", "predict: ", "Usage: ", "Try '")
    lines = [line for line in done.lines if line and not line.startswith(said)]
    assert (done.status, len(lines)) == (2, 1), done
    assert lines[0].startswith("Error: "), lines
    told = lines[0].replace(f"{scene.folder}/", "")
    assert item.where in told, told
    assert item.found in told, told
    assert item.todo in told, told
    after = tree(scene.folder)
    # Prepared cases are whole or not there; a lock's file says who had it.
    changed = {name(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert {path for path in changed if not path.startswith("store") and path != "run/.lock"} == set()


def name(key: str) -> str:
    return bytes.fromhex(key).decode(errors="replace")


@pytest.mark.parametrize("item", LEGAL.values(), ids=lambda item: f"{item.group}-{item.name}")
def test_legal_and_unusual_gives_the_plain_result(item: Legal, clean: Scene, tmp_path: Path) -> None:
    plain, unusual = copy(clean, tmp_path / "plain"), copy(clean, tmp_path / "unusual")
    if item.before is not None:
        item.before(plain)
        item.before(unusual)
    results = []
    for scene, more in ((plain, None), (unusual, item.break_(unusual))):
        done = command.run([*commands(scene)[item.command], *(more or ())])
        assert done.status == 0, done
        results.append(arrays(scene) if item.command == "prepare" else predicted(scene))
    first, second = results
    assert first
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, rtol=0, atol=2e-3, err_msg=name)


def predicted(scene: Scene) -> dict[str, NDArray[Any]]:
    """Return the label maps in the out folder."""
    return {path.name: scene.voxels(f"out/{path.name}") for path in sorted(scene.out.glob("*.nii.gz"))}
