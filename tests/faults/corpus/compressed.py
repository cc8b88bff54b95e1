"""Compressed files that are cut short, corrupt, or something else."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np

from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import AFFINE, IMAGE, LABEL, UNLABELLED, Scene

WHOLE = "copy the file anew"


def cut(scene: Scene, name: str, keep: int) -> None:
    scene.file(name, (scene.folder / name).read_bytes()[:keep])


def flip(scene: Scene, name: str, place: int) -> None:
    content = bytearray((scene.folder / name).read_bytes())
    content[place] ^= 0xFF
    scene.file(name, bytes(content))


@malformed("train", IMAGE, "is empty", WHOLE)
def empty_file(scene: Scene) -> None:
    scene.file(f"data/{IMAGE}", b"")


@malformed("train", IMAGE, "cannot be decompressed (Compressed file ended", WHOLE)
def gzip_cut_in_its_own_header(scene: Scene) -> None:
    cut(scene, f"data/{IMAGE}", 8)


@malformed("train", LABEL, "cannot be decompressed (Compressed file ended", WHOLE)
def gzip_cut_in_the_nifti_header(scene: Scene) -> None:
    cut(scene, f"data/{LABEL}", 30)


@malformed("train", IMAGE, "its voxels cannot be read, it is damaged or cut short (Compressed file ended", WHOLE)
def gzip_cut_in_the_voxels(scene: Scene) -> None:
    cut(scene, f"data/{IMAGE}", 5000)


@malformed("train", UNLABELLED, "damaged or cut short (Compressed file ended", WHOLE)
def gzip_without_its_last_bytes(scene: Scene) -> None:
    path = scene.data / UNLABELLED
    cut(scene, f"data/{UNLABELLED}", path.stat().st_size - 8)


@malformed("train", IMAGE, "damaged or cut short (CRC check failed", WHOLE)
def gzip_whose_sum_is_wrong(scene: Scene) -> None:
    flip(scene, f"data/{IMAGE}", -6)


@malformed("train", IMAGE, "damaged or cut short (Incorrect length", WHOLE)
def gzip_whose_length_is_wrong(scene: Scene) -> None:
    flip(scene, f"data/{IMAGE}", -3)


@malformed("train", LABEL, "damaged or cut short (CRC check failed", WHOLE)
def label_gzip_whose_sum_is_wrong(scene: Scene) -> None:
    flip(scene, f"data/{LABEL}", -6)


@malformed("train", IMAGE, "damaged or cut short (Error -3", WHOLE)
def gzip_with_a_corrupt_stream(scene: Scene) -> None:
    content = bytearray((scene.data / IMAGE).read_bytes())
    content[5000:5040] = b"\xff" * 40
    scene.file(f"data/{IMAGE}", bytes(content))


@malformed("train", IMAGE, "is not compressed, though its name ends in .gz", "rename it to case_00.nii")
def plain_nifti_named_gz(scene: Scene) -> None:
    scene.file(f"data/{IMAGE}", gzip.decompress((scene.data / IMAGE).read_bytes()))


@malformed(
    "train", "case_00.nii", "is compressed (gzip), though its name does not say so", "rename it to case_00.nii.gz"
)
def gzip_named_plain(scene: Scene) -> None:
    scene.file("data/imagesTr/case_00.nii", (scene.data / IMAGE).read_bytes())
    (scene.data / IMAGE).unlink()
    scene.json("data/dataset.json", lambda d: d["training"][0].update(image="imagesTr/case_00.nii"))


@malformed("train", LABEL, "is not compressed, though its name ends in .gz", "compress it")
def text_named_gz(scene: Scene) -> None:
    scene.file(f"data/{LABEL}", "not an image " * 80)


@malformed("train", UNLABELLED, "is no NIfTI file", "export it as NIfTI")
def text_inside_gzip(scene: Scene) -> None:
    scene.file(f"data/{UNLABELLED}", gzip.compress(b"not an image " * 80))


@malformed("train", UNLABELLED, "is not compressed, though its name ends in .gz", "compress it")
def zip_archive_named_gz(scene: Scene) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("case.nii", gzip.decompress((scene.data / IMAGE).read_bytes()))
    scene.file(f"data/{UNLABELLED}", content.getvalue())


@malformed("train", LABEL, "holds only", "cut short")
def plain_nifti_cut_in_its_header(scene: Scene) -> None:
    scene.file(f"data/{LABEL}", gzip.compress(gzip.decompress((scene.data / LABEL).read_bytes())[:200]))


@malformed("train", "case_00.nii", "has 4000 bytes, its header tells", WHOLE)
def plain_nifti_cut_in_its_voxels(scene: Scene) -> None:
    scene.file("data/imagesTr/case_00.nii", gzip.decompress((scene.data / IMAGE).read_bytes())[:4000])
    (scene.data / IMAGE).unlink()
    scene.json("data/dataset.json", lambda d: d["training"][0].update(image="imagesTr/case_00.nii"))


@malformed("train", IMAGE, "holds more than", "its header tells")
def more_content_than_the_header_tells(scene: Scene) -> None:
    content = gzip.decompress((scene.data / IMAGE).read_bytes())
    scene.file(f"data/{IMAGE}", gzip.compress(content + bytes(2**22), 1))


@legal()
def gzip_of_several_members(scene: Scene) -> None:
    content = gzip.decompress((scene.data / IMAGE).read_bytes())
    scene.file(f"data/{IMAGE}", b"".join(gzip.compress(content[i : i + 999]) for i in range(0, len(content), 999)))


@legal()
def gzip_padded_with_zeros(scene: Scene) -> None:
    scene.file(f"data/{IMAGE}", (scene.data / IMAGE).read_bytes() + bytes(512))


@legal()
def a_few_bytes_behind_the_voxels(scene: Scene) -> None:
    content = gzip.decompress((scene.data / LABEL).read_bytes())
    scene.file(f"data/{LABEL}", gzip.compress(content + bytes(100)))


@legal()
def not_compressed(scene: Scene) -> None:
    for name in (IMAGE, LABEL):
        scene.file(f"data/{name.removesuffix('.gz')}", gzip.decompress((scene.data / name).read_bytes()))
        (scene.data / name).unlink()
    pair = {"image": IMAGE.removesuffix(".gz"), "label": LABEL.removesuffix(".gz")}
    scene.json("data/dataset.json", lambda d: d["training"][0].update(pair))


def one_channel(scene: Scene) -> None:
    for path in sorted((scene.data / "imagesTr").iterdir()):
        name = f"data/imagesTr/{path.name}"
        scene.nifti(name, np.ascontiguousarray(scene.voxels(name)[..., 0]), AFFINE)
    scene.dataset(modality={"0": "T1"})


@legal(before=one_channel)
def four_axes_with_one_channel(scene: Scene) -> None:
    for name in (f"data/{IMAGE}", f"data/{LABEL}"):
        scene.nifti(name, scene.voxels(name)[..., None])
