"""What a study will take: pre-trainings counted, disk for what stays or for one run at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.data.manifest import read_manifest
from frugalseg.errors import UserError
from frugalseg.study.design import make_design
from frugalseg.study.estimate import StepCost, estimate, measure_step
from tests.study.micro import OVERRIDES, micro_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_data(tmp_path_factory.mktemp("data") / "phantoms")


def test_a_pre_training_takes_its_share_of_the_minutes() -> None:
    assert StepCost(0.5, 0).steps_in(1) == 120
    assert StepCost(0.5, 0, before=30).steps_in(1) == 60
    with pytest.raises(UserError, match=r"1 minutes are less than a pre-training of 1\.5 minutes takes"):
        StepCost(0.5, 0, before=90).steps_in(1)


def test_hours_and_disk_by_hand(data: Path) -> None:
    design = make_design(["cpcseg"], ["1", "2"], (0, 1, 2), 4, floor="encdec", ceiling=False)
    costs = {"encdec": StepCost(0.5, 1000), "cpcseg": StepCost(1.0, 2000, before=60)}
    steps = {"encdec": 600, "cpcseg": 600}
    found = estimate(design, costs, steps, read_manifest(data), keep=True)
    assert found.cells == 12
    assert found.seconds == {"encdec": 6 * 300, "cpcseg": 6 * 660}
    each = {"encdec": 2 * 4 * 1000 + 2 * 30_000, "cpcseg": 2 * 2 * 4 * 2000 + 2 * 30_000}
    assert found.disk_bytes == 6 * sum(each.values())
    assert estimate(design, costs, steps, read_manifest(data), keep=False).disk_bytes == max(each.values())
    assert "12 runs: 1.6 hours of training one after another" in found.render()


def test_a_recipe_s_pre_training_is_timed(data: Path, tmp_path: Path) -> None:
    settings = [item for item in OVERRIDES if not item.startswith("auxiliary")]
    settings += ["pretrain.auxiliary.cpc.patch=[8,8,8]", "pretrain.steps=1000"]
    with_it = measure_step(data, "cpc-then-encdec", 2, 0, settings, tmp_path / "store")
    assert with_it.before > 100 * with_it.seconds
    assert measure_step(data, "encdec", 2, 0, settings[:-2], tmp_path / "store").before == 0
