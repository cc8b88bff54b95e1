"""Every shipped method trains, stops, goes on to the same weights, and predicts with what the head needs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from frugalseg.config import recipe_names
from frugalseg.data.phantom import write_phantom
from frugalseg.errors import DataError
from frugalseg.files import hash_file, hash_value, read_json_object, write_json
from frugalseg.jobs.model import load_model
from frugalseg.jobs.train import train
from frugalseg.training.loop import Loop

TINY = ["crop=[24,24,32]", "network.width=8", "network.blocks=[1,1,1,1]", "training.steps=2", "training.workers=0"]
TASK = {"cpc": ["auxiliary.cpc.patch=[8,8,8]", "auxiliary.cpc.stride=[8,8,8]", "auxiliary.cpc.blocks=1"]}
SCALARS = {
    "encdec": set(),
    "cpcseg": {"cpc.info_nce"},
    "sscpcseg": {"cpc.info_nce"},
    "vaeseg": {"vae.mse", "vae.kl"},
    "ssvaeseg": {"vae.mse", "vae.kl"},
    "boundseg": {"boundary.edge_dice", "boundary.edge_cross_entropy"},
}


def options(method: str) -> list[str]:
    return [*TINY, *(TASK["cpc"] if "cpc" in method else [])]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=4, labelled=2, test=1, shape=(26, 26, 24), seed=1)
    return folder


def test_the_six_models_are_shipped() -> None:
    assert set(recipe_names()) >= set(SCALARS)


@pytest.mark.parametrize("method", sorted(SCALARS))
def test_trains_and_goes_on_to_the_same_weights(
    method: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = data.parent / "store"
    train(data, tmp_path / "whole", method, labels=2, overrides=options(method), store=store)
    with (tmp_path / "whole" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert SCALARS[method] <= set(rows[0])
    assert all(math.isfinite(float(row[name])) for row in rows for name in SCALARS[method])
    if SCALARS[method]:
        ratio = f"{min(SCALARS[method]).split('.')[0]}.gradient_ratio"
        assert float(rows[0][ratio]) > 0

    class Stopped(Exception):
        pass

    original = Loop.step

    def interrupted(self: Loop, step: int, batch: object) -> dict[str, float]:
        if step == 1:
            raise Stopped
        return original(self, step, batch)  # type: ignore[arg-type]

    once = [*options(method), "training.checkpoint_seconds=0.001"]
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", interrupted)
        with pytest.raises(Stopped):
            train(data, tmp_path / "halves", method, labels=2, overrides=once, store=store)
    result = train(data, tmp_path / "halves", method, labels=2, overrides=once, store=store, resume=True)
    assert result.step == 2
    for name in ("model.safetensors", "state.safetensors"):
        one, two = (load_file(tmp_path / run / "last" / name) for run in ("whole", "halves"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name
    model = load_model(tmp_path / "whole", device="cpu")
    windows = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 24, 16, 8)).astype(np.float32))
    with torch.no_grad():
        assert model.predict(windows, flips=False).isfinite().all()


def test_a_model_without_the_branch_that_its_head_sees_is_refused(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(data, run, "boundseg", labels=2, overrides=options("boundseg"), store=data.parent / "store")
    weights = load_file(run / "last" / "model.safetensors")
    assert any(name.startswith("branches.boundary.") for name in weights)
    save_file(
        {k: v for k, v in weights.items() if k != "branches.boundary.att_in.bias"}, run / "last/model.safetensors"
    )
    seal = read_json_object(run / "last" / "state.json")
    seal.pop("seal")
    seal["sha256"]["model.safetensors"] = hash_file(run / "last" / "model.safetensors")
    write_json(run / "last" / "state.json", {**seal, "seal": hash_value(seal)})
    with pytest.raises(DataError, match=r"lacks the weight 'branches\.boundary\.att_in\.bias'"):
        load_model(run, device="cpu")
