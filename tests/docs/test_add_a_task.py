"""The walk-through in docs/add-a-task.md works: its task is built from the page's own code and trains a step."""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import Field, TypeAdapter, ValidationError

import frugalseg.objectives
from frugalseg.config.schema import Config
from frugalseg.networks import NetworkSettings, build_network
from frugalseg.networks.encoder import PUBLISHED_STRIDES
from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings, Shapes, Task
from frugalseg.training.total import Objectives

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"
NAME = "frugalseg.objectives.distance"
CROP = (16, 16, 8)


def blocks() -> dict[str, str]:
    """Return the page's code by the file that its first line names."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def load(name: str, code: str, folder: Path) -> ModuleType:
    path = folder / f"{name.replace('.', '_')}.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    yield load(NAME, blocks()["src/frugalseg/objectives/distance.py"], tmp_path_factory.mktemp("page"))
    del sys.modules[NAME]


@pytest.fixture(scope="module")
def registry(module: ModuleType) -> TypeAdapter[Any]:
    """Return the page's union of all tasks."""
    names = {**vars(frugalseg.objectives), "Annotated": Annotated, "Field": Field}
    names["DistanceSettings"] = module.DistanceSettings
    exec(blocks()["src/frugalseg/objectives/__init__.py"], names)  # noqa: S102
    return TypeAdapter(names["AnyTask"])


def test_the_page_has_a_file_a_registry_a_recipe_and_a_test() -> None:
    assert set(blocks()) == {
        "src/frugalseg/objectives/distance.py",
        "src/frugalseg/objectives/__init__.py",
        "src/frugalseg/recipes/distseg.yaml",
        "tests/objectives/test_distance.py",
    }


def test_the_registry_of_the_page_is_the_real_one_and_the_new_task() -> None:
    page = set(re.findall(r"\w+Settings", blocks()["src/frugalseg/objectives/__init__.py"]))
    real = set(re.findall(r"\w+Settings", str(frugalseg.objectives.AnyTask)))
    assert page == real | {"DistanceSettings"}


def test_the_tests_of_the_page_pass(module: ModuleType, tmp_path: Path) -> None:
    tests = load("page_tests", blocks()["tests/objectives/test_distance.py"], tmp_path)
    functions = [value for name, value in vars(tests).items() if name.startswith("test_")]
    assert len(functions) == 3
    for function in functions:
        function()


def recipe() -> dict[str, Any]:
    content = yaml.safe_load(blocks()["src/frugalseg/recipes/distseg.yaml"])
    assert isinstance(content, dict)
    return content


def test_the_recipe_of_the_page_is_complete(registry: TypeAdapter[Any]) -> None:
    content = recipe()
    settings = registry.validate_python(content["auxiliary"].pop("distance"))
    assert (settings.weight, settings.clip_mm) == (0.5, 5.0)
    assert content.pop("augment") == "strong"
    assert Config.model_validate(content).method == "distseg"
    with pytest.raises(ValidationError, match="distance"):
        registry.validate_python({"kind": "distanze"})


@pytest.mark.parametrize("labelled", [2, 0])
def test_the_task_trains_a_step(labelled: int, registry: TypeAdapter[Any]) -> None:
    torch.manual_seed(0)
    settings = registry.validate_python(recipe()["auxiliary"]["distance"])
    shapes = Shapes(1, CROP, PUBLISHED_STRIDES, (8, 16, 32, 64), 8, 1, 3)
    task = settings.build(shapes)
    assert isinstance(task, Task)
    net = build_network(NetworkSettings(), 1, 3, PUBLISHED_STRIDES, [(3, 3, 3)] * 4, {"distance": task}, 8)
    label = np.zeros((2, 1, *CROP), np.uint8)
    label[:, :, 3:9, 4:12, 2:6] = 1
    label[:, :, 5:7, 6:9, 3:5] = 2
    targets = [task.target(crop, (1.0, 1.0, 2.0)) for crop in label]
    assert set(targets[0]) == {"distance"}
    extra = {"distance.distance": torch.from_numpy(np.stack([one["distance"] for one in targets]))}
    weight = torch.zeros(2, 1, *CROP, dtype=torch.uint8)
    weight[:labelled] = 1
    image, numbers = torch.randn(2, 1, *CROP), torch.arange(2)
    batch = Batch(image, torch.from_numpy(label), weight, numbers, numbers, 2, extra)
    before = copy.deepcopy(net.state_dict())
    sums = Objectives(
        SegmentationLoss(SegmentationSettings(), 1, 3), {"distance": task}, {"distance": settings.weight}
    )
    terms = sums(net(batch.image, batch.keys, batch.segmented), batch)
    torch.testing.assert_close(terms.totals["distance"], 0.5 * terms.scalars["distance.l1"])
    terms.totals["distance"].backward()
    torch.optim.SGD(net.parameters(), lr=0.5).step()
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    if labelled:
        for part in (
            "encoder.init_conv",
            "encoder.levels.3",
            "branches.distance.decoder",
            "branches.distance.head",
        ):
            assert any(name.startswith(part) for name in changed), part
        assert not any(name.startswith(("decoder", "head")) for name in changed)
    else:
        assert changed == set()
