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
from frugalseg.files import hash_file, read_json_object
from frugalseg.formats import SEAL, seal
from frugalseg.jobs.card import card
from frugalseg.jobs.info import info, render
from frugalseg.jobs.predict import predict
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.taught import Taught
from frugalseg.jobs.teacher_runs import open_teachers
from frugalseg.jobs.train import train
from tests.data.datasets import write_nifti
from tests.jobs.test_atlas import TINY, case, write_alike, write_alike_with_test

VOTE = [*TINY, "atlas={}", "inference.registration=0.4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a test case, a run with voters and one of another seed without."""
    folder = tmp_path_factory.mktemp("taught")
    data = write_alike_with_test(folder / "data", 5)
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
    known = len(split["labelled"])
    ordered = [found[name] for name in names]
    told = Taught(asked, manifest, ordered[:known], place / "store").teach(ordered[known:])
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
    members = record["teachers"]["members"]
    assert [one["labels_read"] for one in members] == [2, 2]
    assert members[0]["run"] == str(place / "one")
    sha256 = hash_file(place / "one" / "last" / "model.safetensors")
    assert (members[0]["checkpoint"], members[0]["step"], members[0]["sha256"]) == ("last", 3, sha256)
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
    with pytest.raises(UserError, match="give both the same --labels, --label-seed and --validation"):
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
    with pytest.raises(UserError, match="other preprocess settings"):
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


def test_what_its_first_weights_had_read_a_teacher_knows(place: Path, tmp_path: Path) -> None:
    def run(out: str, labels: int, **more: Any) -> None:
        train(place / "data", tmp_path / out, "encdec", labels, overrides=TINY, store=place / "store", **more)

    run("many", 4)
    run("few", 2, init=tmp_path / "many")
    with pytest.raises(UserError, match=r"few: has read the label of 'case\d'"):
        learn(place, tmp_path / "leak", str(tmp_path / "few"))
    facts = read_json_object(tmp_path / "few" / "run.json")
    del facts["initial"]["labels"], facts[SEAL]  # as an older version recorded it
    (tmp_path / "few" / "run.json").write_text(json.dumps(seal(facts)))
    with pytest.raises(UserError, match="an older version did not record which; train it anew"):
        learn(place, tmp_path / "leak", str(tmp_path / "few"))
    assert not (tmp_path / "leak").exists()


def test_images_are_told_by_their_content_not_by_names(place: Path, tmp_path: Path) -> None:
    """The same images under other names do not hide that a label was read; others may have the same names."""
    renamed = write_alike(tmp_path / "renamed", 5)
    facts = json.loads((renamed / "dataset.json").read_text())
    for part in ("imagesTr", "labelsTr"):
        for path in sorted((renamed / part).iterdir()):
            path.rename(path.with_name(path.name.replace("case", "patient")))
    text = json.dumps(facts).replace("case", "patient")
    (renamed / "dataset.json").write_text(text)
    train(renamed, tmp_path / "knows", "encdec", 4, overrides=TINY, store=tmp_path / "store")
    with pytest.raises(UserError, match=r"has read the label of 'case\d'"):
        learn(place, tmp_path / "leak", str(tmp_path / "knows"))
    others = tmp_path / "others"
    shutil.copytree(place / "data", others)
    for number in range(5):
        image, label = case(20 + number)
        write_nifti(others / "imagesTr" / f"case{number}.nii.gz", image)
        write_nifti(others / "labelsTr" / f"case{number}.nii.gz", label)
    train(others, tmp_path / "elsewhere", "encdec", 4, overrides=TINY, store=tmp_path / "store")
    learn(place, tmp_path / "fine", str(tmp_path / "elsewhere"))
    record = read_json_object(tmp_path / "fine" / "run.json")
    assert record["teachers"]["members"][0]["labels_read"] == 4
    assert "4 labels" in render(info(tmp_path / "fine"))


def test_a_second_round_and_a_checkpoint_that_validation_chose(place: Path, tmp_path: Path) -> None:
    more = {"labels": 3, "validation": 1}
    train(place / "data", tmp_path / "one", "encdec", 3, overrides=TINY, store=place / "store", validation=1)
    learn(place, tmp_path / "two", str(tmp_path / "one"), **more)
    learn(place, tmp_path / "three", str(tmp_path / "two"), **more)
    member = read_json_object(tmp_path / "two" / "run.json")["teachers"]["members"][0]
    assert member["checkpoint"] == "best"
    assert member["sha256"] == hash_file(tmp_path / "one" / "best" / "model.safetensors")


def test_folds_teach_at_their_temperature_and_are_named_as_given(place: Path, tmp_path: Path) -> None:
    from frugalseg.jobs.folds import train_folds

    train_folds(place / "data", tmp_path / "folds", 2, "encdec", 2, overrides=TINY, store=place / "store")
    asked = open_teachers([tmp_path / "folds"])
    assert len(asked.runs) == 2
    assert asked.temperature == read_json_object(tmp_path / "folds" / "ensemble.json")["temperature"]
    learn(place, tmp_path / "run", str(tmp_path / "folds"))
    learn(place, tmp_path / "run", str(tmp_path / "folds"), resume=True)
    with pytest.raises(UserError, match=r"was begun with --teacher .*folds; repeat its command"):
        learn(place, tmp_path / "run", str(tmp_path / "folds" / "fold-0"), resume=True)


def test_where_every_volume_is_labelled_there_is_none_to_be_taught(place: Path, tmp_path: Path) -> None:
    train(place / "data", tmp_path / "all", "encdec", 5, overrides=TINY, store=place / "store")
    with pytest.raises(UserError, match="--teacher: every volume is labelled: there is none to be taught"):
        learn(place, tmp_path / "x", str(tmp_path / "all"), labels=5, method="frugal")
