"""Preparation and samples: what is stored comes back, sample n is a function of (seed, n), labels follow images."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data import augment
from frugalseg.data.augment import OFF, STRONG, AugmentSettings
from frugalseg.data.check import check, render
from frugalseg.data.intensities import intensities
from frugalseg.data.manifest import read_manifest
from frugalseg.data.patches import Sample, Samples, SamplingSettings
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Preparation, preprocess
from frugalseg.data.store import StoredCase, open_array
from frugalseg.errors import DataError
from frugalseg.geometry import Grid
from frugalseg.objectives import Batch
from frugalseg.training.loader import Collate
from tests.data.datasets import write_data_set, write_nifti

SETTINGS = Preparation()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[StoredCase]:
    folder = write_data_set(tmp_path_factory.mktemp("data"))
    manifest = read_manifest(folder)
    names = {case.name for case in manifest.labelled}
    return prepare(manifest, manifest.training, names, tmp_path_factory.mktemp("store"), SETTINGS)


def samples(cases: list[StoredCase], augmentation: AugmentSettings = OFF, **changes: object) -> Samples:
    sampling = SamplingSettings.model_validate({"labelled": 1, "unlabelled": 1, **changes})
    return Samples(cases, 3, (8, 8, 8), 1, 2, sampling, augmentation, (0, 1, 2), seed=5)


def equal(a: Sample, b: Sample) -> bool:
    same = np.array_equal(a.image, b.image) and np.array_equal(a.target, b.target)
    same = same and np.array_equal(a.weight, b.weight) and np.array_equal(a.inside, b.inside)
    return same and (a.key, a.case) == (b.key, b.case)


def test_what_is_stored_is_what_preprocessing_makes(stored: list[StoredCase]) -> None:
    image = np.asarray(open_array(stored[0].image)[:])
    assert image.shape == (1, 10, 12, 8)
    assert abs(float(image.mean())) < 1e-2
    assert abs(float(image.std()) - 1) < 1e-2
    assert stored[0].label is not None
    assert np.asarray(open_array(stored[0].label)[:]).sum() == 4 * 2 * 4


def test_prepare_goes_on_mends_and_opens_only_what_it_may(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "data")
    manifest = read_manifest(folder)
    made: list[bool] = []
    (folder / "labelsTr" / "case_02.nii.gz").write_bytes(b"garbage")
    cases = prepare(manifest, manifest.training, {"case_00"}, tmp_path / "s", SETTINGS, 1, made.append)
    assert made == [True] * 5
    assert [case.label is not None for case in cases] == [True, False, False, False, False]
    made.clear()
    assert prepare(manifest, manifest.training, {"case_00"}, tmp_path / "s", SETTINGS, 1, made.append) == cases
    assert made == [False] * 5
    content = bytearray(cases[1].image.read_bytes())
    content[len(content) // 2] ^= 1
    cases[1].image.write_bytes(bytes(content))
    made.clear()
    prepare(manifest, manifest.training, {"case_00"}, tmp_path / "s", SETTINGS, 1, made.append)
    assert made == [False, True, False, False, False]
    with pytest.raises(DataError, match="case_02"):
        prepare(manifest, manifest.training, {"case_02"}, tmp_path / "s", SETTINGS)


def test_a_label_that_lies_elsewhere_is_refused_with_the_distance(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "data")
    shifted = np.eye(4)
    shifted[0, 3] = 5
    write_nifti(folder / "labelsTr" / "case_01.nii.gz", np.zeros((10, 12, 8), np.uint8), shifted)
    manifest = read_manifest(folder)
    with pytest.raises(DataError, match="5 mm apart"):
        prepare(manifest, manifest.training, {"case_01"}, tmp_path / "s", SETTINGS)
    report = check(folder)
    assert not report.can_train
    assert "5 mm apart" in render(report)
    assert sum(finding.severity == "error" for finding in report.findings) == 1


def test_check_of_a_sound_data_set(tmp_path: Path) -> None:
    report = check(write_data_set(tmp_path))
    assert report.can_train
    assert not report.findings
    text = render(report)
    assert "3 labelled, 2 unlabelled, 1 test cases" in text
    write_nifti(tmp_path / "imagesTr" / "case_03.nii.gz", np.full((4, 4, 4), np.nan, np.float32))
    broken = check(tmp_path)
    assert not broken.can_train
    assert "64 of 64 voxels are NaN" in render(broken)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_placement_restores(order: tuple[int, int, int]) -> None:
    image = np.zeros((1, 6, 7, 8), np.float32)
    image[0, 2:5, 1:6, 3:8] = np.random.default_rng(0).normal(10, 1, (3, 5, 5))
    affine = np.eye(4)[[*order, 3]] @ np.diag([-1, 1, 2, 1])
    prepared = preprocess(Grid((6, 7, 8), affine), image.copy(), SETTINGS)
    assert sorted(prepared.image.shape[1:]) == [3, 5, 5]
    back = prepared.placement.restore(prepared.placement.cut(image))
    assert np.array_equal(back, image)


def test_sample_is_a_function_of_its_number(stored: list[StoredCase]) -> None:
    one, two = samples(stored, STRONG), pickle.loads(pickle.dumps(samples(stored, STRONG)))  # noqa: S301
    numbers = list(range(24))
    forward = {n: one[n] for n in numbers}
    backward = {n: two[n] for n in reversed(numbers)}
    assert all(equal(forward[n], backward[n]) for n in numbers)
    assert len({forward[n].key for n in numbers}) == 24
    assert any(not np.array_equal(forward[0].image, forward[n].image) for n in numbers[1:])


def test_every_round_visits_every_case_once(stored: list[StoredCase]) -> None:
    source = samples(stored)
    labelled = [source.choose(2 * step) for step in range(12)]
    unlabelled = [source.choose(2 * step + 1) for step in range(12)]
    assert all(sorted(labelled[i : i + 3]) == [0, 1, 2] for i in range(0, 12, 3))
    assert all(sorted(unlabelled[i : i + 2]) == [3, 4] for i in range(0, 12, 2))
    published = samples(stored, mix="published")
    assert sorted(published.choose(n) for n in range(5)) == [0, 1, 2, 3, 4]


def test_weight_is_zero_without_label_and_in_the_padding(stored: list[StoredCase]) -> None:
    source = Samples(stored, 3, (16, 8, 8), 1, 2, SamplingSettings(labelled=1, unlabelled=1), OFF, (), 0)
    for number in range(6):
        sample = source[number]
        background = np.float32(stored[sample.case].background[0])
        if sample.case >= 3:
            assert sample.weight.sum() == 0
            assert sample.target.sum() == 0
        else:
            assert sample.weight.sum() == 10 * 8 * 8
            assert np.all(sample.image[sample.weight == 0] == background)


def test_inside_is_the_volume_whether_labelled_or_not_and_moves_with_it(stored: list[StoredCase]) -> None:
    for moving in (OFF, OFF.model_copy(update={"mirror": 0.5, "rotate": 1.0})):
        source = Samples(stored, 3, (16, 8, 8), 1, 2, SamplingSettings(labelled=1, unlabelled=1), moving, (0,), 0)
        for number in range(8):
            sample = source[number]
            background = np.float32(stored[sample.case].background[0])
            if moving is OFF:
                assert sample.inside.sum() == 10 * 8 * 8
            assert 0 < sample.inside.sum() < sample.inside.size
            assert np.all(sample.image[sample.inside == 0] == background)
            assert np.array_equal(sample.weight, sample.inside if sample.case < 3 else 0 * sample.inside)
        batch = Collate(1)([source[0], source[1]])
        assert isinstance(batch, Batch)
        assert batch.inside is not None
        assert np.array_equal(batch.inside[1].numpy(), source[1].inside)
        assert batch.image_weight.shape == (2, 1, 16, 8, 8)
        assert np.array_equal(batch.image_weight[0].numpy(), source[0].inside)


def test_further_targets_are_made_of_the_crop_and_named_by_task(stored: list[StoredCase]) -> None:
    def count(label: NDArray[np.uint8], spacing: tuple[float, float, float]) -> dict[str, NDArray[Any]]:
        return {"count": np.array([label.sum(), *spacing])}

    sampling = SamplingSettings(labelled=1, unlabelled=1)
    source = Samples(stored, 3, (8, 8, 8), 1, 2, sampling, STRONG, (0,), 0, {"one": count, "two": count})
    for number in range(6):
        sample = source[number]
        assert set(sample.extra) == {"one.count", "two.count"}
        assert sample.extra["two.count"].tolist() == [sample.target.sum(), *stored[sample.case].spacing]
    batch = Collate(1)([source[0], source[1]])
    assert isinstance(batch, Batch)
    assert batch.extra["one.count"].shape == (2, 4)


def test_foreground_centres_contain_foreground(stored: list[StoredCase]) -> None:
    source = Samples(
        stored, 3, (2, 2, 2), 1, 2, SamplingSettings(labelled=1, unlabelled=0, foreground=1.0), OFF, (), 0
    )
    assert all(source[number].target.any() for number in range(20))


def test_the_label_moves_with_the_image(stored: list[StoredCase]) -> None:
    moving = OFF.model_copy(update={"mirror": 0.5, "rotate": 1.0, "scale": 1.0})
    source = Samples(stored, 3, (10, 12, 8), 1, 2, SamplingSettings(labelled=1), moving, (0, 1, 2), 0)
    for number in range(8):
        sample = source[number]
        inside = sample.weight[0] > 0
        bright = (sample.image[0] > 1.8) & inside
        centres = [np.argwhere(mask).mean(axis=0) for mask in (bright, sample.target[0] > 0)]
        assert np.linalg.norm(centres[0] - centres[1]) < 0.6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_is_rot90(axis: int) -> None:
    source = np.random.default_rng(0).normal(size=(1, 5, 5, 5)).astype(np.float32)
    angles = np.zeros(3)
    angles[axis] = np.pi / 2
    matrix = augment._matrix(angles, 1.0, (1.0, 1.0, 1.0))
    assert matrix is not None
    turned = augment.resample(source, matrix, (5, 5, 5))[0]
    one, two = (other for other in range(3) if other != axis)
    wanted = [np.rot90(source[0], k, (one, two)) for k in (1, -1)]
    assert any(np.allclose(turned, candidate, atol=1e-5) for candidate in wanted)


def test_rotation_is_rigid_in_millimetres_and_scaling_enlarges() -> None:
    spacing = (1.0, 1.0, 2.5)
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip((41, 41, 17), spacing)]
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(*axes, indexing="ij")))
    ball = (radius < 10).astype(np.float32)[None]
    turned = augment.resample(ball, augment._matrix(np.array([0.6, 0.3, 0.5]), 1.0, spacing), (41, 41, 17))  # type: ignore[arg-type]
    assert (np.abs(turned - ball) > 0.5).mean() < 0.02
    grown = augment.resample(ball, augment._matrix(np.zeros(3), 1.3, spacing), (41, 41, 17))  # type: ignore[arg-type]
    assert abs(grown.sum() / ball.sum() - 1.3**3) < 0.25


def test_switches_off_leave_the_voxels_alone_and_each_one_changes_them() -> None:
    image = np.random.default_rng(0).normal(size=(2, 6, 6, 6)).astype(np.float32)
    nothing = augment.draw(np.random.default_rng(1), OFF, 2, (1, 1, 1), (0, 1, 2))
    assert nothing.flips == ()
    assert nothing.matrix is None
    assert np.array_equal(intensities(image.copy(), nothing), image)
    for name in ("noise", "shift", "gain", "contrast", "gamma", "inverted_gamma"):
        drawn = augment.draw(np.random.default_rng(1), OFF.model_copy(update={name: 1.0}), 2, (1, 1, 1), ())
        assert not np.allclose(intensities(image.copy(), drawn), image), name
    for name in ("blur", "low_resolution"):
        changed = [
            intensities(
                image.copy(),
                augment.draw(np.random.default_rng(s), OFF.model_copy(update={name: 1.0}), 2, (1, 1, 1), ()),
            )
            for s in range(6)
        ]
        assert any(not np.allclose(c, image) for c in changed), name


def test_dropped_and_missing_channels_are_zero_and_never_all_of_them(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", labelled=2, unlabelled=0, modality={"0": "a", "1": "b", "2": "c"})
    for path in sorted(data.glob("images*/*.nii.gz")):
        voxels = np.asarray(nib.load(path).dataobj)  # type: ignore[attr-defined]
        write_nifti(path, np.stack([voxels, voxels[::-1], voxels[:, ::-1]], axis=-1))
    manifest = read_manifest(data)
    whole, other = prepare(manifest, manifest.training, {"case_00", "case_01"}, tmp_path / "store", SETTINGS, 1)
    cases = [whole, replace(other, missing=(1,))]

    def images(chance: float | None, **more: float) -> tuple[list[NDArray[np.float32]], list[int]]:
        settings = OFF.model_copy(update={"channel_dropout": chance, **more})
        samples = Samples(cases, 2, (6, 6, 6), 1, 2, SamplingSettings(labelled=2), settings, (0,), 5)
        return [samples[number].image for number in range(120)], [samples.choose(number) for number in range(120)]

    plain, chosen = images(None)
    dropped, _ = images(0.5, shift=1.0)  # the shift would make a missing channel another number
    again, _ = images(0.5, shift=1.0)
    rates = np.zeros(3)
    for image, before, same, index in zip(dropped, plain, again, chosen):
        assert np.array_equal(image, same)
        assert before[1].any() == (index == 0)
        gone = [not channel.any() for channel in image]
        assert not all(gone)
        assert gone[1] or index == 0
        rates += np.array(gone) * (index == 0)
    # Half of 60 each, less the eighth in which all three would go.
    assert np.all(np.abs(rates / chosen.count(0) - 0.375) < 0.2)
