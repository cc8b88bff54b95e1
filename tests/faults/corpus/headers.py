"""NIfTI headers that claim what cannot be: sizes, types, places of the voxels."""

from __future__ import annotations

import gzip
import struct

import nibabel as nib
import numpy as np

from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import AFFINE, IMAGE, LABEL, UNLABELLED, Scene

DIM, DATATYPE, PIXDIM, OFFSET, SLOPE, INTER, UNITS, MAGIC = 40, 70, 76, 108, 112, 116, 123, 344
ANEW = "export it anew"


@malformed("train", IMAGE, "claims 30000 x 30000 x 30000 voxels", "over the limit of 4294967296")
def claims_30000_cubed(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DIM, "8h", (3, 30000, 30000, 30000, 1, 1, 1, 1)))


@malformed("train", IMAGE, "claims 1200 x 1200 x 1200 voxels", "more than a file of")
def claims_more_than_the_file_can_hold(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DIM, "8h", (3, 1200, 1200, 1200, 1, 1, 1, 1)))


@malformed("train", UNLABELLED, "claims 20000 x 20000 x 2 x 20000 voxels", "over the limit")
def claims_20000_channels(scene: Scene) -> None:
    scene.patch(f"data/{UNLABELLED}", (DIM, "8h", (4, 20000, 20000, 2, 20000, 1, 1, 1)))


@malformed("train", LABEL, "claims 32767 x 32767 x 32767 x 32767 x 32767 x 32767 x 32767 voxels", "3D, or 4D")
def claims_seven_large_axes(scene: Scene) -> None:
    scene.patch(f"data/{LABEL}", (DIM, "8h", (7, *[32767] * 7)))


@malformed("train", IMAGE, "claims 0 x 12 x 8 x 2 voxels", ANEW)
def an_axis_of_no_voxel(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DIM + 2, "h", 0))


@malformed("train", IMAGE, "claims -10 x 12 x 8 x 2 voxels", ANEW)
def an_axis_of_negative_length(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DIM + 2, "h", -10))


@malformed("train", IMAGE, "claims 0 axes", "3D, or 4D")
def no_axis(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DIM, "h", 0))


@malformed("train", IMAGE, "claims 77 axes", "3D, or 4D")
def seventy_seven_axes(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DIM, "h", 77))


@malformed(
    "train", IMAGE, "has 1 channels, the data set has 2: T1, T2", "give the image these channels in this order"
)
def two_axes(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", np.ones((10, 12), np.float32))


@malformed("train", IMAGE, "claims 10 x 12 x 8 x 2 x 2 voxels", "3D, or 4D with channels last")
def five_axes(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", np.ones((10, 12, 8, 2, 2), np.float32))


@malformed("train", IMAGE, "is no NIfTI file", "export it as NIfTI")
def header_of_another_length(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (0, "i", 1234))


@malformed("train", LABEL, "is no NIfTI file (its header lacks the magic word)", "export it as NIfTI")
def header_without_the_magic_word(scene: Scene) -> None:
    scene.patch(f"data/{LABEL}", (MAGIC, "4s", b"n+9\0"))


@malformed("train", UNLABELLED, "is the header of a pair (.hdr, .img)", "convert it to a single .nii.gz")
def header_of_a_pair(scene: Scene) -> None:
    scene.patch(f"data/{UNLABELLED}", (MAGIC, "4s", b"ni1\0"))


@malformed("train", IMAGE, "has voxels of type 9999", "numbers")
def an_unknown_voxel_type(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DATATYPE, "h", 9999))


@malformed("train", IMAGE, "has voxels of type 0", "numbers")
def no_voxel_type(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (DATATYPE, "h", 0))


@malformed("train", LABEL, "has voxels of type 1", "numbers")
def single_bits(scene: Scene) -> None:
    scene.patch(f"data/{LABEL}", (DATATYPE, "h", 1))


@malformed("train", IMAGE, "its voxels begin at byte nan", ANEW)
def voxels_nowhere(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (OFFSET, "f", float("nan")))


@malformed("train", IMAGE, "its voxels begin at byte inf", ANEW)
def voxels_infinitely_far(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (OFFSET, "f", float("inf")))


@malformed("train", IMAGE, "its voxels begin at byte -1000", ANEW)
def voxels_before_the_file(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (OFFSET, "f", -1000.0))


@malformed("train", LABEL, "its voxels begin at byte 16", ANEW)
def voxels_inside_the_header(scene: Scene) -> None:
    scene.patch(f"data/{LABEL}", (OFFSET, "f", 16.0))


@malformed("train", IMAGE, "its voxels begin at byte 1e+30", ANEW)
def voxels_far_behind_the_file(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (OFFSET, "f", 1e30))


@malformed("train", IMAGE, "has a header extension of 2147483632 bytes", ANEW)
def an_extension_of_two_gigabytes(scene: Scene) -> None:
    content = bytearray(gzip.decompress((scene.data / IMAGE).read_bytes()))
    struct.pack_into("<f", content, OFFSET, 368.0)
    content[348:352] = b"\1\0\0\0"
    content[352:352] = struct.pack("<2i8x", 2147483632, 4)
    scene.file(f"data/{IMAGE}", gzip.compress(bytes(content)))


@malformed("train", IMAGE, "has a header extension of 3 bytes", ANEW)
def an_extension_of_three_bytes(scene: Scene) -> None:
    content = bytearray(gzip.decompress((scene.data / IMAGE).read_bytes()))
    struct.pack_into("<f", content, OFFSET, 368.0)
    content[348:352] = b"\1\0\0\0"
    content[352:352] = struct.pack("<2i8x", 3, 4)
    scene.file(f"data/{IMAGE}", gzip.compress(bytes(content)))


@malformed("train", IMAGE, "scl_slope 2 with scl_inter nan", ANEW)
def slope_without_intercept(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (SLOPE, "2f", (2.0, float("nan"))))


@malformed("train", "case_00.nii", "claims 10 x 12 x 8 x 9223372036854775807 voxels", "over the limit")
def nifti_2_that_claims_too_much(scene: Scene) -> None:
    content = bytearray(nib.Nifti2Image(scene.voxels(f"data/{IMAGE}"), AFFINE).to_bytes())
    struct.pack_into("<q", content, 16 + 8 * 4, 2**63 - 1)
    scene.file("data/imagesTr/case_00.nii", bytes(content))
    (scene.data / IMAGE).unlink()
    scene.json("data/dataset.json", lambda d: d["training"][0].update(image="imagesTr/case_00.nii"))


@legal()
def big_endian(scene: Scene) -> None:
    for name in (f"data/{IMAGE}", f"data/{LABEL}"):
        image = nib.Nifti1Image(scene.voxels(name), AFFINE, nib.Nifti1Header(endianness=">"))
        scene.file(name, gzip.compress(image.to_bytes()))


@legal()
def nifti_2(scene: Scene) -> None:
    for name in (f"data/{IMAGE}", f"data/{LABEL}"):
        scene.file(name, gzip.compress(nib.Nifti2Image(scene.voxels(name), AFFINE).to_bytes()))


@legal()
def a_header_extension(scene: Scene) -> None:
    image = nib.Nifti1Image(scene.voxels(f"data/{IMAGE}"), AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made by hand"))
    scene.file(f"data/{IMAGE}", gzip.compress(image.to_bytes()))


@legal()
def voxels_scaled_by_the_header(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", scene.voxels(f"data/{IMAGE}").astype(np.float32) / 4 - 8)
    scene.patch(f"data/{IMAGE}", (SLOPE, "2f", (4.0, 32.0)))


@legal()
def slope_of_zero_means_not_scaled(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (SLOPE, "2f", (0.0, 5.0)))


@legal()
def slope_that_is_no_number_means_not_scaled(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (SLOPE, "2f", (float("nan"), float("nan"))))


@legal()
def twice_the_bits_in_the_header(scene: Scene) -> None:
    scene.patch(f"data/{LABEL}", (DATATYPE + 2, "h", 64))
