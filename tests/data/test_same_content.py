"""Copies are found whatever their names and compression, against comparing everything with everything."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from frugalseg.data import same_content
from frugalseg.data.same_content import copies
from tests.data.datasets import write_nifti

SHAPE = (5, 4, 3)


def written(folder: Path, image: np.ndarray, name: str) -> list[Path]:
    """Write an image in every way that we know; as NIfTI and as NRRD and MetaImage its content is not one."""
    plain = folder / f"{name}.nii"
    write_nifti(plain, image)
    content = plain.read_bytes()
    packed = {
        "fast.nii.gz": gzip.compress(content, 1),
        "best.nii.gz": gzip.compress(content, 9),
        "blocks.nii.gz": gzip.compress(content[:100]) + gzip.compress(content[100:]) + gzip.compress(b""),
        "padded.nii.gz": gzip.compress(content) + bytes(16),
    }
    paths = [plain]
    for ending, data in packed.items():
        paths.append(folder / f"{name}_{ending}")
        paths[-1].write_bytes(data)
    for ending, small in (("nrrd", False), ("packed.nrrd", True), ("mha", False), ("packed.mha", True)):
        paths.append(folder / f"{name}.{ending}")
        sitk.WriteImage(sitk.GetImageFromArray(image), paths[-1], small)
    return paths


def naive(path: Path) -> tuple[bool, bytes]:
    """Return a file's content, read whole: all of a NIfTI file, the voxels of another."""
    if ".nii" in path.name:
        data = path.read_bytes()
        return True, gzip.decompress(data) if path.suffix == ".gz" else data
    return False, sitk.GetArrayFromImage(sitk.ReadImage(path)).tobytes()


def test_against_comparing_all_with_all(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = [(generator.random(SHAPE) > 0.5).astype(np.uint8) for _ in range(3)]
    images.append(images[0].copy())
    images[-1][2, 2, 1] ^= 1  # one voxel
    paths = [path for place, image in enumerate(images) for path in written(tmp_path, image, f"image{place}")]
    files, originals = paths[::2], paths[1::2]
    contents = {path: naive(path) for path in paths}
    expected = {
        (file, original) for file in files for original in originals if contents[file] == contents[original]
    }
    assert len(expected) > 20
    assert set(copies(files, originals)) == expected


def test_same_size_and_checksum_but_another_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("one", 0), ("other", 1)):
        write_nifti(tmp_path / f"{name}.nii", np.full(SHAPE, value, np.uint8))
    monkeypatch.setattr("frugalseg.data.same_content.zlib.crc32", lambda block, value=0: 7)
    assert not list(copies([tmp_path / "one.nii"], [tmp_path / "other.nii"]))


@pytest.mark.parametrize("damage", ["cut", "empty", "absent", "no gzip"])
def test_a_file_that_cannot_be_read_is_no_copy(damage: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one.nii.gz", tmp_path / "other.nii.gz"
    for path in (one, other):
        write_nifti(path, np.random.default_rng(0).random(SHAPE).astype(np.float32))
    assert list(copies([one], [other])) == [(one, other)]
    data = one.read_bytes()
    if damage == "absent":
        one.unlink()
    else:
        one.write_bytes({"cut": data[:-20], "empty": b"", "no gzip": b"x" * len(data)}[damage])
    assert not list(copies([one], [other]))
    assert not list(copies([other], [one]))


def test_more_content_than_the_header_tells_is_not_read_to_its_end(tmp_path: Path) -> None:
    path, other = tmp_path / "bomb.nii.gz", tmp_path / "other.nii.gz"
    image = nib.nifti1.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4))
    path.write_bytes(gzip.compress(image.to_bytes() + bytes(64 * 2**20)))
    other.write_bytes(gzip.compress(image.to_bytes()))
    assert same_content._streamed(path) is None
    assert not list(copies([path], [other]))
