"""Predicting that was stopped goes on: what the same model made of the same file stays, all else is made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, read_json_object
from frugalseg.inference.inputs import PredictionInput
from frugalseg.jobs import predict as predicting
from frugalseg.jobs.card import card
from frugalseg.jobs.evaluate import evaluate
from frugalseg.jobs.predict import predict
from frugalseg.jobs.predicted import RECORD, UNFINISHED, begin, end, made_by, note_lost, read_record, unfinished
from frugalseg.jobs.register import register
from tests.faults.micro import micro_data, micro_run
from tests.jobs.test_atlas import write_alike_with_test

FACTS: dict[str, Any] = {"format_version": 1, "model_sha256": "a", "flips": False, "cases": {}}


@pytest.fixture
def inputs(tmp_path: Path) -> list[PredictionInput]:
    found = []
    for name in ("a", "b", "c"):
        file = tmp_path / "in" / f"{name}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
        found.append(PredictionInput(name, (file,)))
    return found


def facts_of(inputs: list[PredictionInput], **changed: Any) -> dict[str, Any]:
    return {**FACTS, "cases": {item.name: [str(item.files[0].resolve())] for item in inputs}, **changed}


def names(left: tuple[PredictionInput, ...]) -> list[str]:
    return [item.name for item in left]


def test_a_case_is_done_when_all_its_files_are_there(tmp_path: Path, inputs: list[PredictionInput]) -> None:
    out, facts = tmp_path / "out", facts_of(inputs)
    assert names(unfinished(out, facts, inputs, ["x"], True)) == ["a", "b", "c"]
    assert not out.exists()
    begin(out, facts, inputs, (), [])
    for name in ("a.nii.gz", "a_probability_x.nii.gz", "b.nii.gz"):
        (out / name).touch()
    assert names(unfinished(out, facts, inputs, ["x"], True)) == ["b", "c"]
    assert names(unfinished(out, facts, inputs, [], True)) == ["c"]


def test_an_image_that_changed_is_predicted_again(tmp_path: Path, inputs: list[PredictionInput]) -> None:
    out, facts = tmp_path / "out", facts_of(inputs)
    noted = begin(out, facts, inputs, (), [])
    for name in "abc":
        (out / f"{name}.nii.gz").touch()
    end(out, noted)
    assert unfinished(out, facts, inputs, [], True) == ()
    inputs[1].files[0].write_bytes(b"longer")
    os.utime(inputs[2].files[0], ns=(1, 1))
    left = unfinished(out, facts, inputs, [], True)
    assert names(left) == ["b", "c"]
    begin(out, facts, inputs, left, [])  # and is killed before it predicts one
    assert names(unfinished(out, facts, inputs, [], True)) == ["b", "c"]


def test_a_finished_folder_takes_further_cases(tmp_path: Path, inputs: list[PredictionInput]) -> None:
    out, facts = tmp_path / "out", facts_of(inputs[:2])
    noted = begin(out, facts, inputs[:2], (), [])
    for name in "ab":
        (out / f"{name}.nii.gz").touch()
    end(out, noted)
    assert not (out / UNFINISHED).exists()
    assert names(unfinished(out, facts_of(inputs), inputs, [], True)) == ["c"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_sha256": "b"}, "model_sha256"),
        ({"flips": True}, "flips"),
        ({"members": [{"model_sha256": "z", "run": "there"}]}, "members"),
    ],
)
def test_what_something_else_made_is_refused(
    tmp_path: Path, inputs: list[PredictionInput], changed: dict[str, Any], named: str
) -> None:
    begin(tmp_path / "out", facts_of(inputs), inputs, (), [])
    with pytest.raises(UserError, match=f"was begun with another {named}"):
        unfinished(tmp_path / "out", facts_of(inputs, **changed), inputs, [], True)


def test_a_run_may_have_been_moved(tmp_path: Path, inputs: list[PredictionInput]) -> None:
    begin(
        tmp_path / "out",
        facts_of(inputs, run="here", members=[{"model_sha256": "z", "run": "here"}]),
        inputs,
        (),
        [],
    )
    moved = facts_of(inputs, run="there", members=[{"model_sha256": "z", "run": "there"}])
    assert len(unfinished(tmp_path / "out", moved, inputs, [], True)) == 3


def test_cases_that_are_not_asked_for_now_stay_in_the_record(tmp_path: Path, inputs: list[PredictionInput]) -> None:
    out = tmp_path / "out"
    noted = begin(out, facts_of(inputs[:2]), inputs[:2], inputs[:2], [])
    for name in "ab":
        (out / f"{name}.nii.gz").touch()
    note_lost(out, noted, "a", ["x"])
    note_lost(out, noted, "b", ["y"])
    assert read_record(out, UNFINISHED)["not_registered"] == {"a": ["x"], "b": ["y"]}, "also if it is killed now"
    end(out, noted)
    (out / "b.nii.gz").unlink()
    left = unfinished(out, facts_of(inputs[1:]), inputs[1:], [], True)
    assert names(left) == ["b", "c"]
    end(out, begin(out, facts_of(inputs[1:]), inputs[1:], left, []))
    found = read_record(out)
    assert set(found["cases"]) == {"a", "b", "c"}
    assert found["not_registered"] == {"a": ["x"]}, "b is predicted anew"
    for name in "bc":
        (out / f"{name}.nii.gz").touch()
    assert unfinished(out, facts_of(inputs), inputs, [], True) == ()
    os.utime(inputs[0].files[0], ns=(1, 1))
    assert names(unfinished(out, facts_of(inputs), inputs, [], True)) == ["a"]


def test_a_record_that_does_not_say_whether_probabilities_were_written(
    tmp_path: Path, inputs: list[PredictionInput]
) -> None:
    out = tmp_path / "out"
    end(out, begin(out, facts_of(inputs), inputs, (), []))
    for item in inputs:
        (out / f"{item.name}.nii.gz").touch()
    assert unfinished(out, facts_of(inputs, probabilities=False), inputs, [], True) == ()
    assert len(unfinished(out, facts_of(inputs, probabilities=True), inputs, ["x"], True)) == 3


def test_folders_of_something_else(tmp_path: Path, inputs: list[PredictionInput]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert len(unfinished(out, facts_of(inputs), inputs, [], False)) == 3
    (out / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"is not empty; choose another --out$"):
        unfinished(out, facts_of(inputs), inputs, [], False)
    with pytest.raises(UserError, match="holds no predictions to go on with"):
        unfinished(out, facts_of(inputs), inputs, [], True)
    begin(out, facts_of(inputs), inputs, (), [])
    with pytest.raises(UserError, match="--resume goes on with it"):
        unfinished(out, facts_of(inputs), inputs, [], False)
    (out / UNFINISHED).write_text('{"format_version": 1, "stamps": {"x": "new"}}')
    with pytest.raises(DataError, match="stamps"):
        unfinished(out, facts_of(inputs), inputs, [], True)


def test_predictions_that_were_cut_off_end_as_if_they_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = micro_data(tmp_path / "data")
    shutil.copyfile(data / "imagesTr" / "phantom_000.nii.gz", tmp_path / "also.nii.gz")
    run, store = tmp_path / "run", tmp_path / "store"
    micro_run(data, run, store)
    images = [data / "imagesTs", tmp_path / "also.nii.gz"]
    predict(run, images, tmp_path / "whole", probabilities=True)
    real, calls = predicting.predict_case, []

    def first_alone(model: Any, item: Any, *others: Any) -> Path:
        calls.append(item.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(model, item, *others)

    monkeypatch.setattr(predicting, "predict_case", first_alone)
    with pytest.raises(KeyboardInterrupt):
        predict(run, images, tmp_path / "cut", probabilities=True)
    assert not (tmp_path / "cut" / RECORD).exists()
    made = predict(run, images, tmp_path / "cut", probabilities=True, resume=True)
    assert calls == [made[0].name[:-7], made[1].name[:-7], made[1].name[:-7]]
    again = predict(run, images, tmp_path / "cut", probabilities=True, resume=True)
    assert (again, len(calls)) == (made, 3)
    whole, cut = (sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("whole", "cut"))
    assert whole == cut
    for name in whole:
        one, two = tmp_path / "whole" / name, tmp_path / "cut" / name
        same = (
            read_json_object(one) == read_json_object(two)
            if name == RECORD
            else one.read_bytes() == two.read_bytes()
        )
        assert same, name
    with pytest.raises(UserError, match="another probabilities"):
        predict(run, images, tmp_path / "cut", resume=True)


def test_registering_goes_on_too(tmp_path: Path) -> None:
    data, store = write_alike_with_test(tmp_path / "data", 4), tmp_path / "store"
    files = register(data, tmp_path / "out", labels=2, store=store)
    made, before = files[0].read_bytes(), files[0].stat().st_mtime_ns
    (tmp_path / "out" / RECORD).rename(tmp_path / "out" / UNFINISHED)
    assert register(data, tmp_path / "out", labels=2, store=store, resume=True) == files
    assert files[0].stat().st_mtime_ns == before
    files[0].unlink()
    assert register(data, tmp_path / "out", labels=2, store=store, resume=True) == files
    assert files[0].read_bytes() == made
    shutil.copyfile(data / "imagesTs" / "case9.nii.gz", data / "imagesTs" / "later.nii.gz")
    facts = read_json_object(data / "dataset.json")
    facts |= {"test": [*facts["test"], "./imagesTs/later.nii.gz"], "numTest": 2}
    (data / "dataset.json").write_text(json.dumps(facts))
    before = files[0].stat().st_mtime_ns
    more = register(data, tmp_path / "out", labels=2, store=store, resume=True)
    assert [path.name for path in more] == ["case9.nii.gz", "later.nii.gz"]
    assert files[0].stat().st_mtime_ns == before
    with pytest.raises(UserError, match="another model_sha256"):
        register(data, tmp_path / "out", labels=3, store=store, resume=True)


def test_a_summary_says_which_model_made_what_it_scores(tmp_path: Path) -> None:
    """Its folder it does not name: people pass summaries on."""
    data = micro_data(tmp_path / "data")
    run = micro_run(data, tmp_path / "run", tmp_path / "store").run
    predict(run, [data], tmp_path / "out")
    evaluate(tmp_path / "out", data, tmp_path / "scores")
    text = (tmp_path / "scores" / "summary.json").read_text()
    assert json.loads(text)["predictions"]["models"] == [hash_file(run / "best" / "model.safetensors")]
    assert str(tmp_path) not in text
    assert "This model predicted them" in card(run, tmp_path / "scores")


def test_what_was_put_beside_predictions_is_nobodys(inputs: list[PredictionInput]) -> None:
    facts = facts_of(inputs, method="encdec", registration=0.0, run="/secret")
    assert made_by(facts, ["a", "b"]) == {
        "models": ["a"], "method": "encdec", "flips": False, "registration": 0.0
    }  # fmt: skip
    assert made_by(facts, ["a", "by hand"]) is None
    two = {**facts, "members": [{"model_sha256": "a"}, {"model_sha256": "b"}]}
    assert (made_by(two, ["a"]) or {})["models"] == ["a", "b"]
    for wrong in ({}, {**facts, "members": [3]}, {**facts, "model_sha256": 3}):
        assert made_by(wrong, []) is None
