"""What is chosen from headers and readable labels before a case is prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalseg.data import choose as choosing
from frugalseg.data.choose import choose, choose_kinds, choose_spacing
from frugalseg.data.manifest import Case, Manifest, read_manifest
from frugalseg.data.preprocess import Preparation, PreprocessSettings, Window, preprocess
from frugalseg.data.readers import read_label
from frugalseg.errors import UserError
from frugalseg.geometry import Grid
from tests.data.datasets import change, write_data_set, write_nifti

DEFAULT = PreprocessSettings()


def cases_with(
    folder: Path, *spacings: tuple[float, float, float], shape: tuple[int, ...] = (4, 5, 6)
) -> list[Case]:
    cases = []
    for number, spacing in enumerate(spacings):
        path = folder / f"{number}.nii.gz"
        write_nifti(path, np.zeros(shape, np.float32), np.diag([*spacing, 1.0]))
        cases.append(Case(str(number), (path,), None, str(number)))
    return cases


def test_one_spacing_is_not_resampled(tmp_path: Path) -> None:
    cases = cases_with(tmp_path, (1, 1, 5), (1.004, 1, 5), (1, 0.996, 5.02))
    spacing, uniform, why = choose_spacing(cases, DEFAULT)
    assert spacing is None
    assert uniform == (1, 1, 5)
    assert "none of them is resampled" in why


def test_the_median_of_each_axis(tmp_path: Path) -> None:
    cases = cases_with(tmp_path, (1, 1, 2), (1, 1.5, 2), (1, 2, 1))
    spacing, uniform, why = choose_spacing(cases, DEFAULT)
    assert uniform is None
    assert spacing == pytest.approx((1, 1.5, 2))
    assert "1 x 1.5 x 2 mm, the median of 3 images" in why
    assert choose_spacing(cases, PreprocessSettings(spacing="none"))[:2] == (None, None)
    assert choose_spacing(cases, PreprocessSettings(spacing=(3, 2, 1)))[0] == (3, 2, 1)


def test_a_coarse_axis_gets_its_tenth_percentile(tmp_path: Path) -> None:
    spacings: list[tuple[float, float, float]] = [(1, 1, z) for z in (2, 3, 5, 5, 5, 5, 5, 5, 6, 7, 8)]
    spacing, _, why = choose_spacing(cases_with(tmp_path, *spacings), DEFAULT)
    assert spacing == pytest.approx((1, 1, 3))  # the second of eleven
    assert "coarse along z" in why
    # Never finer than the other axes.
    spacing, _, _ = choose_spacing(cases_with(tmp_path / "b", (1, 1, 0.2), (1, 1, 5), (1, 1, 5)), DEFAULT)
    assert spacing is not None
    assert spacing[2] == pytest.approx(max(1, 0.2 + 0.2 * 4.8))


def test_the_thickness_of_single_slices_is_no_spacing(tmp_path: Path) -> None:
    cases = cases_with(tmp_path, (1, 1, 1), (1, 1, 7), shape=(4, 5, 1))
    assert choose_spacing(cases, DEFAULT)[:2] == (None, None)


def test_spacing_is_that_of_the_canonical_axes(tmp_path: Path) -> None:
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3)[:, [2, 0, 1]] * [4.0, -1.0, 2.0]  # the file's first axis points upwards
    write_nifti(tmp_path / "t.nii.gz", np.zeros((4, 5, 6), np.float32), turned)
    cases = [*cases_with(tmp_path, (1, 2, 5)), Case("t", (tmp_path / "t.nii.gz",), None, "t")]
    spacing, _, _ = choose_spacing(cases, PreprocessSettings())
    assert spacing is not None
    assert spacing[:2] == pytest.approx((1, 2))
    assert 4 <= spacing[2] <= 5


def test_kinds() -> None:
    assert choose_kinds(("CT", "ct ", "MRI", "CTA"), DEFAULT) == ("ct", "ct", "zscore", "zscore")
    assert choose_kinds(("CT",), PreprocessSettings(normalise="zscore")) == ("zscore",)
    assert choose_kinds(("a", "b"), PreprocessSettings(normalise=("ct", "zscore"))) == ("ct", "zscore")
    with pytest.raises(UserError, match="1 entries, the data 2 channels: a, b"):
        choose_kinds(("a", "b"), PreprocessSettings(normalise=("ct",)))


def ct_data(folder: Path, **extra: Any) -> Manifest:
    return read_manifest(write_data_set(folder, 3, 2, modality={"0": "CT"}, **extra))


def test_ct_is_scaled_by_the_foreground_of_readable_labels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ct_data(tmp_path)
    opened: list[str] = []

    def read(path: Path, allowed: tuple[int, ...]) -> Any:
        opened.append(path.name)
        return read_label(path, allowed)

    monkeypatch.setattr(choosing, "read_label", read)
    preparation, reasons = choose(manifest, {"case_00", "case_02"}, DEFAULT)
    assert sorted(opened) == ["case_00.nii.gz", "case_02.nii.gz"]
    assert not preparation.crop_nonzero
    assert preparation.spacing is None
    import nibabel as nib

    values = np.concatenate([
        np.asarray(nib.load(manifest.folder / "imagesTr" / name).dataobj)[  # type: ignore[attr-defined]
            np.asarray(nib.load(manifest.folder / "labelsTr" / name).dataobj) == 1  # type: ignore[attr-defined]
        ]
        for name in opened
    ]).astype(np.float64)  # fmt: skip
    (window,) = preparation.windows
    assert window is not None
    assert (window.low, window.high) == pytest.approx(tuple(np.percentile(values, (0.5, 99.5))))
    assert (window.mean, window.deviation) == pytest.approx((values.mean(), values.std()))
    assert f"{values.size} foreground voxels of 2 labels" in reasons["normalise"]


def test_a_sample_of_a_large_structure_is_drawn_alike_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = ct_data(tmp_path)
    monkeypatch.setattr(choosing, "SAMPLE", 20)
    case = manifest.training[0]
    first = choosing.foreground(manifest, case)
    assert first.shape == (1, 20)
    assert np.array_equal(first, choosing.foreground(manifest, case))


def test_ct_without_foreground_is_refused_with_what_to_do(tmp_path: Path) -> None:
    manifest = ct_data(tmp_path)
    with pytest.raises(UserError, match="none of the 0 labels that may be read shows any structure"):
        choose(manifest, (), DEFAULT)
    assert choose(manifest, (), PreprocessSettings(normalise="zscore"))[0].windows == ()


def test_ignored_voxels_are_no_foreground(tmp_path: Path) -> None:
    manifest = ct_data(tmp_path)
    change(tmp_path, labels={"background": 0, "box": 1, "ignore": 2})
    manifest = read_manifest(tmp_path)
    case = manifest.training[0]
    before = choosing.foreground(manifest, case)
    assert case.label is not None
    import nibabel as nib

    label = np.asarray(nib.load(case.label).dataobj).copy()  # type: ignore[attr-defined]
    label[0] = 2
    write_nifti(case.label, label)
    assert np.array_equal(choosing.foreground(manifest, case), before)


def test_ct_by_hand() -> None:
    grid = Grid((5, 1, 1), np.eye(4))
    image = np.array([-1000, 0, 40, 100, 3000], np.float32).reshape(1, 5, 1, 1)
    window = Window(low=-100, high=200, mean=50, deviation=25)
    prepared = preprocess(grid, image, Preparation(crop_nonzero=False, windows=(window,)))
    assert prepared.image.ravel().tolist() == [-6, -2, pytest.approx(-0.4), 2, 6]
    assert prepared.background == (-6,)


def test_channels_may_be_of_two_kinds_and_one_may_be_missing() -> None:
    grid = Grid((4, 1, 1), np.eye(4))
    image = np.array([[-500, 0, 50, 100], [0, 1, 2, 3], [9, 9, 9, 9]], np.float32).reshape(3, 4, 1, 1)
    window = Window(low=0, high=100, mean=50, deviation=50)
    settings = Preparation(crop_nonzero=False, windows=(window, None, None))
    prepared = preprocess(grid, image, settings, missing=(2,))
    assert prepared.image[0].ravel().tolist() == [-1, -1, 0, 1]
    deviation = np.sqrt(2 / 3)
    np.testing.assert_allclose(prepared.image[1].ravel(), (np.arange(4) - 2) / deviation, rtol=1e-6)
    assert not prepared.image[2].any()
    assert prepared.background == pytest.approx((-1, -2 / deviation, 0))


def test_keys_are_those_of_before_unless_something_is_used() -> None:
    assert Preparation().key() == {"crop_nonzero": True, "normalise": "zscore"}
    window = Window(low=0, high=1, mean=0, deviation=1)
    others = [Preparation(spacing=(1, 1, 2)), Preparation(windows=(window,)), Preparation(crop_nonzero=False)]
    assert len({str(other.key()) for other in [Preparation(), *others]}) == 4
