"""Folds: no held-out case trains its fold, scores are those of the held-out cases, and the ensemble is the mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from frugalseg.cli import app
from frugalseg.data.manifest import read_manifest
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError, UserError
from frugalseg.evaluation import read_cases_csv
from frugalseg.evaluation.calibration import fit_temperature, tempered
from frugalseg.jobs.ensemble import Ensemble, open_ensemble
from frugalseg.jobs.ensemble_record import ENSEMBLE, read_ensemble
from frugalseg.jobs.folds import FOLDS, FoldsResult, train_folds
from frugalseg.jobs.out_of_fold import Voxels, calibrate
from frugalseg.jobs.predict import predict
from tests.faults.micro import SETTINGS, micro_data

ROOT = Path(__file__).parents[2]
STEPS = [item for item in SETTINGS if not item.startswith("training.validate")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    micro_data(folder / "data")
    assert run(folder, "folds").scores is not None
    return folder


def run(place: Path, out: str, resume: bool = False, **options: Any) -> FoldsResult:
    settings = [*STEPS, "training.workers=0"]
    return train_folds(
        place / "data",
        place / out,
        2,
        "sscpcseg",
        labels=3,
        overrides=settings,
        store=place / "store",
        resume=resume,
        **options,
    )


def facts(path: Path) -> Any:
    return json.loads(path.read_text())


def test_each_case_is_held_out_once_and_trains_no_model_of_its_fold(place: Path) -> None:
    folds = facts(place / "folds" / FOLDS)["folds"]
    assert len(folds) == 3  # three patients: leave one out, whatever the number
    budget = {name for fold in folds for name in fold}
    assert len(budget) == 3
    for number, fold in enumerate(folds):
        split = facts(place / "folds" / f"fold-{number}" / "split.json")
        assert split["held_out"] == fold
        assert set(split["labelled"]) == budget - set(fold)
        assert not set(fold) & set(split["unlabelled"])
        assert split["unlabelled"]


def test_scores_are_of_the_predictions_of_held_out_cases(place: Path) -> None:
    rows = read_cases_csv(place / "folds" / "out_of_fold" / "cases.csv")
    folds = facts(place / "folds" / FOLDS)["folds"]
    assert {row.case for row in rows} == {name for fold in folds for name in fold}
    for number, (name,) in enumerate(folds):
        image = next((place / "data" / "imagesTr").glob(f"{name}*"))
        alone = place / f"alone-{number}"
        predict(place / "folds" / f"fold-{number}", [image], alone)
        once = place / "folds" / "out_of_fold" / "predictions" / f"{name}.nii.gz"
        assert np.array_equal(voxels(alone / once.name), voxels(once))
    known = read_ensemble(place / "folds")
    means = []
    for name in {row.case for row in rows}:
        counted = [row.dice for row in rows if row.case == name and not row.extra and row.dice is not None]
        means += [float(np.mean(counted))] if counted else []
    assert known["out_of_fold"]["dice"] == pytest.approx(np.mean(means))
    assert known["out_of_fold"]["cases"] == len(means)
    assert (place / "folds" / "out_of_fold" / "report.html").exists()


def voxels(path: Path) -> Any:
    return np.asarray(cast(Any, nib.load(path)).dataobj)


def test_an_ensemble_is_the_mean_of_its_members(place: Path) -> None:
    runs = [place / "folds" / f"fold-{number}" for number in range(3)]
    image = next((place / "data" / "imagesTs").glob("*.nii.gz"))
    predict(runs, [image], place / "together", probabilities=True)
    maps = [path.name for path in (place / "together").glob("*_probability_*")]
    assert maps
    for number, own in enumerate(runs):
        predict(own, [image], place / f"member-{number}", probabilities=True)
    for name in maps:
        each = [voxels(place / f"member-{number}" / name) for number in range(3)]
        assert not np.allclose(each[0], each[1])
        np.testing.assert_allclose(voxels(place / "together" / name), np.mean(each, axis=0), atol=1e-6)
    written = facts(place / "together" / "predictions.json")
    assert [Path(member["run"]).name for member in written["members"]] == ["fold-0", "fold-1", "fold-2"]


def test_the_folder_of_folds_is_an_ensemble_on_the_command_line(place: Path) -> None:
    image = next((place / "data" / "imagesTs").glob("*.nii.gz"))
    folds = place / "folds"
    one = CliRunner().invoke(app, ["predict", str(folds), str(image), "--out", str(place / "by-folder")])
    assert one.exit_code == 0, one.output
    three = [str(folds / f"fold-{number}") for number in range(3)]
    two = CliRunner().invoke(app, ["predict", *three, str(image), "--out", str(place / "by-runs")])
    assert two.exit_code == 0, two.output
    told = CliRunner().invoke(app, ["info", str(folds)])
    assert told.exit_code == 0, told.output
    assert "3 models" in told.output
    assert f"Dice {read_ensemble(folds)['out_of_fold']['dice']:.3f}" in told.output
    if not open_ensemble([folds]).largest:
        name = f"{image.name}"
        assert (place / "by-folder" / name).read_bytes() == (place / "by-runs" / name).read_bytes()


def test_every_file_of_every_fold_is_verified(place: Path) -> None:
    copy = place / "copied-folds"
    shutil.copytree(place / "folds", copy)
    whole = CliRunner().invoke(app, ["info", str(copy), "--verify"])
    assert whole.exit_code == 0, whole.output
    assert "every one has the hash" in whole.output
    weights = copy / "fold-1" / "last" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(bytes(damaged))
    found = CliRunner().invoke(app, ["info", str(copy), "--verify"])
    assert found.exit_code == 2
    assert "fold-1/last" in found.output
    assert "fold-0" not in found.output
    card = CliRunner().invoke(app, ["info", str(copy), "--card"])
    assert "a card is of one of them" in str(card.exception)


def test_going_on_trains_nothing_again_and_other_folds_are_refused(place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / "folds").glob("fold-*/last/*")}
    scores = (place / "folds" / ENSEMBLE).read_bytes()
    assert run(place, "folds", resume=True).scores is not None
    assert {path: path.stat().st_mtime_ns for path in (place / "folds").glob("fold-*/last/*")} == before
    assert (place / "folds" / ENSEMBLE).read_bytes() == scores
    with pytest.raises(UserError, match="other settings or labels"):
        run(place, "folds", resume=True, seed=5)
    with pytest.raises(UserError, match="not empty"):
        run(place, "folds")


def test_models_that_cannot_be_averaged_are_refused(place: Path, tmp_path: Path) -> None:
    ensemble = open_ensemble([place / "folds"])
    first = ensemble.members[0]
    assert len(ensemble.members) == 3
    other = json.loads((place / "folds" / ENSEMBLE).read_text())
    other["members"] = ["../fold-0"]
    (tmp_path / ENSEMBLE).write_text(json.dumps(other))
    with pytest.raises(DataError):
        read_ensemble(tmp_path)
    from frugalseg.jobs import ensemble as module

    changed = SimpleNamespace(
        scheme=first.scheme,
        channels=first.channels,
        preparation=first.preparation,
        plan=SimpleNamespace(crop=(8, 8, 8)),
        config=first.config,
    )
    with pytest.raises(UserError, match="another crop"):
        module._require_like(first, place, cast(Any, changed), tmp_path)
    windows = first.config.inference.model_copy(update={"overlap": 0.25})
    changed.plan, changed.config = first.plan, first.config.model_copy(update={"inference": windows})
    with pytest.raises(UserError, match="another overlap of windows"):
        module._require_like(first, place, cast(Any, changed), tmp_path)


def test_calibrated_probabilities_have_the_temperature_and_the_same_labels() -> None:
    torch.manual_seed(0)
    scheme = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 2}})
    model = SimpleNamespace(scheme=scheme)
    ensemble = Ensemble((cast(Any, model),), temperature=2.5)
    block = torch.randn(3, 4, 5, 6).softmax(dim=0)
    found = ensemble.calibrated(block)
    expected = tempered(block.flatten(1).T.numpy(), 2.5)
    np.testing.assert_allclose(found.flatten(1).T.numpy(), expected, rtol=1e-5)
    assert torch.equal(found.argmax(dim=0), block.argmax(dim=0))


def gathered(scheme: LabelScheme, probabilities: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> Voxels:
    voxels = Voxels(scheme)
    voxels.target = classes.reshape(1, 1, 1, -1).astype(np.uint8)
    block = torch.from_numpy(probabilities.T.astype(np.float32)).reshape(2, 1, 1, -1)
    voxels((slice(None), slice(None), slice(None)), block)
    return voxels


def test_a_temperature_is_taken_only_where_other_folds_gain_by_it() -> None:
    """Probabilities that are right are left alone; those that are too sure are made less so by the factor."""
    scheme = LabelScheme.from_json({"labels": {"background": 0, "a": 1}})
    generator = np.random.default_rng(0)
    right, sure = [], []
    for _ in range(3):
        logits = generator.normal(0.5, 1.5, 4000)
        share = 1 / (1 + np.exp(-logits))
        classes = (generator.random(4000) < share).astype(np.uint8)
        sharp = 1 / (1 + np.exp(-3 * logits))
        right.append(gathered(scheme, np.stack([1 - share, share], axis=1), classes))
        sure.append(gathered(scheme, np.stack([1 - sharp, sharp], axis=1), classes))
    temperature, errors = calibrate(sure)
    assert temperature == pytest.approx(3, rel=0.2)
    assert errors is not None
    assert errors[1] < 0.5 * errors[0]
    known, _ = calibrate(right)
    assert known == pytest.approx(1, abs=0.1)


def test_one_temperature_for_all_is_that_of_all_voxels() -> None:
    generator = np.random.default_rng(1)
    share = generator.random(3000) * 0.9 + 0.05
    classes = (generator.random(3000) < share).astype(np.uint8)
    scheme = LabelScheme.from_json({"labels": {"background": 0, "a": 1}})
    sharp = share**3 / (share**3 + (1 - share) ** 3)
    folds = [gathered(scheme, np.stack([1 - sharp, sharp], 1)[i::2], classes[i::2]) for i in range(2)]
    probabilities, labels = (np.concatenate(side) for side in zip(*(fold.all for fold in folds), strict=True))
    assert calibrate(folds)[0] == fit_temperature(probabilities, labels)


def test_the_voxels_that_are_kept_do_not_grow_with_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    scheme = LabelScheme.from_json({"labels": {"background": 0, "a": 1}})
    generator = np.random.default_rng(2)
    share = generator.random(30_000) * 0.9 + 0.05
    classes = (generator.random(30_000) < share).astype(np.uint8)

    def kept(most: int) -> Voxels:
        monkeypatch.setattr("frugalseg.jobs.out_of_fold.MOST", most)
        voxels = Voxels(scheme)
        for part in range(30):  # as many blocks
            own = slice(1000 * part, 1000 * (part + 1))
            voxels.target = classes[own].reshape(1, 1, 1, -1)
            block = torch.from_numpy(np.stack([1 - share[own], share[own]]).astype(np.float32))
            voxels((slice(None), slice(None), slice(None)), block.reshape(2, 1, 1, -1))
        return voxels

    every, some = kept(10**9).all, kept(4000).all
    assert len(every[1]) == 30_000
    assert 2000 < len(some[1]) <= 4000
    # Of all blocks, early and late ones, alike: the mean is that of all.
    assert some[0][:, 1].mean() == pytest.approx(share.mean(), abs=0.03)
    late = {float(value) for value in share[20_000:].astype(np.float32)}
    assert 0.2 < sum(float(value) in late for value in some[0][:, 1]) / len(some[1]) < 0.5


def test_a_fold_that_could_not_be_trained_is_told_before_any_is(tmp_path: Path) -> None:
    """The only case that shows a structure is held out by one of the folds."""
    micro_data(tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    content = json.loads(path.read_text())
    names = [Path(entry["image"]).name.removesuffix(".nii.gz") for entry in content["training"] if "label" in entry]
    structures = read_manifest(tmp_path / "data").scheme.structures
    content["annotated_classes"] = {name: list(structures[:-1]) for name in names[1:]}
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=rf"--folds: with .*{names[0]}.* held out '{structures[-1]}' was annotated in none"
    ):
        train_folds(tmp_path / "data", tmp_path / "folds", 2, "encdec", store=tmp_path / "store")
    assert not (tmp_path / "folds").exists()
