"""Registration alone: label maps on the images' own grids, scored like any other; its cell in a study."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.errors import ConfigError, UserError
from frugalseg.files import read_json_object
from frugalseg.jobs.evaluate import evaluate
from frugalseg.jobs.register import register
from frugalseg.jobs.train import train
from frugalseg.study.design import make_design
from frugalseg.study.length import Length
from frugalseg.study.run import plan, study
from tests.data.datasets import write_nifti
from tests.jobs.test_atlas import case, write_alike

TINY = (
    "crop=[16,16,16]",
    "network.width=8",
    "network.blocks=[1,1,1]",
    "training.workers=0",
    "training.precision=fp32",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write cases of like anatomy, two of them for testing, one of which lies turned in its file."""
    folder = write_alike(tmp_path_factory.mktemp("alike") / "data", 4)
    facts = json.loads((folder / "dataset.json").read_text())
    for number in (7, 8):
        image, label = case(number)
        affine = np.diag([1.0, 1, 1, 1]) if number == 7 else np.diag([-1.0, 1, 1, 1])
        kept = (slice(None),) if number == 7 else (slice(None, None, -1),)
        write_nifti(folder / "imagesTs" / f"case{number}.nii.gz", image[kept], affine)
        write_nifti(folder / "labelsTs" / f"case{number}.nii.gz", label[kept], affine)
        facts["test"].append(f"./imagesTs/case{number}.nii.gz")
    facts["numTest"] = 2
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def test_label_maps_in_the_images_own_space(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions"
    files = register(data, out, labels=3, seed=0, store=tmp_path / "store", probabilities=True)
    assert [file.name for file in files] == ["case7.nii.gz", "case8.nii.gz"]
    for file in files:
        made, image = (nib.Nifti1Image.from_filename(path) for path in (file, data / "imagesTs" / file.name))
        assert np.array_equal(made.affine, image.affine)
        assert made.shape == image.shape
    assert (out / "case7_probability_front.nii.gz").exists()
    mean = evaluate(out, data, tmp_path / "scores").summary.overall["dice"]
    assert mean is not None
    assert mean.mean > 0.7
    record = read_json_object(out / "predictions.json")
    assert record["labels_read"] == 3
    assert len(record["labelled"]) == 3
    with pytest.raises(UserError, match="exists and is not empty"):
        register(data, out, labels=3)


def test_a_cell_of_a_study_beside_a_network(data: Path, tmp_path: Path) -> None:
    design = make_design(["registration"], ["2"], (0, 1), 4, ceiling=False)
    store = tmp_path / "store"
    result = study(data, tmp_path / "study", design, Length(steps=2), TINY, store)
    assert result.done == 4
    facts = read_json_object(tmp_path / "study" / "cells" / "registration-2-0" / "cell.json")
    assert facts["steps"] == 0
    assert facts["dice"] > 0.7
    told = plan(data, design, Length(minutes=0.001), TINY, store, True)
    assert told.steps["registration"] == 0
    assert told.steps["encdec"] >= 1
    again = study(data, tmp_path / "study", design, Length(steps=2), TINY, store)
    assert again.done == 4


def test_it_is_not_trained(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trains nothing: that is `frugalseg register`"):
        train(data, tmp_path / "run", "registration", labels=2)
    with pytest.raises(ConfigError, match="leaves nothing but registration"):
        train(data, tmp_path / "run", "encdec", labels=2, overrides=["trained=false"])
