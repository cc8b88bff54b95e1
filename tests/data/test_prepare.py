"""Preparing: the same bytes with any workers, mended after any damage, made anew by content and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg import files
from frugalseg.data import prepare as preparing
from frugalseg.data import store as storing
from frugalseg.data.manifest import Case, read_manifest
from frugalseg.data.prepare import (
    POINTS_PER_STRUCTURE,
    describe_difference,
    key_of_image,
    prepare,
    structure_points,
)
from frugalseg.data.preprocess import Preparation, preprocess
from frugalseg.data.readers import read_image
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import StoredCase, open_array
from frugalseg.errors import DataError
from frugalseg.geometry import Grid
from tests.data.datasets import change, contents, make_case, write_data_set, write_nifti

SETTINGS = Preparation()


def run(
    data: Path,
    store: Path,
    readable: set[str] | None = None,
    workers: int = 1,
    settings: Preparation = SETTINGS,
) -> tuple[list[StoredCase], list[bool]]:
    """Prepare with every label, or those named; also return which cases had to be made."""
    manifest = read_manifest(data)
    names = {case.name for case in manifest.labelled} if readable is None else readable
    made: list[bool] = []
    return prepare(manifest, manifest.training, names, store, settings, workers, made.append), made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    affine = np.diag([-1.0, 1.5, 3.0, 1.0])
    return write_data_set(tmp_path_factory.mktemp("data"), labelled=2, unlabelled=1, test=1, affine=affine)


@pytest.fixture(scope="module")
def filled(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("filled")
    run(data, store)
    return store


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "store"))


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data, tmp_path / "own"))


def test_what_is_stored_is_the_prepared_image_in_half_precision(data: Path, filled: Path) -> None:
    cases, made = run(data, filled)
    assert made == [False] * 3
    for case in cases:
        grid, image = read_image(data / "imagesTr" / f"{case.name}.nii.gz")
        prepared = preprocess(grid, image, SETTINGS)
        found = np.asarray(open_array(case.image)[:])
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, prepared.image, rtol=2**-11, atol=1e-7)
        assert case.background == prepared.background
        assert case.shape == found.shape[1:] == prepared.placement.prepared_grid.shape
        assert case.spacing == (1.0, 1.5, 3.0)
    label = np.asarray(open_array(cases[1].label)[:])  # type: ignore[arg-type]
    assert np.array_equal(label, make_case(1)[1][None, ::-1])  # the file's x runs to the left
    points = np.asarray(open_array(cases[1].points)[:])  # type: ignore[arg-type]
    assert sorted(map(tuple, points[:, 1:])) == sorted(map(tuple, np.argwhere(label[0])))
    assert cases[2].label is None
    assert cases[2].points is None


def test_parallel_is_serial(data: Path, filled: Path, tmp_path: Path) -> None:
    cases, made = run(data, tmp_path / "p", workers=3)
    assert made == [True] * 3
    assert contents(tmp_path / "p") == contents(filled)
    assert [replace(c, image=c.image.name, label=None, points=None) for c in cases] == [  # type: ignore[arg-type]
        replace(c, image=c.image.name, label=None, points=None)  # type: ignore[arg-type]
        for c in run(data, filled)[0]
    ]


def remove(path: Path) -> None:
    path.unlink()


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 4
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [remove, halve, flip_a_bit])
@pytest.mark.parametrize("kind", ["image.b2nd", "label.b2nd", "points.b2nd", "image json", "label json"])
def test_a_damaged_file_of_any_kind_is_made_anew(
    data: Path, filled: Path, store: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    mine = sorted(path for path in store.iterdir() if path.name.startswith("case_01."))
    if kind.endswith("json"):
        seals = [path for path in mine if path.suffix == ".json"]
        image = next(path for path in seals if "placement" in json.loads(path.read_text()))
        chosen = image if kind.startswith("image") else next(path for path in seals if path != image)
    else:
        chosen = next(path for path in mine if path.name.endswith(kind))
    damage(chosen)
    _, made = run(data, store)
    assert made == [False, True, False]
    assert contents(store) == contents(filled)


def test_killed_between_any_two_files_and_started_again(
    data: Path, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(filled)
    original = files.write_atomic
    for lives in range(len(whole)):
        left = [lives]

        def mortal(path: Path, write: Callable[[Path], None], left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            original(path, write)

        store = tmp_path / str(lives)
        with monkeypatch.context() as patch:
            patch.setattr(storing, "write_atomic", mortal)
            patch.setattr(files, "write_atomic", mortal)
            with pytest.raises(KeyboardInterrupt):
                run(data, store)
            for thread in threading.enumerate():  # a case that was under way is not waited for
                if thread.name.startswith("ThreadPoolExecutor"):
                    thread.join()
        assert len(contents(store) if store.exists() else ()) == lives
        run(data, store)
        assert contents(store) == whole


def test_neither_dates_nor_places_count(own: Path, store: Path, filled: Path) -> None:
    for path in own.rglob("*"):
        os.utime(path, (1, 1))
    assert run(own, store)[1] == [False] * 3
    assert contents(store) == contents(filled)


def test_one_voxel_of_an_image_counts(own: Path, store: Path) -> None:
    before, _ = run(own, store)
    path = own / "imagesTr" / "case_01.nii.gz"
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    voxels = np.asarray(image.dataobj).copy()
    voxels[4, 4, 4] += 1
    write_nifti(path, voxels, image.affine)
    after, made = run(own, store)
    assert made == [False, True, False]
    assert [a.key == b.key for a, b in zip(before, after)] == [True, False, True]
    assert after[1].image != before[1].image
    assert before[1].image.exists()  # another data set may still use it


def test_one_voxel_of_a_label_counts_for_the_label(own: Path, store: Path) -> None:
    before, _ = run(own, store)
    label = make_case(1)[1]
    label[0, 0, 0] = 1
    write_nifti(own / "labelsTr" / "case_01.nii.gz", label, np.diag([-1.0, 1.5, 3.0, 1.0]))
    date = before[1].image.stat().st_mtime_ns
    after, made = run(own, store)
    assert made == [False, True, False]
    assert after[1].image == before[1].image
    assert after[1].image.stat().st_mtime_ns == date
    assert after[1].label != before[1].label
    assert after[1].key != before[1].key
    assert np.asarray(open_array(after[1].label)[:]).sum() == label.sum()  # type: ignore[arg-type]


def test_the_scheme_counts_for_labels(own: Path, store: Path) -> None:
    before, _ = run(own, store)
    change(own, labels={"0": "background", "1": "box", "2": "ball"})
    after, made = run(own, store)
    assert made == [True, True, False]
    assert [a.image == b.image for a, b in zip(before, after)] == [True] * 3
    assert before[0].label != after[0].label


def test_settings_and_format_version_count(data: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = run(data, store)
    others, made = run(data, store, settings=Preparation(crop_nonzero=False))
    assert made == [True] * 3
    assert not {case.key for case in others} & {case.key for case in before}
    monkeypatch.setattr(preparing, "FORMAT_VERSION", 2)
    monkeypatch.setattr(storing, "FORMAT_VERSION", 2)
    newer, made = run(data, store)
    assert made == [True] * 3
    assert not {case.key for case in newer} & {case.key for case in before}


def test_labels_that_may_not_be_read_are_not_opened(own: Path, tmp_path: Path) -> None:
    (own / "labelsTr" / "case_00.nii.gz").unlink()
    (own / "labelsTr" / "case_00.nii.gz").mkdir()  # opening it would raise
    (own / "labelsTr" / "case_01.nii.gz").write_bytes(b"unreadable garbage")
    shutil.rmtree(own / "labelsTs")
    cases, _ = run(own, tmp_path / "s", set())
    assert [(case.label, case.points) for case in cases] == [(None, None)] * 3
    assert not list((tmp_path / "s").glob("*label*"))
    for name in ("case_00", "case_01"):
        with pytest.raises(DataError, match=name):
            run(own, tmp_path / "s", {name})


def test_test_images_are_not_prepared(filled: Path) -> None:
    assert {path.name[:7] for path in filled.iterdir()} == {"case_00", "case_01", "case_02"}


def test_an_outlier_beyond_half_precision_stays_finite(own: Path, tmp_path: Path) -> None:
    image = np.zeros((10, 12, 8), np.float32)
    image[:] = np.random.default_rng(0).normal(100, 0.001, image.shape)
    image[4] = 0  # inside the box, 100000 deviations below the mean
    write_nifti(own / "imagesTr" / "case_02.nii.gz", image)
    case = run(own, tmp_path / "s")[0][2]
    found = np.asarray(open_array(case.image)[:])
    assert np.isfinite(found).all()
    assert found.min() == np.finfo(np.float16).min


def test_a_structure_without_voxels_is_stored_and_has_no_points(own: Path, tmp_path: Path) -> None:
    write_nifti(own / "labelsTr" / "case_00.nii.gz", np.zeros((10, 12, 8), np.uint8), np.diag([-1, 1.5, 3, 1]))
    cases, _ = run(own, tmp_path / "s")
    again, made = run(own, tmp_path / "s")
    assert made == [False] * 3
    assert again == cases
    assert np.asarray(open_array(cases[0].points)[:]).reshape(-1, 4).shape == (0, 4)  # type: ignore[arg-type]


def test_errors_name_the_file_and_the_first_case_comes_first(own: Path, tmp_path: Path) -> None:
    write_nifti(own / "imagesTr" / "case_01.nii.gz", np.full((4, 4, 4), np.nan, np.float32))
    write_nifti(own / "imagesTr" / "case_02.nii.gz", np.ones((4, 4, 4, 2), np.float32))
    for workers in (1, 3):
        with pytest.raises(DataError, match=r"case_01\.nii\.gz: 64 of 64 voxels are NaN"):
            run(own, tmp_path / "s", workers=workers)
    shutil.copy(own / "imagesTr" / "case_00.nii.gz", own / "imagesTr" / "case_01.nii.gz")
    with pytest.raises(DataError, match=r"case_02\.nii\.gz: has 2 channels, the data set has 1: MRI"):
        run(own, tmp_path / "s")


def test_points_are_of_their_structure_and_not_too_many() -> None:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, (20, 20, 20)).astype(np.int32)
    label[0, 0, 0] = 3
    labels = {"0": "background", "1": "a", "2": "b", "3": "c", "4": "nowhere"}
    scheme = LabelScheme.from_json({"labels": labels})
    points = structure_points(scheme.encode(label), scheme, 7)
    assert np.bincount(points[:, 0], minlength=4).tolist() == [POINTS_PER_STRUCTURE, POINTS_PER_STRUCTURE, 1, 0]
    assert (label[tuple(points[:, 1:].T)] == points[:, 0] + 1).all()
    assert len(np.unique(points, axis=0)) == len(points)
    assert np.array_equal(points, structure_points(scheme.encode(label), scheme, 7))
    assert not np.array_equal(points, structure_points(scheme.encode(label), scheme, 8))
    # Spread over the volume, not its first voxels.
    assert np.abs(points[points[:, 0] == 0, 1].mean() - 9.5) < 1
    regions = LabelScheme.from_json(
        {"labels": labels, "regions": {"all": [1, 2, 3, 4]}, "regions_class_order": [1]}
    )
    whole = structure_points(regions.encode(label), regions, 7)
    assert (label[tuple(whole[:, 1:].T)] > 0).all()


def test_how_grids_differ_is_said_in_words() -> None:
    plain = np.diag([1.0, 1.0, 2.0, 1.0])
    shifted, coarse, turned = plain.copy(), plain.copy(), plain.copy()
    shifted[1, 3] = -2.5
    coarse[2, 2] = 2.5
    turned[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    mirrored = plain @ np.diag([-1, 1, 1, 1])
    wanted = {
        "origin shifted by 0, -2.5, 0 mm": shifted,
        "spacing 1 x 1 x 2.5 mm instead of 1 x 1 x 2": coarse,
        "orientation LAS instead of RAS": mirrored,
        "rotated": turned,
    }
    for words, affine in wanted.items():
        assert words in describe_difference(Grid((4, 4, 4), plain), Grid((4, 4, 4), affine))


def test_the_store_tells_an_image_that_was_brought_to_the_others_spacing(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", np.ones((8, 8, 8), np.float32), np.diag([0.5, 0.5, 0.5, 1.0]))
    case = Case("a", (tmp_path / "a.nii.gz",), None, "a")
    own, alike, brought = (
        key_of_image(case, Preparation(uniform=uniform)) for uniform in (None, (0.5, 0.5, 0.5), (1, 1, 1))
    )
    assert own == alike != brought
    assert brought == key_of_image(case, Preparation(spacing=(1, 1, 1)))
