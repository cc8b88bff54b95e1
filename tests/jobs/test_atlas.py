"""Registered labelled cases as the first teacher: good on phantoms of like anatomy, kept, refused where useless."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy import ndimage

from frugalseg.config import load_config
from frugalseg.data.manifest import read_manifest
from frugalseg.data.names import LONGEST
from frugalseg.data.preprocess import PreprocessSettings
from frugalseg.data.store import StoredCase, open_array, write_array
from frugalseg.errors import ConfigError, DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.jobs.atlas import require_alike, with_deformations, with_guesses
from frugalseg.jobs.prepare import chosen, prepared
from frugalseg.jobs.record import atlas_mark, hashed, settings_hash
from frugalseg.jobs.registrations import short, stored_image
from frugalseg.jobs.train import train
from frugalseg.semisup.atlas import AtlasSettings, Labelled, dice, fused, shares_of
from frugalseg.semisup.fusion import FusionSettings
from frugalseg.semisup.registration import NotRegistered, register
from tests.data.datasets import write_nifti

SIDES = (24, 26, 22)
TINY = ["crop=[16,16,16]", "network.width=8", "network.blocks=[1,1,1]", "training.steps=3", "training.workers=0"]


def case(number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the same two structures in one place, bent differently in each case."""
    generator = np.random.default_rng(number)
    grid = np.indices(SIDES).astype(np.float32)
    bend = np.stack([4 * ndimage.gaussian_filter(generator.standard_normal(SIDES), 5) / 0.02 for _ in range(3)])
    x, y, z = grid + np.clip(bend, -2, 2) - np.array([12, 13, 11])[:, None, None, None]
    radius = np.sqrt((x / 8) ** 2 + (y / 9) ** 2 + (z / 7) ** 2)
    label = np.where(radius < 1, np.where(y > 0, 1, 2), 0).astype(np.uint8)
    image = 10 + 3 * label + ndimage.gaussian_filter(generator.standard_normal(SIDES), 1)
    return image.astype(np.float32), label


def write_alike(folder: Path, count: int = 5) -> Path:
    entries = []
    for number in range(count):
        image, label = case(number)
        name = f"case{number}.nii.gz"
        write_nifti(folder / "imagesTr" / name, image)
        write_nifti(folder / "labelsTr" / name, label)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    facts = {
        "name": "alike", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "front", "2": "back"},
        "numTraining": count, "training": entries, "test": [], "numTest": 0,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(facts))
    return folder


def write_alike_with_test(folder: Path, count: int) -> Path:
    """Return such a data set with one test case more, case9."""
    write_alike(folder, count)
    image, label = case(9)
    write_nifti(folder / "imagesTs" / "case9.nii.gz", image)
    write_nifti(folder / "labelsTs" / "case9.nii.gz", label)
    facts = json.loads((folder / "dataset.json").read_text())
    test = {"test": ["./imagesTs/case9.nii.gz"], "numTest": 1}
    (folder / "dataset.json").write_text(json.dumps({**facts, **test}))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_alike(tmp_path_factory.mktemp("alike") / "data")


def stored(data: Path, root: Path, labelled: int) -> tuple[list[StoredCase], list[StoredCase]]:
    """Return the cases as a run has them, the unlabelled ones without labels; and all with their labels."""
    manifest = read_manifest(data)
    names = [one.name for one in manifest.labelled]
    preparation, _ = chosen(manifest, set(names), PreprocessSettings())
    full = prepared(manifest, set(names), root, preparation)
    return prepared(manifest, set(names[:labelled]), root, preparation), full


def guess_of(one: StoredCase) -> NDArray[np.float32]:
    assert one.guess is not None
    return np.asarray(open_array(one.guess)[:], np.float32).reshape(1, 3, *one.shape)


def test_registered_cases_label_the_others_and_a_second_time_nothing_is_computed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, full = stored(data, tmp_path, 2)
    scheme = read_manifest(data).scheme
    found = with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path)
    assert [one.name for one in found] == [one.name for one in cases]
    assert [one.guess is None for one in found] == [True, True, False, False, False]
    for one, truth in zip(found[2:], full[2:], strict=True):
        assert one.label is None
        assert truth.label is not None
        real = np.asarray(open_array(truth.label)[:])
        assert full[0].label is not None
        copied = shares_of(np.asarray(open_array(full[0].label)[:]), 3)
        assert dice(guess_of(one), real) > max(0.75, 0.05 + dice(copied, real))
        total = guess_of(one).sum(axis=1)
        assert total[0, 3:-3, 3:-3, 3:-3] == pytest.approx(255, abs=2)
        assert set(np.rint(total / 255).ravel()) == {0, 1}, "at the edges perhaps nothing is known"
        assert (total > 0).mean() > 0.9

    def never(*_: object) -> None:
        raise AssertionError("registered again")

    monkeypatch.setattr("frugalseg.jobs.registrations.register", never)
    again = with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path)
    assert again == found
    with pytest.raises(AssertionError, match="registered again"):
        with_guesses(cases, 2, scheme, AtlasSettings.model_validate({"registration": {"iterations": 3}}), tmp_path)


def test_a_damaged_field_is_made_again(data: Path, tmp_path: Path) -> None:
    cases, _ = stored(data, tmp_path, 2)
    scheme = read_manifest(data).scheme
    found = with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path, workers=1)
    wanted = guess_of(found[2])
    for path in tmp_path.glob("case2*.b2nd"):
        if "guess" in path.name or "field" in path.name:
            path.write_bytes(path.read_bytes()[:-9])
    assert np.array_equal(guess_of(with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path)[2]), wanted)


def test_what_cannot_be_registered_is_refused(data: Path, tmp_path: Path) -> None:
    cases, _ = stored(data, tmp_path, 2)
    scheme = read_manifest(data).scheme
    part = replace(cases[0], annotated=(True, False))
    with pytest.raises(UserError, match="shows a part of the structures only"):
        with_guesses([part, *cases[1:]], 2, scheme, AtlasSettings(), tmp_path)


def test_who_cannot_be_registered_onto_a_case_has_no_vote_there_and_lends_it_no_shape(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, _ = stored(data, tmp_path, 2)
    scheme = read_manifest(data).scheme
    hard = stored_image(cases[3])

    def sometimes(moving: Any, fixed: Any, *rest: Any) -> Any:
        if np.array_equal(fixed, hard) and np.array_equal(moving, stored_image(cases[0])):
            raise NotRegistered("nothing alike")
        return register(moving, fixed, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("frugalseg.jobs.registrations.register", sometimes)
        found = with_deformations(with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path), 2, scheme,
                                  AtlasSettings(), tmp_path)  # fmt: skip
    assert [len(one.deformations) for one in found] == [3, 4, 0, 0, 0]
    assert f"{cases[0].name} cannot be registered onto {cases[3].name}, and is not" in capsys.readouterr().err
    voted = {path.name.split(".")[0]: read_json_object(path)["labelled"] for path in tmp_path.glob("case*.json")
             if "labelled" in read_json_object(path)}  # fmt: skip
    assert voted[cases[3].name] == [cases[1].name]
    assert voted[cases[2].name] == [cases[0].name, cases[1].name]
    with monkeypatch.context() as patch:

        def never(*_: object) -> None:
            raise NotRegistered("nothing alike")

        patch.setattr("frugalseg.jobs.registrations.register", never)
        with pytest.raises(UserError, match="no labelled case can be registered onto case"):
            with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path / "other")


def test_nothing_can_be_said_of_a_case_without_structures() -> None:
    nothing = np.zeros((1, *SIDES), np.uint8)
    all_background = shares_of(nothing, 3)
    assert np.isnan(dice(all_background, nothing))
    one = nothing.copy()
    one[0, :2] = 1
    assert dice(shares_of(one, 3), one) == 1
    assert dice(all_background, one) == 0


def test_an_empty_label_among_the_labelled_ones_does_not_count(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, _ = stored(data, tmp_path, 2)
    scheme = read_manifest(data).scheme
    empty = tmp_path / "empty.b2nd"
    write_array(empty, np.zeros((1, *cases[2].shape), np.uint8))
    known, made = [*cases[:2], replace(cases[2], label=empty)], []
    for number, one in enumerate(known):
        assert one.label is not None
        shares = shares_of(np.asarray(open_array(one.label)[:]), 3)
        made.append(tmp_path / f"made{number}.b2nd")
        write_array(made[-1], np.rint(255 * shares).astype(np.uint8).reshape(-1, *one.shape))
    require_alike(known, made, scheme, 0.9)
    assert "labelled by the others, registered: Dice 1.000 (worst 1.000)" in capsys.readouterr().err
    require_alike(known[2:], made[2:], scheme, 0.9)
    assert "have no structure; nothing tells how registration works" in capsys.readouterr().err


def test_beyond_its_image_a_labelled_case_knows_nothing() -> None:
    sides = (8, 8, 12)
    image = np.random.default_rng(0).standard_normal((1, *sides)).astype(np.float32)
    label = np.zeros((1, 8, 8, 6), np.uint8)
    label[:, :, :, 4:] = 1  # an organ that the end of the scan cuts
    short = Labelled(np.ascontiguousarray(image[..., :6]), label, (1.0, 1.0, 1.0))
    still = np.zeros((3, *sides), np.float32)
    found = fused(
        image, (1.0, 1.0, 1.0), [short], lambda _, box: still[:, *box], 2, FusionSettings(search=0)
    ).whole()
    assert np.allclose(found[0, 1, :, :, 4:6], 1)
    assert np.allclose(found[0, 0, :, :, :4], 1)
    assert not found[..., 6:].any(), "nothing is known there"
    whole = Labelled(image, np.concatenate([label, 0 * label], axis=3), (1.0, 1.0, 1.0))
    found = fused(
        image, (1.0, 1.0, 1.0), [short, whole], lambda _, box: still[:, *box], 2, FusionSettings(search=0)
    ).whole()
    assert np.allclose(found[0, 0, :, :, 6:], 1), "who sees more says what is there"


def test_images_that_are_not_alike_are_refused(tmp_path: Path) -> None:
    folder = write_alike(tmp_path / "data", 3)
    _, label = case(1)
    write_nifti(
        folder / "imagesTr" / "case1.nii.gz", np.random.default_rng(9).standard_normal(SIDES).astype(np.float32)
    )
    write_nifti(folder / "labelsTr" / "case1.nii.gz", np.roll(label, 12, axis=0))
    with pytest.raises(UserError, match=r"atlas: registration labels the labelled cases .* a Dice of 0\.\d\d only"):
        train(folder, tmp_path / "run", "atlas-teacher", labels=2, overrides=TINY, store=tmp_path / "store",
              labelled=None, label_seed=seed_with(folder, {"case0", "case1"}))  # fmt: skip
    assert not (tmp_path / "run" / "run.json").exists()


def seed_with(folder: Path, names: set[str]) -> int:
    """Return a label seed whose first labelled cases are these."""
    from frugalseg.data.budget import make_split

    manifest = read_manifest(folder)
    return next(seed for seed in range(99) if set(make_split(manifest, len(names), seed).labelled) == names)


def test_a_run_begins_with_the_atlas_and_goes_over_to_the_network(data: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    more = ["training.steps=10", "semisup.hand_over=[0.3,0.7]", "semisup.confidence=0.9"]
    train(data, tmp_path / "run", "atlas-teacher", labels=2, overrides=[*TINY, *more], store=store)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        shares = [float(row["consistency.share"]) for row in csv.DictReader(file)]
    # The atlas is sure of most voxels; a network of a few steps is not sure of any.
    assert min(shares[:3]) > 0.5
    assert max(shares[7:]) < 0.5


def test_its_steps_can_be_timed(data: Path, tmp_path: Path) -> None:
    from frugalseg.study.estimate import measure_step

    assert measure_step(data, "atlas-teacher", 2, 0, TINY, tmp_path / "store").seconds > 0


def test_labelled_cases_are_deformed_as_the_others_are(data: Path, tmp_path: Path) -> None:
    cases, _ = stored(data, tmp_path, 2)
    scheme = read_manifest(data).scheme
    found = with_deformations(cases, 2, scheme, AtlasSettings(), tmp_path)
    assert [len(one.deformations) for one in found] == [4, 4, 0, 0, 0]
    assert [one.key == before.key for one, before in zip(found, cases, strict=True)] == [False] * 2 + [True] * 3
    assert {way.field.name.split(".")[0] for way in found[0].deformations} == {
        f"{other.name}-{cases[0].name}" for other in cases if other is not cases[0]
    }
    guesses = with_guesses(cases, 2, scheme, AtlasSettings(), tmp_path)
    fields = sorted(tmp_path.glob("*.field.b2nd"))
    assert len(fields) == 2 * 4, "the same displacements serve both"
    assert guesses[2].guess is not None


def test_deformed_labelled_cases_train_a_network(data: Path, tmp_path: Path) -> None:
    store, deform = tmp_path / "store", [*TINY, "augment.deform=1", "atlas={}"]
    train(data, tmp_path / "bent", "encdec", labels=2, overrides=deform, store=store)
    train(data, tmp_path / "plain", "encdec", labels=2, overrides=TINY, store=store)
    one, two = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("bent", "plain"))
    assert not all(torch.equal(one[key], two[key]) for key in one)
    for wrong, words in (
        (["augment.deform=0.5"], "needs registration; set atlas"),
        (["atlas={}"], "nothing uses it"),
    ):
        with pytest.raises(ConfigError, match=words):
            train(data, tmp_path / "none", "encdec", labels=2, overrides=[*TINY, *wrong], store=store)


def test_labels_beyond_the_budget_are_not_read(data: Path, tmp_path: Path) -> None:
    import shutil

    bent = [*TINY, "augment.deform=0.5"]
    train(data, tmp_path / "run", "atlas-teacher", labels=2, overrides=bent, store=tmp_path / "store")
    hidden = set(json.loads((tmp_path / "run" / "split.json").read_text())["unlabelled"])
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    for name in hidden:
        os.truncate(copy / "labelsTr" / f"{name}.nii.gz", 20)
    train(copy, tmp_path / "again", "atlas-teacher", labels=2, overrides=bent, store=tmp_path / "other")
    one, two = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("run", "again"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_another_version_of_what_registers_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    train(data, tmp_path / "run", "atlas-teacher", labels=2, overrides=TINY, store=store)
    for module in ("registrations", "record"):
        monkeypatch.setattr(f"frugalseg.jobs.{module}.registration_version", lambda: "99.1")
    with pytest.raises(DataError, match=r"was begun with SimpleITK \d.*; 99\.1 is here"):
        train(data, tmp_path / "run", "atlas-teacher", labels=2, overrides=TINY, store=store, resume=True)


def test_memory_that_runs_out_does_not_say_that_images_are_not_alike(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        raise MemoryError("Failed to allocate memory for image.")

    monkeypatch.setattr("frugalseg.jobs.registrations.register", failing)
    cases, _ = stored(data, tmp_path / "store", 2)
    with pytest.raises(DataError, match="memory ran out while case"):
        with_guesses(cases, 2, read_manifest(data).scheme, AtlasSettings(), tmp_path / "store")


def test_long_names_of_two_cases_fit_into_one() -> None:
    one = "s" * LONGEST
    assert len(f"{short(one)}-{short('ä' * (LONGEST // 2))}.{'0' * 16}.field.b2nd.tmp-12345678".encode()) < 255
    assert short("ä" * LONGEST) == "ä" * (LONGEST // 4)
    assert short("a" + "ä" * LONGEST).encode().decode().startswith("aä")


def test_what_can_be_set_since_then_makes_no_other_run_of_an_old_one() -> None:
    """Runs and displacements of before images were registered on coarser grids are what they were."""
    plain, changed = load_config("frugal"), load_config("frugal", ["atlas.registration.voxels=4096"])
    assert "voxels" not in hashed(plain)["atlas"]["registration"]
    assert hashed(changed)["atlas"]["registration"]["voxels"] == 4096
    assert settings_hash(plain) != settings_hash(changed)
    assert atlas_mark(plain) != atlas_mark(changed)
    assert plain.atlas is not None
    assert "voxels" not in plain.atlas.registration.content(larger=False)
    assert plain.atlas.registration.content(larger=True)["voxels"] == 2**19
