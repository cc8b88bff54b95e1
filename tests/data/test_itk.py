"""NRRD and MetaImage: the same numbers and places as a NIfTI of the same image; what is damaged is refused."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from frugalseg.data.attached import look, voxel_bytes
from frugalseg.data.readers import read_header, read_image, read_label, write_label
from frugalseg.errors import DataError

DIRECTION = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
SPACING, ORIGIN = (0.7, 1.3, 2.5), (-12.3, 45.6, 7.89)
SUFFIXES = [".nrrd", ".mha"]


def save(path: Path, array: NDArray[Any], compressed: bool = True, vector: bool = False) -> Path:
    """Write (x, y, z) or, as a vector image, (x, y, z, channel)."""
    places = array.ndim - vector
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(array.transpose(*reversed(range(places)), *([places] if vector else []))),
        isVector=vector,
    )
    if places == 3:
        image.SetSpacing(SPACING)
        image.SetOrigin(ORIGIN)
        image.SetDirection(DIRECTION.ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path


def voxels(*shape: int) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-900, 3000, shape).astype(np.int16)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [True, False])
def test_numbers_and_places(tmp_path: Path, suffix: str, compressed: bool) -> None:
    array = voxels(4, 5, 6)
    grid, image = read_image(save(tmp_path / f"Bürgi å{suffix}", array, compressed))
    assert np.array_equal(image, array[None])
    # By hand: LPS point of voxel (i, j, k) is origin + direction (spacing * index); RAS turns the first two round.
    index = np.array([3, 1, 4])
    point = np.array(ORIGIN) + DIRECTION @ (np.array(SPACING) * index)
    found = grid.affine @ np.array([*index, 1])
    assert np.allclose(found[:3], point * [-1, -1, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_image_as_nifti_lies_in_the_same_place(tmp_path: Path, suffix: str) -> None:
    array = voxels(4, 5, 6)
    own = read_image(save(tmp_path / f"a{suffix}", array))
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / f"a{suffix}")), str(tmp_path / "a.nii.gz"))
    nifti = read_image(tmp_path / "a.nii.gz")
    assert np.array_equal(own[1], nifti[1])
    assert own[0].difference(nifti[0]) < 1e-4  # NIfTI keeps its numbers in 32 bits


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("vector", [True, False])
def test_channels_are_the_last_axis_or_the_components(tmp_path: Path, suffix: str, vector: bool) -> None:
    array = voxels(4, 5, 6, 3)
    path = save(tmp_path / f"a{suffix}", array, vector=vector)
    assert read_header(path).channels == 3
    assert np.array_equal(read_image(path)[1], np.moveaxis(array, 3, 0))
    with pytest.raises(DataError, match="one channel, this file has 3"):
        read_label(path, (0, 1))


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".nii.gz"])
def test_a_2d_image_is_one_slice_and_its_label_is_2d(tmp_path: Path, suffix: str) -> None:
    array = voxels(4, 5)
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        nib.save(nib.Nifti1Image(array, np.diag([0.5, 0.5, 1, 1])), path)
    else:
        save(path, array)
    grid, image = read_image(path)
    assert grid.shape == (4, 5, 1)
    assert grid.spacing[2] == 1
    assert np.array_equal(image[0, :, :, 0], array)
    label = (array > 0).astype(np.uint8)[..., None]
    write_label(tmp_path / f"b{suffix}", label, path)
    assert read_header(tmp_path / f"b{suffix}").dimensions == 2
    assert np.array_equal(read_label(tmp_path / f"b{suffix}", (0, 1))[1], label)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_written_label_keeps_type_and_geometry(tmp_path: Path, suffix: str, channels: int) -> None:
    shape = (4, 5, 6) if channels == 1 else (4, 5, 6, 2)
    path = save(tmp_path / f"x{suffix}", voxels(*shape)).rename(tmp_path / f"a{suffix.upper()}")
    label = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.int32)
    write_label(tmp_path / f"b{suffix}", label, path)
    grid, values, _ = read_label(tmp_path / f"b{suffix}", (0, 1, 2))
    assert np.array_equal(values, label)
    assert np.array_equal(grid.affine, read_header(path).grid.affine)
    with pytest.raises(ValueError, match="another type"):
        write_label(tmp_path / "b.nii.gz", label, path)


@pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "left-anterior-superior"])
def test_spaces_of_nrrd(tmp_path: Path, space: str) -> None:
    header = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: {space}\nsizes: 2 2 2\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + bytes(range(8)))
    grid, image = read_image(tmp_path / "a.nrrd")
    left = -1 if space.startswith("left") else 1
    assert np.allclose(grid.affine, [[2 * left, 0, 0, 10 * left], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])
    assert image[0, 1, 0, 0] == 1  # x runs fastest


def changed(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


WRONG: list[tuple[str, bytes, bytes, str]] = [
    (".nrrd", b"sizes: 4 5 6", b"sizes: 40000 50000 60000", "over the limit"),
    (".nrrd", b"sizes: 4 5 6", b"sizes: 4 5 60", "cut short"),
    (".nrrd", b"sizes: 4 5 6", b"sizes: 4 5 -6", "none at all"),
    (".nrrd", b"sizes: 4 5 6", b"sizes: 4 5", "in 3 dimensions"),
    (".nrrd", b"kinds: domain domain domain", b"kinds: RGB-color domain domain", "colours"),
    (".nrrd", b"kinds: domain domain domain", b"kinds: complex domain domain", "complex numbers"),
    (".nrrd", b"encoding: raw", b"encoding: hex", "save it as raw or gzip"),
    (".nrrd", b"encoding: raw", b"data file: ../secret.raw\nencoding: raw", "another file"),
    (".nrrd", b"type: short", b"type: block", "'block'"),
    (".nrrd", b"NRRD0004", b"nothing", "does not begin with NRRD"),
    (".nrrd", b"(-12.3", b"(nan", "geometry|header"),
    (".mha", b"DimSize = 4 5 6", b"DimSize = 40000 50000 60000", "over the limit"),
    (".mha", b"DimSize = 4 5 6", b"DimSize = 4 5 60", "cut short"),
    (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd", "another file"),
    (".mha", b"ElementDataFile = LOCAL", b"ElementDataFile = LIST", "another file"),
    (".mha", b"NDims = 3", b"NDims = 3000", "must be 9000000 numbers"),
    (".mha", b"NDims = 3\n", b"", "no 'NDims'"),
    (".mha", b"NDims = 3\n", b"Offset = 1 2 3\nNDims = 3\n", "no 'NDims'"),
    (".mha", b"ElementSpacing = ", b"ElementSpacing = 1 ", "'ElementSpacing' in its header must be 3 numbers"),
    (".mha", b"ElementSpacing = ", b"ElementSpacing = x", "'ElementSpacing' in its header must be 3 numbers"),
    (".mha", b"Offset = ", b"Offset = nan ", "'Offset' in its header must be 3 numbers"),
    (".mha", b"TransformMatrix = ", b"TransformMatrix = 1 ", "'TransformMatrix' in its header must be 9 numbers"),
    (".mha", b"NDims = 3\n", b"NDims = 3\nCompressedData = True\n", "names 'CompressedData' twice"),
    (".mha", b"BinaryData = True", b"BinaryData =", "as text"),
    (".mha", b"= LOCAL", b"= \x1cLOCAL", "control characters"),
    (".mha", b"NDims = 3\n", b"NDims = 3\n" + b"F" * 900 + b" = 3\n", "a key of 901 characters"),
    (".mha", b"ElementType = MET_SHORT", b"ElementType = MET_STRING", "MET_STRING"),
    (".mha", b"ObjectType = Image", b"hello", "no KEY = VALUE"),
]


@pytest.mark.parametrize(("suffix", "old", "new", "message"), WRONG)
def test_headers_that_claim_what_cannot_be(
    tmp_path: Path, suffix: str, old: bytes, new: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / f"a{suffix}", voxels(4, 5, 6), compressed=False)
    changed(path, old, new)
    with pytest.raises(DataError, match=message) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("keep", [0, 30, -200, -1])
def test_cut_short(
    tmp_path: Path, suffix: str, compressed: bool, keep: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / f"a{suffix}", voxels(9, 9, 9), compressed)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.(nrrd|mha)"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_flipped_bit_in_a_compressed_file_is_no_wrong_number(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", voxels(9, 9, 9))
    content = path.read_bytes()
    for back in range(4, 400, 13):
        path.write_bytes(content[:-back] + bytes([content[-back] ^ 1]) + content[-back + 1 :])
        with pytest.raises(DataError, match="damaged"):
            read_image(path)


@pytest.mark.parametrize("told", ["", "CompressedDataSize = 10\n", "CompressedDataSize = 99999\n"])
@pytest.mark.parametrize("most", ["False", "True"])
@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_compressed_metaimages_of_other_writers(
    tmp_path: Path, told: str, most: str, pack: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """SimpleITK gives back zeros or worse, without an error, unless the header tells the compressed bytes."""
    array = voxels(3, 4, 5, 2)
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = {most}\n"
        f"CompressedData = True\n{told}ElementSpacing = 1 2 3\nDimSize = 3 4 5\n"
        "ElementNumberOfChannels = 2\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    stored = array.transpose(2, 1, 0, 3).astype(">i2" if most == "True" else "<i2")
    (tmp_path / "a.mha").write_bytes(header.encode() + pack(stored.tobytes()))
    assert np.array_equal(read_image(tmp_path / "a.mha")[1], np.moveaxis(array, 3, 0))
    assert capfd.readouterr() == ("", "")


def test_two_orders_of_bytes_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mha", voxels(4, 5, 6))
    changed(path, b"ElementDataFile", b"ElementByteOrderMSB = True\nElementDataFile")
    with pytest.raises(DataError, match="two orders of its bytes"):
        read_header(path)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_files_in_two_parts_are_refused(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", voxels(4, 5, 6))
    with pytest.raises(DataError, match="another file, which is not followed; save it as one file"):
        read_header(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [True, False])
def test_bytes_of_the_voxels(tmp_path: Path, suffix: str, compressed: bool) -> None:
    array = voxels(40, 50, 60)
    path = save(tmp_path / f"a{suffix}", array, compressed)
    assert b"".join(voxel_bytes(path, look(path))) == array.tobytes(order="F")


def test_simpleitk_is_not_imported_for_nifti() -> None:
    code = "import sys, frugalseg.data.manifest, frugalseg.data.readers; assert 'SimpleITK' not in sys.modules"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 0
