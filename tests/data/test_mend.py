"""Mending: a case in a copy, one fault at a time; the originals stay as they are, and every change is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.manifest import Case
from frugalseg.data.mend import Change, MendSettings, mend_case
from frugalseg.data.readers import read_header, read_image, read_label
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import UserError
from frugalseg.files import hash_file
from tests.data.datasets import SHAPE, contents, make_case, write_nifti

SCHEME = LabelScheme.from_json({"labels": {"background": 0, "box": 1}})


def moved(millimetres: float) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[1, 3] = millimetres
    return affine


def case_of(folder: Path, label: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Case:
    write_nifti(folder / "imagesTr" / "a.nii.gz", make_case(0)[0])
    write_nifti(folder / "labelsTr" / "a.nii.gz", label, affine)
    return Case("a", (folder / "imagesTr" / "a.nii.gz",), folder / "labelsTr" / "a.nii.gz", "a")


def mended(case: Case, out: Path, settings: MendSettings | None = None) -> tuple[Case, list[Change]]:
    """Mend a case of `out`'s sibling "in"; whatever happens, the original files keep every byte."""
    source = case.image.parents[1]
    before = contents(source)
    target = replace(
        case,
        images=tuple(out / file.relative_to(source) for file in case.images),
        label=None if case.label is None else out / case.label.relative_to(source),
    )
    changes = mend_case(case, target, SCHEME, settings or MendSettings())
    assert contents(source) == before
    for change in changes:
        assert change.before == hash_file(source / change.file)
        assert change.after == hash_file(out / change.file)
        assert change.before != change.after
    return target, changes


def test_a_sound_case_is_linked_and_its_label_copied(tmp_path: Path) -> None:
    case = case_of(tmp_path / "in", make_case(0)[1])
    target, changes = mended(case, tmp_path / "out")
    assert changes == []
    assert target.image.samefile(case.image)
    assert target.label is not None
    assert case.label is not None
    assert not target.label.samefile(case.label)
    assert target.label.read_bytes() == case.label.read_bytes()


@pytest.mark.parametrize(
    ("shift", "limit", "told"), [(0.09, None, 1), (0.11, None, 0), (0.11, 0.2, 1), (0.09, 0.05, 0)]
)
def test_a_label_takes_its_images_header_within_the_limit(
    tmp_path: Path, shift: float, limit: float | None, told: int
) -> None:
    case = case_of(tmp_path / "in", make_case(0)[1], moved(shift))
    target, changes = mended(case, tmp_path / "out", MendSettings(limit=limit))
    assert len(changes) == told
    assert target.label is not None
    grid, label, _ = read_label(target.label, SCHEME.allowed)
    np.testing.assert_array_equal(label, make_case(0)[1])
    assert grid.difference(read_header(target.image).grid) == pytest.approx(0 if told else shift, abs=1e-6)
    if told:
        assert changes[0].amount == pytest.approx(shift)
        assert changes[0].unit == "mm"


def test_labels_are_rounded_and_remapped_and_the_voxels_counted(tmp_path: Path) -> None:
    label = make_case(0)[1].astype(np.float64)
    label[label == 1] = 0.9995
    label[0, 0, :3] = 255
    case = case_of(tmp_path / "in", label)
    target, changes = mended(case, tmp_path / "out", MendSettings(remap={255: 0}))
    assert [(change.amount, change.unit) for change in changes] == [(32, "voxels"), (3, "voxels")]
    assert "value 255" in changes[1].wrong
    assert target.label is not None
    assert read_label(target.label, (0, 1))[2] == 0
    np.testing.assert_array_equal(read_label(target.label, (0, 1))[1], make_case(0)[1])


def test_what_was_not_asked_for_is_not_done(tmp_path: Path) -> None:
    label = make_case(0)[1].astype(np.float32)
    label[0, 0, 0] = 255
    case = case_of(tmp_path / "in", label)
    assert mended(case, tmp_path / "one")[1] == []
    label[0, 0, 0] = 0.4
    case = case_of(tmp_path / "in", label)
    assert mended(case, tmp_path / "two", MendSettings(remap={255: 0}))[1] == []
    image = make_case(0)[0]
    image[0, 0, 0] = np.nan
    write_nifti(case.image, image)
    assert mended(case, tmp_path / "three")[1] == []


def test_a_negative_ignored_value_survives(tmp_path: Path) -> None:
    scheme = LabelScheme.from_json({"labels": {"background": 0, "box": 1}, "ignore": -1})
    label = make_case(0)[1].astype(np.int16)
    label[0] = -1
    case = case_of(tmp_path / "in", label, moved(0.05))
    target = replace(case, images=(tmp_path / "out" / "a.nii.gz",), label=tmp_path / "out" / "l.nii.gz")
    assert len(mend_case(case, target, scheme, MendSettings())) == 1
    assert target.label is not None
    np.testing.assert_array_equal(read_label(target.label, scheme.allowed)[1], label)


def test_voxels_that_are_not_finite_become_zero_on_request(tmp_path: Path) -> None:
    image = np.stack([make_case(0)[0], make_case(1)[0]], axis=3)
    image[1, 2, 3, 1], image[4, 4, 4, 1] = np.nan, np.inf
    case = case_of(tmp_path / "in", make_case(0)[1])
    write_nifti(case.image, image, moved(3))
    target, (change,) = mended(case, tmp_path / "out", MendSettings(nan_to_zero=True))
    assert (change.amount, change.channel) == (2, 1)
    grid, voxels = read_image(target.image)
    assert grid.affine[1, 3] == 3
    np.testing.assert_array_equal(voxels, np.moveaxis(np.where(np.isfinite(image), image, 0), 3, 0))


def channels(folder: Path, affine: NDArray[np.float64], second: NDArray[np.float32]) -> Case:
    files = (folder / "imagesTr" / "a_0000.nii", folder / "imagesTr" / "a_0001.nii")
    write_nifti(files[0], make_case(0)[0])
    write_nifti(files[1], second, affine)
    return Case("a", files, None, "a")


def test_channels_are_resampled_on_request(tmp_path: Path) -> None:
    """A ramp in millimetres is the same ramp on any grid: linear interpolation keeps it."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -1.5
    ramp = np.einsum("i,i...->...", [1.0, 10.0, 100.0], np.indices((8, 9, 7)) * 2 - 1.5).astype(np.float32)
    case = channels(tmp_path / "in", affine, ramp)
    assert mended(case, tmp_path / "no")[1] == []
    target, (change,) = mended(case, tmp_path / "out", MendSettings(resample_channels=True))
    assert change.channel == 1
    assert "covers 100.0%" in change.done
    one, other = read_header(target.images[0]).grid, read_image(target.images[1])
    assert other[0].difference(one) == 0
    expected = np.einsum("i,i...->...", [1.0, 10.0, 100.0], np.indices(SHAPE))
    np.testing.assert_allclose(other[1][0], expected, atol=1e-3)


def test_a_channel_of_somewhere_else_is_not_resampled(tmp_path: Path) -> None:
    case = channels(tmp_path / "in", moved(7), make_case(1)[0])
    assert mended(case, tmp_path / "out", MendSettings(resample_channels=True))[1] == []
    case = channels(tmp_path / "in", moved(5), make_case(1)[0])
    _, (change,) = mended(case, tmp_path / "two", MendSettings(resample_channels=True))
    assert "covers 58.3%" in change.done  # 7 of 12 rows


def with_qform(file: Path, sform: NDArray[np.float64], qform: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(np.arange(960, dtype=np.int16).reshape(SHAPE), None)
    image.header.set_sform(sform, code=1)
    image.header.set_qform(qform, code=2)
    image.header.set_slope_inter(2.0, -5.0)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made"))
    nib.save(nib.Nifti1Image(np.arange(960, dtype=np.int16).reshape(SHAPE) * 2.0 - 5, None, image.header), file)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
def test_the_sform_is_written_into_the_qform_and_nothing_else_changes(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / "in" / "imagesTr" / f"a.{suffix}"
    file.parent.mkdir(parents=True)
    with_qform(file, np.eye(4), moved(0.05))
    target, (change,) = mended(Case("a", (file,), None, "a"), tmp_path / "out")
    assert change.amount == pytest.approx(0.05)
    assert change.unit == "mm"
    old, new = nib.load(file), nib.load(target.image)
    assert isinstance(old, nib.Nifti1Image)
    assert isinstance(new, nib.Nifti1Image)
    np.testing.assert_array_equal(new.header.get_qform(), np.eye(4))
    np.testing.assert_array_equal(new.header.get_sform(), np.eye(4))
    assert int(new.header["qform_code"]) == 2
    np.testing.assert_array_equal(np.asarray(new.dataobj), np.asarray(old.dataobj))
    assert new.get_data_dtype() == old.get_data_dtype()
    assert [extension.get_content() for extension in new.header.extensions] == [b"made"]


def test_a_qform_that_cannot_say_it_is_switched_off(tmp_path: Path) -> None:
    file = tmp_path / "in" / "imagesTr" / "a.nii"
    file.parent.mkdir(parents=True)
    sheared = np.eye(4)
    sheared[0, 1] = 0.03
    with_qform(file, sheared, np.eye(4))
    target, (change,) = mended(Case("a", (file,), None, "a"), tmp_path / "out", MendSettings(limit=10))
    assert change.amount == pytest.approx(0.03 * 11, abs=0.02)
    new = nib.load(target.image)
    assert isinstance(new, nib.Nifti1Image)
    assert int(new.header["qform_code"]) == 0
    np.testing.assert_allclose(np.asarray(new.affine), sheared, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (MendSettings(limit=-1), "0 or more"),
        (MendSettings(limit=float("nan")), "0 or more"),
        (MendSettings(remap={1: 0}), "1 is a value of the scheme"),
        (MendSettings(remap={7: 5}), "5 is no value of the scheme"),
    ],
)
def test_settings_that_make_no_sense(settings: MendSettings, told: str) -> None:
    with pytest.raises(UserError, match=told):
        settings.require(SCHEME)


def test_a_label_of_another_type_cannot_take_the_images_header(tmp_path: Path) -> None:
    """An NRRD beside a NIfTI: the case stays as it is, and the check says why; nothing breaks."""
    write_nifti(tmp_path / "in" / "imagesTr" / "a.nii.gz", make_case(0)[0], moved(0.05))
    write_nifti(tmp_path / "plain.nii.gz", make_case(0)[1])
    label = tmp_path / "in" / "labelsTr" / "a.nrrd"
    label.parent.mkdir()
    import SimpleITK as sitk

    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "plain.nii.gz")), str(label))
    case = Case("a", (tmp_path / "in" / "imagesTr" / "a.nii.gz",), label, "a")
    target, changes = mended(case, tmp_path / "out")
    assert changes == []
    assert target.label is not None
    assert target.label.read_bytes() == label.read_bytes()
