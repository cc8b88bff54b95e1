"""What a header says of where its voxels lie: contradictions are told in millimetres and degrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.check_geometry import (
    channel_remarks,
    contradiction,
    geometry_remarks,
    label_remark,
    mend_limit,
)
from frugalseg.data.check_report import Remark
from frugalseg.data.readers import read_header
from frugalseg.geometry import Grid

SHAPE = (11, 21, 5)


def rotation(degrees: float, axis: int = 2) -> NDArray[np.float64]:
    angle = np.radians(degrees)
    one, two = (other for other in range(3) if other != axis)
    turned = np.eye(4)
    turned[one, one] = turned[two, two] = np.cos(angle)
    turned[one, two], turned[two, one] = -np.sin(angle), np.sin(angle)
    return turned


def saved(
    file: Path,
    sform: NDArray[np.float64] | None,
    qform: NDArray[np.float64] | None = None,
    **header: Any,
) -> list[Remark]:
    """Write a file with these transforms, and return what is found in its header."""
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None)
    image.header.set_xyzt_units("mm")
    image.header.set_sform(sform, code=0 if sform is None else 1)
    image.header.set_qform(qform, code=0 if qform is None else 1)
    if qform is None and sform is not None:
        image.header.set_zooms(np.linalg.norm(sform[:3, :3], axis=0))
    for key, value in header.items():
        image.header[key] = value
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), None, image.header)
    nib.save(image, file)
    return geometry_remarks(file, read_header(file).grid)


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(4),
        np.diag([-0.4883, -0.4883, 5.0, 1.0]),
        rotation(37) @ rotation(12, axis=0) @ np.diag([0.7, 0.7, 3.0, 1.0]),
        rotation(179.9) @ rotation(0.02, axis=1) @ np.diag([1.0, 1.0, 2.5, 1.0]),
    ],
    ids=["plain", "flipped", "oblique", "half a turn"],
)
def test_legal_headers_raise_nothing(tmp_path: Path, affine: NDArray[np.float64]) -> None:
    affine = affine.copy()
    affine[:3, 3] = [-91.3, 126.02, -71.9]
    assert saved(tmp_path / "both.nii", affine, affine) == []
    assert saved(tmp_path / "sform.nii.gz", affine) == []
    assert saved(tmp_path / "qform.nii", None, affine) == []


def test_sform_against_qform_is_told_at_the_farthest_corner(tmp_path: Path) -> None:
    # Voxels of 2 instead of 1 mm along y, which has 21: the last one lies 20 mm further.
    (remark,) = saved(tmp_path / "a.nii", np.eye(4), np.diag([1.0, 2.0, 1.0, 1.0]))
    assert (remark.severity, remark.kind) == ("warning", "sform-qform")
    assert "differ by 20 mm at the farthest corner; the sform is taken" in remark.found
    assert "--mend-limit" in remark.mend
    shifted = np.eye(4)
    for shift, told in ((0.009, None), (0.011, "note"), (0.099, "note"), (0.101, "warning")):
        shifted[0, 3] = shift
        remarks = saved(tmp_path / "a.nii", np.eye(4), shifted)
        assert [remark.severity for remark in remarks] == [told] * (told is not None)


def test_a_damaged_qform_is_told(tmp_path: Path) -> None:
    (remark,) = saved(tmp_path / "a.nii", np.eye(4), np.eye(4), quatern_b=0.9, quatern_c=0.9)
    assert "its qform is damaged" in remark.found
    (remark,) = saved(tmp_path / "a.nii", np.eye(4), np.eye(4), qoffset_x=np.nan)
    assert "its qform is damaged" in remark.found


def test_the_contradiction_of_a_header_in_millimetres() -> None:
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    grid = Grid(SHAPE, np.eye(4))
    assert contradiction(header, grid) == 0
    header.set_sform(np.eye(4), code=1)
    assert contradiction(header, grid) == 0
    header.set_zooms((1.0, 1.0, 1.25))  # without a qform: the fifth slice lies 1 mm further
    assert contradiction(header, grid) == pytest.approx(1)
    header.set_qform(np.diag([1.0, 1.0, 3.0, 1.0]), code=1)
    assert contradiction(header, grid) == pytest.approx(8)


def test_pixdim_against_sform(tmp_path: Path) -> None:
    (remark,) = saved(tmp_path / "a.nii", np.diag([1.0, 1.0, 3.0, 1.0]), pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    assert (remark.severity, remark.kind) == ("warning", "sform-pixdim")
    assert "differ by 8 mm at the farthest corner; the sform is taken" in remark.found


def test_no_transform_at_all(tmp_path: Path) -> None:
    (remark,) = saved(tmp_path / "a.nii", None)
    assert remark.kind == "no-orientation"
    assert "LAS is taken" in remark.found


def test_another_unit_than_mm(tmp_path: Path) -> None:
    (remark,) = saved(tmp_path / "a.nii", np.diag([0.001, 0.001, 0.002, 1.0]), xyzt_units=1)
    assert remark.kind == "unit"
    assert "lengths are in metres; its voxels are taken for 1 x 1 x 2 mm" in remark.found
    assert saved(tmp_path / "a.nii", np.eye(4), xyzt_units=0) == []


@pytest.mark.parametrize("degrees", [0.05, 0.2, 1.5])
def test_shear_is_told_in_degrees(tmp_path: Path, degrees: float) -> None:
    tilted = np.eye(4)
    tilted[1, 2] = np.tan(np.radians(degrees))  # as the gantry of a CT: slices slide along y
    tilted = rotation(20) @ tilted @ np.diag([0.5, 0.5, 4.0, 1.0])
    assert Grid(SHAPE, tilted).skew == pytest.approx(degrees)
    remarks = saved(tmp_path / "a.nii", tilted)
    assert len(remarks) == (degrees > 0.1)
    if remarks:
        assert remarks[0].kind == "shear"
        assert f"({degrees:.3g} degrees off)" in remarks[0].found


def moved(x: float, shape: tuple[int, int, int] = SHAPE) -> Grid:
    affine = np.eye(4)
    affine[0, 3] = x
    return Grid(shape, affine)


def test_channels_are_compared_with_the_first_one() -> None:
    files = [Path("a_0000.nii"), Path("a_0001.nii"), Path("a_0002.nii"), Path("a_0003.nii")]
    grids = [moved(0), moved(1e-4), moved(2.5), moved(0, (11, 21, 9))]
    found = channel_remarks(files, grids)
    assert [file for file, _ in found] == files[2:]
    assert "it and a_0000.nii lie 2.5 mm apart (origin shifted by 2.5, 0, 0 mm)" in found[0][1].found
    # Four slices more: the middle lies two slices further.
    assert "it has shape (11, 21, 9), a_0000.nii (11, 21, 5); their centres lie 2 mm apart" in found[1][1].found


def test_a_label_within_the_limit_can_be_mended() -> None:
    assert label_remark(moved(0), moved(0.0009)) is None
    small, large = label_remark(moved(0), moved(0.09)), label_remark(moved(0), moved(0.11))
    assert small is not None
    assert large is not None
    assert small.severity == large.severity == "error"
    assert small.mend
    assert not large.mend
    assert "0.11 mm apart" in large.found
    other = label_remark(moved(0), moved(0, (11, 21, 6)))
    assert other is not None
    assert not other.mend


def test_the_limit_is_never_more_than_half_a_voxel_unless_given() -> None:
    assert mend_limit(moved(0)) == 0.1
    microscope = Grid(SHAPE, np.diag([0.01, 0.01, 0.05, 1.0]))
    assert mend_limit(microscope) == pytest.approx(0.005)
    assert mend_limit(microscope, 0.3) == 0.3


def test_a_file_of_two_axes_says_nothing_of_a_third(tmp_path: Path) -> None:
    """What nibabel writes of a plain 2D array: an sform, no qform, and two spacings."""
    affine = np.diag([2.0, 3.0, 1.0, 1.0])
    nib.save(nib.Nifti1Image(np.zeros((6, 5), np.uint8), affine), tmp_path / "a.nii.gz")
    file = tmp_path / "a.nii.gz"
    header = nib.Nifti1Image.from_filename(file).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 0)
    assert contradiction(header, read_header(file).grid) == 0
    header.set_zooms((2.5, 3.0))
    assert contradiction(header, read_header(file).grid) == pytest.approx(0.5 * 5)
