"""The model card of a run says what its files say, and owns up to scores of cases that it knows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, read_json_object, write_json
from frugalseg.formats import seal
from frugalseg.jobs.card import _device, card

STATISTICS = {"n": 2, "mean": 0.8, "low": 0.7, "high": 0.9}
OWN = hashlib.sha256(b"weights").hexdigest()
ALONE = {"n": 1, "mean": 1.5, "low": None, "high": None}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    facts = {
        "format_version": 1, "method": "sscpcseg", "seed": 3, "transductive": False, "deterministic": False,
        "checkpoint_rule": "the last checkpoint",
        "machine": {"frugalseg": "0.1", "processor": "Cray", "precision": "bf16"},
        "data": {"folder": "d", "name": "Hearts", "licence": "CC0", "channels": ["T1", "T2"], "sha256": "ab"},
        "spent": [{"from": 0, "to": 7, "seconds": 120.0, "peak_bytes": 1}],
    }  # fmt: skip
    write_json(folder / "run.json", seal(facts))
    split = {"format_version": 1, "labels_read": 2, "rule": "the first 2", "labelled": ["a", "b"], "validation": [],
             "unlabelled": ["c"]}  # fmt: skip
    write_json(folder / "split.json", split)
    write_json(folder / "plan.json", {"format_version": 1, "steps": 7, "crop": [8, 16, 24], "width": 8})
    write_json(folder / "last" / "state.json", {"step": 7})
    (folder / "last" / "model.safetensors").write_bytes(b"weights")
    return folder


def scores(folder: Path, *cases: str) -> Path:
    statistics = {"dice": STATISTICS, "hd95_mm": ALONE, "surface_dice": None}
    content = {
        "n_cases": len(cases), "rule": "Missed: Dice 0.", "overall": statistics,
        "structures": {"wall": {"statistics": statistics}}, "cases": [{"case": name} for name in cases],
    }  # fmt: skip
    write_json(folder / "summary.json", content)
    return folder


def test_what_it_says(run: Path, tmp_path: Path) -> None:
    text = card(run, scores(tmp_path / "scores", "x", "y"))
    for line in (
        "# sscpcseg on Hearts",
        "- Labels read: **2** (the first 2).",
        "- Input: T1, T2, in this order.",
        "crop 8 x 16 x 24 voxels",
        "2 cases, none of which it read the label; mean",
        "| wall | 0.800 (0.700-0.900) | 1.50 | - |",
        "CC0; whoever passes the model on",
        "Not a medical device",
    ):
        assert line in text


def test_scores_of_cases_whose_labels_it_read_are_told(run: Path, tmp_path: Path) -> None:
    assert "2 cases, **1 of which it read the labels**" in card(run, scores(tmp_path / "scores", "x", "a"))


def made_by(folder: Path, **facts: object) -> Path:
    """Return scores of x and y, and what made the predictions."""
    scores(folder, "x", "y")
    content = read_json_object(folder / "summary.json")
    known = {"models": [OWN], "method": "sscpcseg", "flips": False, "registration": 0.0}
    write_json(folder / "summary.json", {**content, "predictions": {**known, **facts}})
    return folder


def test_scores_have_to_be_of_this_model(run: Path, tmp_path: Path) -> None:
    assert "Nothing notes which model made the scored predictions." in card(run, scores(tmp_path / "old", "x"))
    for facts, told in (
        ({}, "This model predicted them: without registered cases."),
        (
            {"flips": True, "registration": 0.4},
            "averaged over flipped copies, registered labelled cases count 40%.",
        ),
        ({"models": ["0" * 64, OWN]}, "them: with others, of whose predictions they are the mean, without"),
    ):
        assert told in card(run, made_by(tmp_path / "scores", **facts))
    other = made_by(tmp_path / "scores", models=["0" * 64], method="encdec")
    with pytest.raises(UserError, match=r"scores: scores predictions of another model \(encdec, 000000000000\)"):
        card(run, other)
    best = run / "best" / "model.safetensors"
    best.parent.mkdir()
    best.write_bytes(b"others")
    assert "This model" in card(run, made_by(tmp_path / "scores", models=[hash_file(best)]))
    for wrong in ("text", {"models": 3}):
        content = read_json_object(other / "summary.json")
        write_json(other / "summary.json", {**content, "predictions": wrong})
        with pytest.raises(DataError, match=r"summary.json: is not a summary"):
            card(run, other)


def test_without_scores(run: Path) -> None:
    assert "None given" in card(run)


def test_what_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scores: holds no summary.json"):
        card(run, tmp_path / "scores")
    write_json(tmp_path / "scores" / "summary.json", {"overall": 3})
    with pytest.raises(DataError, match=r"summary.json: is not a summary"):
        card(run, tmp_path / "scores")
    write_json(run / "plan.json", {**read_json_object(run / "plan.json"), "steps": 8})
    with pytest.raises(UserError, match=r"is not finished \(7 of 8 steps\)"):
        card(run)


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ({"device": "NVIDIA H100 80GB HBM3", "processor": "AMD EPYC"}, "NVIDIA H100 80GB HBM3"),
        ({"device": "cpu", "processor": "AMD EPYC"}, "AMD EPYC"),
        ({}, "an unknown processor"),
    ],
)
def test_it_names_what_trained(machine: dict[str, str], told: str) -> None:
    assert _device(machine) == told
