"""Reading: what is legal gives the right numbers, the rest a line; writing keeps the header's geometry."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.data.readers import read_header, read_image, read_label, write_label
from frugalseg.errors import DataError
from tests.data.datasets import write_nifti

GEOMETRY = ("qform_code", "sform_code", "pixdim", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
            "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units")  # fmt: skip


def test_4d_has_its_channels_last_and_comes_out_first(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    write_nifti(tmp_path / "a.nii.gz", array)
    grid, image = read_image(tmp_path / "a.nii.gz")
    assert grid.shape == (3, 4, 5)
    assert np.array_equal(image, array.transpose(3, 0, 1, 2))


def test_scaled_and_big_endian(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(values, np.eye(4), nib.Nifti1Header(endianness=">")), tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([0.5, 10], ">f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(bytes(content))
    assert np.allclose(read_image(tmp_path / "a.nii")[1][0], values * 0.5 + 10)


@pytest.mark.parametrize(
    ("units", "scale"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1), (11, 0.001), (5, 1), (0xC0, 1)]
)
def test_units_of_length(tmp_path: Path, units: int, scale: float) -> None:
    """Metres and micrometres become millimetres; the other bits are of time, or mean nothing."""
    write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8), np.diag([2.0, 3.0, 4.0, 1.0]))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[123] = units
    (tmp_path / "a.nii").write_bytes(bytes(content))
    assert np.allclose(read_header(tmp_path / "a.nii").grid.spacing, np.array([2, 3, 4]) * scale)


@pytest.mark.parametrize("keep", [0, 20, 400, 3000])
def test_cut_short(tmp_path: Path, keep: int) -> None:
    write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32))
    content = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"a\.nii\.gz"):
        read_image(tmp_path / "a.nii.gz")


def test_refused_kinds(tmp_path: Path) -> None:
    rgb = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, array in {
        "rgb": rgb,
        "complex": np.zeros((3, 3, 3), np.complex64),
        "5d": np.zeros((2, 2, 2, 2, 2), np.float32),
    }.items():
        write_nifti(tmp_path / f"{name}.nii.gz", array)
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / f"{name}.nii.gz")
    with pytest.raises(DataError, match="does not exist"):
        read_header(tmp_path / "nothing.nii.gz")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(DataError):
        read_header(tmp_path / "text.nii.gz")


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[42:48] = np.array([30000] * 3, "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(content))
    with pytest.raises(DataError, match="over the limit"):
        read_image(tmp_path / "a.nii")


def test_labels(tmp_path: Path) -> None:
    label = np.zeros((3, 3, 3), np.float32)
    label[0, 0, :2] = [1.0004, 1.9996]
    write_nifti(tmp_path / "a.nii.gz", label)
    _, values, rounded = read_label(tmp_path / "a.nii.gz", (0, 1, 2))
    assert values[0, 0].tolist() == [1, 2, 0]
    assert rounded == 2
    label[0, 0, 0] = 1.2
    write_nifti(tmp_path / "a.nii.gz", label)
    with pytest.raises(DataError, match=r"1\.2"):
        read_label(tmp_path / "a.nii.gz", (0, 1, 2))
    label[0, 0, 0] = 7
    write_nifti(tmp_path / "a.nii.gz", label)
    with pytest.raises(DataError, match=r"7 are not in the scheme \(0, 1, 2\)"):
        read_label(tmp_path / "a.nii.gz", (0, 1, 2))


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (1, 3), (0, 0)])
@pytest.mark.parametrize("channels", [0, 3])
def test_written_labels_keep_the_geometry_bit_for_bit(
    tmp_path: Path, codes: tuple[int, int], channels: int
) -> None:
    affine = np.array([[-0.7, 0.1, 0, 12.3], [0.1, 0.7, 0.02, -4], [0, -0.02, 2.5, 7.7], [0, 0, 0, 1]])
    shape = (4, 5, 6, channels) if channels else (4, 5, 6)
    image = nib.Nifti1Image(np.zeros(shape, np.int16), affine)
    image.header["qform_code"], image.header["sform_code"] = codes
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][1:4] *= np.float32(1.0000001)
    nib.save(image, tmp_path / "image.nii.gz")
    label = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.int32)
    write_label(tmp_path / "label.nii.gz", label, tmp_path / "image.nii.gz")
    source, written = nib.load(tmp_path / "image.nii.gz"), nib.load(tmp_path / "label.nii.gz")
    assert isinstance(source, nib.Nifti1Image)
    assert isinstance(written, nib.Nifti1Image)
    assert np.array_equal(np.asarray(written.dataobj), label)
    assert written.get_data_dtype() == np.uint8
    for field in GEOMETRY:
        assert np.array_equal(source.header[field], written.header[field]), field
    assert np.array_equal(source.affine, written.affine)
