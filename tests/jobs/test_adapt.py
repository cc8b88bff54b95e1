"""A recipe that adapts itself: what the data does not allow is left out, said, recorded, and stays left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from frugalseg.config import load_config
from frugalseg.errors import ConfigError, DataError, UserError
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
    told = capsys.readouterr().err
    assert "goes on without registration: registration labels" in told
    assert "choose a method" not in told, "nothing is left to choose"
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.atlas is None
    assert config.semisup is not None
    assert config.semisup.first == "network"
    reason = read_json_object(tmp_path / "run" / "plan.json")["reasons"]["registration"]
    assert "are not alike enough" in reason
    assert run(resume=True) == 3
    assert "goes on without registration" not in capsys.readouterr().err, "it was decided before"
    with pytest.raises(
        ConfigError, match=r"other settings of registration"
    ):  # what would be lost is not dropped unseen
        train(data, tmp_path / "run", "frugal", labels=2, label_seed=seed, store=store, resume=True,
              overrides=[*TINY, "atlas.least=0.1"])  # fmt: skip


def test_with_every_volume_labelled_unlike_images_do_not_vote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_alike(tmp_path / "data", 3)
    for number in range(3):
        noise = np.random.default_rng(number).standard_normal(SIDES).astype(np.float32)
        _, label = case(number)
        write_nifti(data / "imagesTr" / f"case{number}.nii.gz", noise)
        write_nifti(data / "labelsTr" / f"case{number}.nii.gz", np.roll(label, 6 * number, axis=0))
    train(data, tmp_path / "run", "frugal", overrides=TINY, store=tmp_path / "store")
    assert "goes on without registration" in capsys.readouterr().err
    config = load_config(tmp_path / "run" / "config.yaml")
    assert config.inference.registration == 0
    assert config.augment.deform == 0


def test_labels_that_show_a_part_do_not_vote(tmp_path: Path) -> None:
    data = write_alike(tmp_path / "data", 4)
    facts = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**facts, "annotated_classes": {"case0": ["front"]}}))
    votes = [*TINY, "atlas={}", "inference.registration=0.4"]
    with pytest.raises(UserError, match=r"shows a part of the structures only.*inference\.registration=0"):
        train(data, tmp_path / "run", "encdec", labels=2, overrides=votes, store=tmp_path / "store",
              label_seed=seed_with(data, {"case0", "case1"}))  # fmt: skip


def test_weights_that_saw_an_image_as_a_taught_one_are_refused(tmp_path: Path) -> None:
    """Cases that registration labels have other keys; the guard of test images looks at the images' own."""
    first, second = write_alike(tmp_path / "first", 4), write_alike(tmp_path / "second", 3)
    shutil.copytree(second / "imagesTr", second / "imagesTs")
    facts = json.loads((second / "dataset.json").read_text())
    (second / "imagesTs" / "case2.nii.gz").rename(second / "imagesTs" / "other.nii.gz")
    shutil.copy(first / "imagesTr" / "case3.nii.gz", second / "imagesTs" / "other.nii.gz")
    (second / "dataset.json").write_text(json.dumps({**facts, "test": ["./imagesTs/other.nii.gz"], "numTest": 1}))
    store = tmp_path / "store"
    seed = seed_with(first, {"case0", "case1"})
    train(first, tmp_path / "run", "atlas-teacher", labels=2, label_seed=seed, overrides=TINY, store=store)
    with pytest.raises(UserError, match="has seen the image of the test case 'other'"):
        train(second, tmp_path / "next", "encdec", init=tmp_path / "run", overrides=TINY, store=store)


def test_weights_that_learnt_a_test_label_are_refused_even_where_test_images_may_be_seen(tmp_path: Path) -> None:
    """Another data set had the case to train on: --transductive allows its image, never its label."""
    first, second = write_alike(tmp_path / "first", 4), write_alike(tmp_path / "second", 3)
    (second / "imagesTs").mkdir()
    facts = json.loads((second / "dataset.json").read_text())
    shutil.copy(first / "imagesTr" / "case3.nii.gz", second / "imagesTs" / "other.nii.gz")
    (second / "dataset.json").write_text(json.dumps({**facts, "test": ["./imagesTs/other.nii.gz"], "numTest": 1}))
    store = tmp_path / "store"

    def begin(name: str, *cases: str) -> Path:
        seed = seed_with(first, set(cases))
        train(first, tmp_path / name, "encdec", labels=2, label_seed=seed, overrides=TINY, store=store)
        return tmp_path / name

    learnt = begin("learnt", "case0", "case3")
    for transductive in (False, True):
        with pytest.raises(UserError, match="has read the label of the test case 'other'"):
            train(second, tmp_path / "next", "encdec", init=learnt, transductive=transductive, overrides=TINY,
                  store=store)  # fmt: skip
    train(second, tmp_path / "fair", "encdec", init=begin("fairly", "case0", "case1"), transductive=True,
          overrides=TINY, store=store)  # fmt: skip


def test_a_run_whose_checkpoints_are_gone_does_not_begin_anew_unseen(tmp_path: Path) -> None:
    data, store = write_alike(tmp_path / "data", 3), tmp_path / "store"
    train(data, tmp_path / "run", "encdec", overrides=TINY, store=store)
    for name in ("last", "last.previous"):
        shutil.rmtree(tmp_path / "run" / name, ignore_errors=True)
    with pytest.raises(DataError, match="took 3 steps, and no checkpoint of them is left"):
        train(data, tmp_path / "run", "encdec", overrides=TINY, store=store, resume=True)
