"""A run on a GPU: it goes on where it was stopped, and its model is read and used anywhere."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from frugalseg.data.phantom import write_phantom
from frugalseg.jobs.evaluate import evaluate
from frugalseg.jobs.model import load_model
from frugalseg.jobs.predict import predict
from frugalseg.jobs.train import train
from frugalseg.training.loop import Loop

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TINY = ["crop=[24,24,32]", "network.width=16", "training.workers=1"]
PATCHES = ["auxiliary.cpc.patch=[8,8,8]", "auxiliary.cpc.blocks=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, cases=5, labelled=3, test=2, shape=(36, 36, 32), seed=1)
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(data, out, "encdec", labels=3, overrides=[*TINY, "training.steps=60"], store=data.parent / "store")
    return out


def test_where_nothing_is_said_the_gpu_is_used_and_it_learns(trained: Path) -> None:
    assert load_model(trained).plan.device == "cuda"
    with (trained / "metrics.csv").open() as file:
        losses = [float(row["segmentation.dice"]) for row in csv.DictReader(file)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("method", ["encdec", "sscpcseg"])
def test_a_run_that_was_stopped_goes_on(
    method: str, deterministic: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        *TINY,
        *(PATCHES if "cpc" in method else []),
        "training.steps=6",
        "training.checkpoint_seconds=0.001",
    ]
    options.append(f"training.deterministic={str(deterministic).lower()}")
    store = data.parent / "store"
    train(data, tmp_path / "whole", method, labels=3, overrides=options, store=store)

    class Stopped(Exception):
        pass

    original = Loop.step

    def interrupted(self: Loop, step: int, batch: object) -> dict[str, float]:
        if step == 3:
            raise Stopped
        return original(self, step, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", interrupted)
        with pytest.raises(Stopped):
            train(data, tmp_path / "halves", method, labels=3, overrides=options, store=store)
    assert train(data, tmp_path / "halves", method, labels=3, overrides=options, store=store, resume=True).step == 6
    one, two = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "halves"))
    assert one.keys() == two.keys()
    apart = max(float((one[key] - two[key]).abs().max()) for key in one)
    print(f"{method}, deterministic={deterministic}: weights differ by {apart:g} at most")
    assert apart < 0.02  # trilinear upsampling has no deterministic gradient there: docs/reproducibility.md


def test_the_model_predicts_the_same_on_the_processor(trained: Path, data: Path, tmp_path: Path) -> None:
    """A run of a GPU is read where there is none, through the library and with the same preparation."""
    windows = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 24, 24, 32)).astype(np.float32))
    found = []
    for device in ("cpu", "cuda"):
        model = load_model(trained, device=device)
        with torch.inference_mode():
            found.append(model.predict(windows, flips=True).float().cpu())
    assert float((found[0] - found[1]).abs().max()) < 0.05  # bf16 in both


def test_predict_and_evaluate(trained: Path, data: Path, tmp_path: Path) -> None:
    files = predict(trained, [data], tmp_path / "predictions", probabilities=True)
    assert len(files) == 2
    assert all(set(np.unique(nib.Nifti1Image.from_filename(file).get_fdata())) <= {0, 1, 2, 3, 4} for file in files)
    found = evaluate(tmp_path / "predictions", data, tmp_path / "scores")
    mean = found.summary.overall["dice"]
    assert mean is not None
    assert math.isfinite(mean.mean)


def test_pre_training_then_training(data: Path, tmp_path: Path) -> None:
    options = [*TINY, *PATCHES, "training.steps=2", "pretrain.steps=2", "pretrain.auxiliary.cpc.patch=[8,8,8]"]
    options = [option for option in options if not option.startswith("auxiliary.")]
    run = tmp_path / "run"
    result = train(data, run, "cpc-then-encdec", labels=3, overrides=options, store=data.parent / "store")
    assert result.step == 2
    assert load_model(run, device="cpu").step == 2
