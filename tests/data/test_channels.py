"""One file a channel gives what one file with all of them gives, and refuses what does not lie on one grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.data.channels import read_channels
from frugalseg.errors import DataError

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array.astype(np.float32), affine), path)
    return path


def test_one_file_a_channel_equals_one_file(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(4, 5, 6, 2))
    whole = save(tmp_path / "whole.nii.gz", voxels)
    parts = [save(tmp_path / f"{place}.nii.gz", voxels[..., place]) for place in (0, 1)]
    grid, image = read_channels(parts, ("T1", "T2"), "the model needs")
    expected_grid, expected = read_channels([whole], ("T1", "T2"), "the model needs")
    np.testing.assert_array_equal(image, expected)
    assert grid.difference(expected_grid) == 0
    assert image.shape == (2, 4, 5, 6)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("shape", r"1\.nii\.gz: has shape \(4, 5, 7\), 0\.nii\.gz has \(4, 5, 6\); resample"),
        ("away", r"1\.nii\.gz: lies 0\.5 mm away from 0\.nii\.gz; register"),
        ("several", r"1\.nii\.gz: has 2 channels; one file a channel was expected"),
    ],
)
def test_other_grids_are_refused(tmp_path: Path, second: str, message: str) -> None:
    shape = {"shape": (4, 5, 7), "several": (4, 5, 6, 2)}.get(second, (4, 5, 6))
    affine = AFFINE.copy()
    affine[0, 3] = 0.5 if second == "away" else 0
    files = [save(tmp_path / "0.nii.gz", np.ones((4, 5, 6))), save(tmp_path / "1.nii.gz", np.ones(shape), affine)]
    with pytest.raises(DataError, match=message):
        read_channels(files, ("T1", "T2"), "the model needs")
