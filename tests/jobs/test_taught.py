"""Finished runs that teach another one: what is learnt by hand, what is recorded, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.manifest import read_manifest
from frugalseg.data.store import Entry, open_array
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.jobs.card import card
from frugalseg.jobs.info import info, render
from frugalseg.jobs.predict import predict
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.taught import open_teachers
from frugalseg.jobs.train import train
from tests.data.datasets import write_nifti
from tests.jobs.test_atlas import TINY, case, write_alike

VOTE = [*TINY, "atlas={}", "inference.registration=0.4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a test case, a run with voters and one of another seed without."""
    folder = tmp_path_factory.mktemp("taught")
    data = write_alike(folder / "data", 5)
    image, label = case(9)
    write_nifti(data / "imagesTs" / "case9.nii.gz", image)
    write_nifti(data / "labelsTs" / "case9.nii.gz", label)
    facts = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**facts, "test": ["./imagesTs/case9.nii.gz"], "numTest": 1}))
    train(data, folder / "one", "encdec", labels=2, overrides=VOTE, store=folder / "store")
    train(data, folder / "two", "encdec", labels=2, seed=1, label_seed=0, overrides=TINY, store=folder / "store")
    return folder


def learn(place: Path, out: Path, *teachers: str, labels: int = 2, **more: Any) -> None:
    overrides = [*TINY, *more.pop("overrides", ())]
    train(
        place / "data", out, more.pop("method", "mean-teacher"), labels, overrides=overrides, store=place / "store",
        teachers=[place / name for name in teachers], **more,
    )  # fmt: skip


def guesses(place: Path, *teachers: str) -> dict[str, NDArray[np.float32]]:
    """Return what teachers say of the unlabelled cases, (3, x, y, z)."""
    manifest, asked = read_manifest(place / "data"), open_teachers([place / name for name in teachers])
    split = read_json_object(place / "one" / "split.json")
    names = [*split["labelled"], *split["unlabelled"]]
    found = {
        one.name: one
        for one in prepared(manifest, set(split["labelled"]), place / "store", asked.runs[0].known.preparation[0])
    }
    told = asked.teach(manifest, [found[name] for name in names], len(split["labelled"]), place / "store")
    assert [one.guess for one in told[: len(split["labelled"])]] == [None, None]
    return {
        one.name: np.asarray(open_array(one.guess)[:], np.float32) / np.float32(255)
        for one in told
        if one.guess is not None
    }


def predicted(place: Path, out: Path, *runs: str, register: bool = True) -> NDArray[np.float32]:
    """Return the probability of `front` in an unlabelled case, as the whole program predicts it."""
    split = read_json_object(place / "one" / "split.json")
    name = split["unlabelled"][0]
    image = place / "data" / "imagesTr" / f"{name}.nii.gz"
    predict(
        [place / run for run in runs], [image], out, flips=True, probabilities=True, register=register,
        store=place / "store",
    )  # fmt: skip
    return np.asarray(nib.Nifti1Image.from_filename(out / f"{name}_probability_front.nii.gz").dataobj, np.float32)


@pytest.mark.parametrize("runs", [("one",), ("two",), ("one", "two")])
def test_what_is_taught_is_what_the_runs_predict_with_flips_and_votes(
    place: Path, tmp_path: Path, runs: tuple[str, ...]
) -> None:
    name = read_json_object(place / "one" / "split.json")["unlabelled"][0]
    wanted = predicted(place, tmp_path / "out", *runs)
    found = guesses(place, *runs)[name][1]
    if "one" not in runs:
        assert found == pytest.approx(wanted, abs=4e-3)  # kept in 255ths
        return
    # Kept displacements are thinned: some votes come out a little otherwise, much less so than without votes.
    without = predicted(place, tmp_path / "net", *runs, register=False)
    assert np.abs(found - wanted).mean() < 0.1 * np.abs(without - wanted).mean()


def test_a_second_time_nothing_is_computed_and_what_was_taught_is_recorded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(place, tmp_path / "run", "one", "two")
    monkeypatch.setattr(Entry, "write", lambda *_: pytest.fail("made anew"))
    learn(place, tmp_path / "again", "one", "two")
    monkeypatch.undo()
    weights = [(tmp_path / run / "last" / "model.safetensors").read_bytes() for run in ("run", "again")]
    assert weights[0] == weights[1]
    record = read_json_object(tmp_path / "run" / "run.json")
    labelled = sorted(read_json_object(place / "one" / "split.json")["labelled"])
    assert [teacher["labelled"] for teacher in record["teachers"]] == [labelled, labelled]
    assert record["teachers"][0]["run"] == str(place / "one")
    assert "taught by" in render(info(tmp_path / "run"))
    assert "Taught by" in card(tmp_path / "run")
    learn(place, tmp_path / "alone", "two")
    assert (tmp_path / "alone" / "last" / "model.safetensors").read_bytes() != weights[0], "they teach otherwise"


def test_no_label_beyond_the_budget_is_read(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    for name in read_json_object(place / "one" / "split.json")["unlabelled"]:
        os.truncate(tmp_path / "data" / "labelsTr" / f"{name}.nii.gz", 20)
    train(
        tmp_path / "data", tmp_path / "run", "mean-teacher", 2, overrides=TINY, store=tmp_path / "store",
        teachers=[place / "one"],
    )  # fmt: skip
    learn(place, tmp_path / "whole", "one")
    weights = [(tmp_path / run / "last" / "model.safetensors").read_bytes() for run in ("run", "whole")]
    assert weights[0] == weights[1]


def test_teachers_that_know_more_than_the_run_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has read the label of 'case\d', which is not among the labels"):
        learn(place, tmp_path / "fewer", "one", labels=1)
    with pytest.raises(UserError, match="has read the label of"):  # it chose its checkpoint with one of the two
        learn(place, tmp_path / "chosen", "one", validation=1)
    with pytest.raises(UserError, match="give both the same --labels and --label-seed"):
        learn(place, tmp_path / "others", "one", label_seed=2)
    learn(place, tmp_path / "student", "one", labels=2)
    learn_again = {"runs": tmp_path / "student"}
    with pytest.raises(UserError, match="has read the label of"):  # what its teacher knew it knows
        train(
            place / "data", tmp_path / "x", "mean-teacher", 1, overrides=TINY, store=place / "store",
            teachers=[learn_again["runs"]],
        )  # fmt: skip
    train(
        place / "data", tmp_path / "saw", "mean-teacher", 2, overrides=TINY, store=place / "store",
        transductive=True,
    )  # fmt: skip
    shutil.copytree(tmp_path / "saw", place / "saw")
    with pytest.raises(UserError, match="has seen the test cases' images"):
        learn(place, tmp_path / "blind", "saw")
    for folder in ("fewer", "chosen", "others", "x", "blind"):
        assert not (tmp_path / folder).exists()


def test_what_cannot_be_taught_is_refused_in_a_line(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'encdec' learns from no teacher; choose frugal"):
        learn(place, tmp_path / "a", "one", method="encdec")
    with pytest.raises(UserError, match=r"--teacher: semisup.first=runs needs finished runs"):
        learn(place, tmp_path / "b", overrides=["semisup.first=runs"])
    with pytest.raises(UserError, match="prepared in another way"):
        learn(place, tmp_path / "c", "one", overrides=["preprocess.spacing=[2,2,2]"])
    with pytest.raises(UserError, match="is not a folder"):
        learn(place, tmp_path / "d", "nothing")


def test_a_run_goes_on_with_its_own_teachers_alone(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "two", tmp_path / "teacher")
    teacher = str(tmp_path / "teacher")
    learn(place, tmp_path / "run", teacher)
    with pytest.raises(UserError, match=r"was begun with --teacher .*teacher; repeat its command"):
        learn(place, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match=r"was begun with --teacher"):
        learn(place, tmp_path / "run", "one", resume=True)
    learn(place, tmp_path / "run", teacher, resume=True)
    shutil.rmtree(tmp_path / "teacher")
    shutil.copytree(place / "one", tmp_path / "teacher")
    with pytest.raises(DataError, match="has other weights than when this run began with it"):
        learn(place, tmp_path / "run", teacher, resume=True)
