"""A recipe that adapts itself: what the data does not allow is left out, said, recorded, and stays left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from frugalseg.config import load_config
from frugalseg.files import read_json_object
from frugalseg.jobs.train import train
from frugalseg.study.estimate import measure_step
from tests.data.datasets import write_nifti
from tests.jobs.test_atlas import SIDES, TINY, case, seed_with, write_alike


def test_with_every_volume_labelled_there_are_no_unlabelled_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, store = write_alike(tmp_path / "data", 3), tmp_path / "store"
    train(data, tmp_path / "run", "frugal", overrides=TINY, store=store)
    assert "every volume is labelled; goes on without unlabelled crops" in capsys.readouterr().err
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.semisup is None
    assert config.sampling.unlabelled == 0
    assert config.augment.deform > 0, "labelled cases can be deformed as one another"
    assert config.atlas is not None
    assert train(data, tmp_path / "run", "frugal", overrides=TINY, store=store, resume=True).step == 3
    assert measure_step(data, "frugal", 3, 0, TINY, store).seconds > 0


def test_images_that_are_not_alike_are_not_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, store = write_alike(tmp_path / "data", 3), tmp_path / "store"
    _, label = case(1)
    noise = np.random.default_rng(9).standard_normal(SIDES).astype(np.float32)
    write_nifti(data / "imagesTr" / "case1.nii.gz", noise)
    write_nifti(data / "labelsTr" / "case1.nii.gz", np.roll(label, 12, axis=0))
    seed = seed_with(data, {"case0", "case1"})

    def run(resume: bool = False) -> int:
        return train(
            data, tmp_path / "run", "frugal", labels=2, label_seed=seed, overrides=TINY, store=store, resume=resume
        ).step

    assert run() == 3
    assert "goes on without registration: atlas: registration labels" in capsys.readouterr().err
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.atlas is None
    assert config.semisup is not None
    assert config.semisup.first == "network"
    assert "not alike" in read_json_object(tmp_path / "run" / "plan.json")["reasons"]["registration"]
    assert run(resume=True) == 3
    assert "goes on without registration" not in capsys.readouterr().err, "it was decided before"
