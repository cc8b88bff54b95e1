"""A data set laid out by a published split."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from frugalseg.config.load import split_text
from frugalseg.data.budget import make_split, read_names
from frugalseg.data.manifest import read_manifest
from frugalseg.errors import ConfigError, DataError, UserError
from frugalseg.jobs.split import split
from tests.data.datasets import write_nifti

NAME = "brats-iwasawa2020"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """484 tiny cases with the names of MSD Task01_BrainTumour."""
    folder = tmp_path_factory.mktemp("Task01")
    chosen = json.loads(split_text(NAME))
    names = [*chosen["train"], *chosen["validation"], *chosen["test"]]
    for name in names:
        write_nifti(folder / f"imagesTr/{name}.nii.gz", np.full((2, 2, 2), int(name[-3:]), np.int16))
        write_nifti(folder / f"labelsTr/{name}.nii.gz", np.ones((2, 2, 2), np.uint8))
    content = {
        "modality": {"0": "FLAIR"},
        "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_roles_regions_and_nested_budgets(data: Path, tmp_path: Path) -> None:
    split(NAME, data, tmp_path / "out")
    chosen = json.loads(split_text(NAME))
    manifest = read_manifest(tmp_path / "out")
    assert (len(manifest.labelled), len(manifest.validation), len(manifest.test)) == (435, 48, 49)
    assert {case.name for case in manifest.test} == set(chosen["test"])
    assert not {case.name for case in manifest.training} & set(chosen["test"])
    assert (tmp_path / "out/labelsTs" / f"{chosen['test'][0]}.nii.gz").exists()
    assert manifest.scheme.structures == ("whole_tumour", "tumour_core", "enhancing")
    budgets = [read_names(tmp_path / f"out/budgets/{n}.txt") for n in (3, 6, 12, 24, 96)]
    assert budgets[0] == ["BRATS_446", "BRATS_415", "BRATS_165"]
    for smaller, larger in pairwise(budgets):
        assert larger[: len(smaller)] == smaller
    six = make_split(manifest, named=budgets[1])
    assert six.labelled == tuple(budgets[1])
    assert len(six.unlabelled) == 435 - 6


def test_refusals(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'brats-iwasawa2020'"):
        split("brats-iwasawa", data, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(UserError, match="not empty"):
        split(NAME, data, tmp_path / "full")
    content = json.loads((data / "dataset.json").read_text())
    smaller = tmp_path / "smaller"
    (smaller / "imagesTr").mkdir(parents=True)
    entry = content["training"][0]
    for kind in ("image", "label"):
        (smaller / entry[kind]).parent.mkdir(exist_ok=True)
        (smaller / entry[kind]).write_bytes((data / entry[kind]).read_bytes())
    (smaller / "dataset.json").write_text(json.dumps({**content, "training": [entry]}))
    with pytest.raises(DataError, match="483 of the split's 484 are missing"):
        split(NAME, smaller, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nnunets_layout_stays_nnunets(data: Path, tmp_path: Path) -> None:
    """The images of both channels and the labels go to the folders that nnU-Net's layout reads."""
    raw = tmp_path / "raw"
    for part, number in (("images", "_0000"), ("images", "_0001"), ("labels", "")):
        (raw / f"{part}Tr").mkdir(parents=True, exist_ok=True)
        for file in (data / f"{part}Tr").iterdir():
            (raw / f"{part}Tr" / f"{file.name.removesuffix('.nii.gz')}{number}.nii.gz").symlink_to(file)
    content = json.loads((data / "dataset.json").read_text())
    labels = {name: int(value) for value, name in content["labels"].items()}
    described = {"channel_names": {"0": "FLAIR", "1": "T1w"}, "labels": labels, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps({**described, "numTraining": 484}))
    split(NAME, raw, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert (len(manifest.labelled), len(manifest.validation), len(manifest.test)) == (435, 48, 49)
    assert len(manifest.test[0].images) == 2
    assert manifest.scheme.structures == ("whole_tumour", "tumour_core", "enhancing")


def test_correcting_a_label_of_the_layout_leaves_the_original_alone(data: Path, tmp_path: Path) -> None:
    split(NAME, data, tmp_path / "out")
    chosen = json.loads(split_text(NAME))
    trains, tests = chosen["train"][0], chosen["test"][0]
    for inside, outside, linked in (
        (f"imagesTr/{trains}", f"imagesTr/{trains}", True),
        (f"labelsTs/{tests}", f"labelsTr/{tests}", True),
        (f"labelsTr/{trains}", f"labelsTr/{trains}", False),
    ):
        one, other = tmp_path / "out" / f"{inside}.nii.gz", data / f"{outside}.nii.gz"
        assert one.read_bytes() == other.read_bytes()
        assert one.samefile(other) == linked, inside
