"""The voxels of a label map: values are counted, and what looks like an accident is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.check_label import label_remarks, on_border, refused_remark, specks
from frugalseg.data.scheme import LabelScheme
from frugalseg.geometry import Grid
from tests.data.datasets import write_nifti

SHAPE = (20, 24, 16)
SCHEME = LabelScheme.from_json({"labels": {"background": 0, "liver": 1, "lesion": 2}})
GRID = Grid(SHAPE, np.diag([0.5, 0.5, 2.0, 1.0]))


def organ() -> NDArray[np.int32]:
    label = np.zeros(SHAPE, np.int32)
    label[3:15, 4:20, 2:12] = 1
    label[5:9, 6:10, 4:8] = 2
    return label


def test_a_legal_label_raises_nothing(tmp_path: Path) -> None:
    assert label_remarks(GRID, organ(), SCHEME.structures, SCHEME) == []
    write_nifti(tmp_path / "a.nii", organ().astype(np.float32))
    assert refused_remark(tmp_path / "a.nii", SCHEME) is None


def test_a_tiny_structure_is_told_in_voxels_and_cubic_millimetres() -> None:
    for count, told in ((9, True), (10, False)):
        label = np.where(organ() == 2, 1, organ())
        label.reshape(-1)[np.flatnonzero(label)[:count]] = 2
        remarks = label_remarks(GRID, label, SCHEME.structures, SCHEME)
        assert [remark.kind for remark in remarks] == ["tiny"] * told
        if told:
            assert remarks[0].found == "'lesion' has 9 voxels (4.5 mm^3)"


def test_values_outside_the_scheme_are_counted(tmp_path: Path) -> None:
    label = organ()
    label[0, 0, :4], label[1, 1, 1] = 255, -3
    write_nifti(tmp_path / "a.nii", label.astype(np.int16))
    remark = refused_remark(tmp_path / "a.nii", SCHEME)
    assert remark is not None
    assert (remark.severity, remark.kind) == ("error", "label-values")
    assert remark.found == "label values -3 (1 voxels), 255 (4 voxels) are not in the scheme (0, 1, 2)"
    assert remark.mend.endswith("--remap -3=NEW --remap 255=NEW")


def test_soft_values_probabilities_images_and_nan_are_told_apart(tmp_path: Path) -> None:
    soft = organ().astype(np.float32)
    soft[0, 0, :7] = 0.4
    probability = np.random.default_rng(0).random(SHAPE, np.float32)
    nan = organ().astype(np.float32)
    nan[0, 0, :2] = np.nan
    told = {
        "label-soft": (soft, "7 of 7680 voxels are not, such as 0.4"),
        "label-like-image": (np.rint(200 * probability), "201 different values from 0 to 200"),
        "label-not-finite": (nan, "2 of 7680 label voxels are NaN"),
    }
    for kind, (voxels, found) in told.items():
        write_nifti(tmp_path / "a.nii", voxels.astype(np.float32))
        remark = refused_remark(tmp_path / "a.nii", SCHEME)
        assert remark is not None
        assert remark.kind == kind
        assert found in remark.found
    write_nifti(tmp_path / "a.nii", probability)
    remark = refused_remark(tmp_path / "a.nii", SCHEME)
    assert remark is not None
    assert remark.harm == "probabilities are no labels"


def test_a_scheme_of_many_values_is_no_image(tmp_path: Path) -> None:
    """An atlas of 100 regions with one value too many is a label map all the same."""
    atlas = LabelScheme.from_json({"labels": {f"r{value}": value for value in range(100)}})
    label = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 101
    write_nifti(tmp_path / "a.nii", label.astype(np.int16))
    remark = refused_remark(tmp_path / "a.nii", atlas)
    assert remark is not None
    assert remark.kind == "label-values"
    assert "label values 100 (76 voxels)" in remark.found


def test_what_cannot_be_read_is_left_to_the_reader(tmp_path: Path) -> None:
    assert refused_remark(tmp_path / "none.nii", SCHEME) is None


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((slice(1, 19), slice(1, 23), slice(1, 15)), 0),
        ((slice(0, 2), slice(4, 6), slice(3, 8)), 10),
        ((slice(5, 6), slice(22, 24), slice(15, 16)), 2),
        ((slice(None), slice(None), slice(None)), 20 * 24 * 16 - 18 * 22 * 14),
    ],
)
def test_voxels_on_the_border(box: tuple[slice, slice, slice], expected: int) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[box] = True
    assert on_border(mask) == expected


def test_a_flat_image_has_no_border_along_its_one_voxel() -> None:
    mask = np.zeros((9, 9, 1), bool)
    mask[2:5, 2:5] = True
    assert on_border(mask) == 0
    mask[0, 4] = True
    assert on_border(mask) == 1


def test_specks_are_small_parts_of_a_large_structure() -> None:
    mask = organ() > 0
    assert specks(mask) == 0
    mask[::4, 22, ::3] = True  # 5 x 6 single voxels, none of which touches another one
    assert specks(mask) == 30
    mask[0, 22, 1] = True  # two voxels side by side are one speck
    assert specks(mask) == 30
    lesions = np.zeros(SHAPE, bool)
    lesions[::4, ::4, ::3] = True  # alone, each of them is more than 1 % of the structure or as large as all others
    assert specks(lesions) == 5 * 6 * 6
    assert specks(np.zeros(SHAPE, bool)) == 0


def test_two_lesions_of_equal_size_are_no_specks() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 2:4, 2:4] = mask[8:10, 8:10, 8:10] = True
    assert specks(mask) == 0
