"""Every shipped recipe, shrunk, takes a step on phantoms; epochs become steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frugalseg.config import load_config, recipe_names
from frugalseg.data.phantom import write_phantom
from frugalseg.jobs.train import train
from frugalseg.training.optimiser import learning_rate
from frugalseg.training.settings import TrainingSettings

FULL = [name for name in recipe_names() if name.startswith("brats-")]
SMALL = [name for name in recipe_names() if name.startswith("hippocampus-")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=3, labelled=1, test=1, shape=(64, 64, 64), seed=1)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FULL, *SMALL])
def test_a_step_of_every_recipe(name: str, data: Path, store: Path, tmp_path: Path) -> None:
    size = ["crop=[64,64,64]", "sampling.labelled=1"] if name in FULL else []
    length = ["training.steps=1", "training.epochs=null", "training.schedule_unit=step"]
    result = train(data, tmp_path / "run", name, overrides=["network.width=8", *size, *length], store=store)
    assert result.step == 1
    row = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1]
    assert "nan" not in row


@pytest.mark.parametrize("kind", ["encdec", "vaeseg", "boundseg", "cpcseg", "ssvaeseg", "sscpcseg"])
def test_full_size_settings_are_the_papers(kind: str) -> None:
    config = load_config(f"brats-{kind}")
    assert config.crop == ((144, 144, 128) if "cpc" in kind else (160, 192, 128))
    assert (config.network.width, config.network.blocks, config.network.dropout) == (32, (1, 2, 2, 4), 0.2)
    training = config.training
    assert (training.epochs, training.learning_rate, training.weight_decay) == (300, 1e-4, 1e-5)
    assert (training.optimiser, training.schedule, training.schedule_unit) == ("published", "poly", "epoch")
    assert config.sampling.labelled + config.sampling.unlabelled == 8
    assert (config.sampling.mix == "published") == kind.startswith("ss")
    assert config.augment.shift_range == (-0.1, 0.1)
    assert (config.augment.scale > 0) == ("vae" not in kind)
    weights = {name: task.weight for name, task in config.auxiliary.items()}
    published = {"encdec": {}, "boundseg": {"boundary": 1.0}, "vaeseg": {"vae": 1.0}, "ssvaeseg": {"vae": 1.0}}
    assert weights == published.get(kind, {"cpc": 0.001})


@pytest.mark.slow
def test_epochs_count_the_volumes_that_the_run_draws_from(data: Path, store: Path, tmp_path: Path) -> None:
    shrunk = ["network.width=8", "crop=[32,32,32]", "training.epochs=2", "auxiliary.cpc.patch=[16,16,16]"]
    for name, steps in (("brats-cpcseg", 2), ("brats-sscpcseg", 4)):  # 1 and 3 volumes, 2 crops a step
        train(data, tmp_path / name, name, overrides=[*shrunk, "sampling.labelled=2",
              "auxiliary.cpc.stride=[8,8,8]"], store=store)  # fmt: skip
        assert json.loads((tmp_path / name / "plan.json").read_text())["steps"] == steps


def test_the_published_schedule_moves_once_per_epoch() -> None:
    settings = TrainingSettings(epochs=4, schedule_unit="epoch", warmup=0.0, learning_rate=1.0)
    rates = [learning_rate(settings, step, 12) for step in range(12)]
    wanted = [(1 - epoch / 4) ** 0.9 for epoch in range(4) for _ in range(3)]
    assert rates == pytest.approx(wanted)
