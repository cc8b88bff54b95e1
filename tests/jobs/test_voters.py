"""Labelled cases that vote in predictions: the mixture by hand, where it comes from, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from frugalseg.data.warp import Floats
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.inference.inputs import find_inputs
from frugalseg.jobs.card import card
from frugalseg.jobs.ensemble import open_ensemble
from frugalseg.jobs.info import info, render
from frugalseg.jobs.predict import predict
from frugalseg.jobs.predict_needs import say_needs
from frugalseg.jobs.train import train
from frugalseg.jobs.voters import bytes_of_votes
from frugalseg.semisup.registration import NotRegistered, register
from frugalseg.semisup.undecided import voxels_in_boxes
from frugalseg.semisup.votes import Votes, Weighed, with_votes
from tests.data.datasets import write_nifti
from tests.jobs.test_atlas import TINY, case, write_alike_with_test

VOTE = [*TINY, "atlas={}", "inference.registration=0.4"]


def test_the_mixture_by_hand_in_slabs() -> None:
    generator = torch.Generator().manual_seed(0)
    net = torch.rand(2, 3, 4, 5, 6, generator=generator).softmax(dim=1)  # two groups of three classes
    votes = torch.rand(2, 3, 4, 5, 6, generator=generator).softmax(dim=1)
    votes[:, :, 1] = 0  # nothing is known there
    wanted = 0.6 * net + 0.4 * votes
    wanted[:, :, 1] = net[:, :, 1]
    for axis in range(3):
        slabs = net.flatten(0, 1).split(2, dim=axis + 1)
        found = torch.cat(list(with_votes(slabs, axis, as_kept(votes.numpy()).slab, 0.4)), dim=axis + 1)
        assert torch.allclose(found, wanted.flatten(0, 1))


def as_kept(votes: Floats) -> Votes:
    """Votes (R, K, x, y, z), in two parts, of the voxels of which anything is known."""
    known = votes.sum(axis=(0, 1)) > 0
    half = votes.shape[4] // 2
    parts = []
    for start, stop in ((0, half), (half, votes.shape[4])):
        box = (slice(0, votes.shape[2]), slice(0, votes.shape[3]), slice(start, stop))
        parts.append(Weighed(box, known[box], votes[:, :, *box]))
    return Votes(known, tuple(parts), (votes.shape[0], votes.shape[1]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with a test case, and a run of three steps whose labelled cases vote."""
    folder = tmp_path_factory.mktemp("voters")
    data = write_alike_with_test(folder / "data", 4)
    train(data, folder / "run", "encdec", labels=2, overrides=VOTE, store=folder / "store")
    return folder


def probability(folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(nib.Nifti1Image.from_filename(folder / "case9_probability_front.nii.gz").dataobj)


def test_predictions_are_the_mixture(place: Path, tmp_path: Path) -> None:
    data, run, store = place / "data", place / "run", place / "store"
    predict(run, [data], tmp_path / "both", probabilities=True, store=store)
    predict(run, [data], tmp_path / "net", probabilities=True, register=False)
    model = open_ensemble([run], store=store)
    (voters,) = model.voters
    assert voters is not None
    prepared = model.prepare(find_inputs([data], {}, model.channels, None, False)[0])
    kept = voters.vote(prepared[0])
    assert voters.vote(prepared[0]) is kept, "asked once an image"
    (votes,) = kept.whole()
    net = probability(tmp_path / "net")
    known = votes.sum(axis=0) > 0  # at the edges perhaps nothing is
    assert known[3:-3, 3:-3, 3:-3].all()
    wanted = np.where(known, 0.6 * net + 0.4 * votes[1], net)
    assert probability(tmp_path / "both") == pytest.approx(wanted, abs=2e-3)
    _, truth = case(9)
    assert ((votes.argmax(axis=0) > 0) == (truth > 0)).mean() > 0.9
    assert read_json_object(tmp_path / "both" / "predictions.json")["registration"] == 0.4
    assert read_json_object(tmp_path / "net" / "predictions.json")["registration"] == 0.0
    found = info(run)
    assert found.votes
    assert "registered onto the image" in render(found)
    assert "`--no-register`" in card(run)
    split = read_json_object(run / "split.json")
    assert set(read_json_object(run / "run.json")["voters"]) == set(split["labelled"])


def test_displacements_onto_large_images_are_thinned(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next to nothing changes, and they take a sixteenth."""
    data, store = place / "data", place / "store"
    train(
        data, tmp_path / "run", "encdec", labels=2, overrides=[*VOTE, "atlas.registration.voxels=4096"], store=store
    )
    monkeypatch.setattr("frugalseg.jobs.voters.free_memory", lambda: 2**34)
    found, held = [], []
    for thin in (True, False):
        if not thin:
            monkeypatch.setattr("frugalseg.jobs.voters.thins", lambda *_: False)
        model = open_ensemble([tmp_path / "run"], store=store)
        (voters,) = model.voters
        assert voters is not None
        (prepared,) = model.prepare(find_inputs([data], {}, model.channels, None, False)[0])
        assert prepared.image.size > 4096
        found.append(voters.vote(prepared).whole())
        held.append(bytes_of_votes(model.voters, 10**6, 1000))
    assert not np.array_equal(found[0], found[1])
    assert np.abs(found[0] - found[1]).mean() < 0.01
    assert (found[0].argmax(axis=1) == found[1].argmax(axis=1)).mean() > 0.99
    assert held[1] - held[0] == 2 * (12 - 1.5) * 10**6


def test_memory_for_votes_is_that_of_what_structures_fill(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalseg.jobs.voters.free_memory", lambda: 2**34)
    (voters,) = open_ensemble([place / "run"], store=place / "store").voters
    assert voters is not None
    weighed = 2 * max(voxels_in_boxes(case.label) for case in voters.cases)
    assert 0 < weighed < voters.cases[0].label.size
    assert voters.bytes_kept(10**6) == 10**6 + weighed * (1 + 4 * voters.classes)
    assert voters.bytes_kept(100) == 100 + 100 * (1 + 4 * voters.classes), "no more than the image"
    slabs = [bytes_of_votes([voters], 10**6, slab) for slab in (0, 1000)]
    assert slabs[1] - slabs[0] == 4 * voters.classes * 1000


def test_predicting_reckons_with_votes_about_a_window_s_depth_of_the_image(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_ensemble([place / "run"], store=place / "store")
    inputs = find_inputs([place / "data"], {}, model.channels, None, False)
    asked: list[tuple[int, int]] = []

    def note(voters: object, voxels: int, slab: int) -> int:
        asked.append((voxels, slab))
        return 0

    monkeypatch.setattr("frugalseg.jobs.predict_needs.bytes_of_votes", note)
    say_needs(model, inputs, tmp_path, "predict")
    ((voxels, slab),) = asked
    (prepared,) = model.prepare(inputs[0])
    depth = min(side / size for side, size in zip(model.plan.crop, prepared.image.shape[1:], strict=True))
    assert depth < 1, "a window is smaller than the image"
    assert voxels == prepared.image[0].size
    assert slab == round(depth * voxels)


def test_seeds_with_the_same_labels_share_their_voters(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = place / "data", place / "store"
    train(data, tmp_path / "run", "encdec", labels=2, seed=1, label_seed=0, overrides=VOTE, store=store)
    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return register(*given)

    monkeypatch.setattr("frugalseg.jobs.voters.register", counted)
    predict([place / "run", tmp_path / "run"], [data], tmp_path / "out", store=store)
    assert len(calls) == 2, "once for each labelled case"


def test_models_with_some_labels_in_common_register_each_case_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = place / "data", place / "store"
    named = tmp_path / "labelled.txt"
    own = read_json_object(place / "run" / "split.json")["labelled"]
    other = next(f"case{number}" for number in range(4) if f"case{number}" not in own)
    named.write_text(f"{own[0]}\n{other}\n")
    train(data, tmp_path / "run", "encdec", labelled=named, overrides=VOTE, store=store)
    runs = [place / "run", tmp_path / "run"]
    alone = []
    for number, run in enumerate(runs):
        predict(run, [data], tmp_path / f"alone-{number}", probabilities=True, store=store)
        alone.append(probability(tmp_path / f"alone-{number}"))
    onto: list[int] = []

    def counted(moving: Any, *given: Any) -> Any:
        onto.append(id(moving))
        return register(moving, *given)

    monkeypatch.setattr("frugalseg.jobs.voters.register", counted)
    images = [data / "imagesTs" / "case9.nii.gz", data / "imagesTr" / f"{other}.nii.gz"]
    predict(runs, images, tmp_path / "out", probabilities=True, store=store)
    assert len(onto) == 2 * 3, "three cases onto two images"
    assert len(set(onto)) == 3, "each read once"
    assert probability(tmp_path / "out") == pytest.approx((alone[0] + alone[1]) / 2, abs=2e-3)


def test_who_cannot_be_registered_is_named_and_does_not_vote(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    def sometimes(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise NotRegistered("nothing alike")
        return register(*given)

    monkeypatch.setattr("frugalseg.jobs.voters.register", sometimes)
    monkeypatch.setattr("frugalseg.jobs.voters.Voters.workers", lambda *_: 1)
    predict(place / "run", [place / "data"], tmp_path / "out", store=place / "store")
    second = read_json_object(place / "run" / "split.json")["labelled"][1]
    assert f"case9: {second} cannot be registered onto it, and had no vote" in "".join(capsys.readouterr())
    assert read_json_object(tmp_path / "out" / "predictions.json")["not_registered"] == {"case9": [second]}


def test_memory_that_runs_out_is_no_missing_vote(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        raise MemoryError("Failed to allocate memory for image.")

    monkeypatch.setattr("frugalseg.jobs.voters.register", failing)
    with pytest.raises(UserError, match="memory ran out while labelled cases were registered"):
        predict(place / "run", [place / "data"], tmp_path / "out", store=place / "store")


def test_a_data_set_that_was_moved_is_named(place: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(place / "data", tmp_path / "data")
    train(tmp_path / "data", run, "encdec", labels=2, overrides=VOTE, store=place / "store")
    (tmp_path / "data").rename(moved)
    images = [moved / "imagesTs" / "case9.nii.gz"]
    with pytest.raises(UserError, match=r"data: is not there any more, .*--data .*--no-register"):
        predict(run, images, tmp_path / "out", store=place / "store")
    assert not (tmp_path / "out").exists()
    predict(run, images, tmp_path / "without", register=False)
    hidden = read_json_object(run / "split.json")["unlabelled"]
    for name in hidden:  # labels beyond the budget are not read to vote, either
        os.truncate(moved / "labelsTr" / f"{name}.nii.gz", 20)
    predict(run, images, tmp_path / "with", store=place / "store", data=moved)
    first = read_json_object(run / "split.json")["labelled"][0]
    _, label = case(7)
    write_nifti(moved / "labelsTr" / f"{first}.nii.gz", label)
    with pytest.raises(DataError, match=f"label of '{first}' is not what the run began with"):
        predict(run, images, tmp_path / "changed", store=place / "store", data=moved)
