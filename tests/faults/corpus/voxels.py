"""Voxels that are no grey values or no labels."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np

from tests.faults.corpus.headers import SLOPE
from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import AFFINE, IMAGE, LABEL, UNLABELLED, Scene

NUMBERS = "colours and complex numbers cannot be used; convert it to grey values"
MEND = "mend the image or take the case out"
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RGBA = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")])


def spoil(scene: Scene, name: str, value: float, dtype: type[np.generic] = np.float32) -> None:
    voxels = scene.voxels(f"data/{name}").astype(dtype)
    voxels[5, 5, 5] = value
    scene.nifti(f"data/{name}", voxels)


@malformed("train", IMAGE, "has voxels of type [('R', 'u1'), ('G', 'u1'), ('B', 'u1')], colours and ", NUMBERS)
def colours(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", np.zeros((10, 12, 8), RGB))


@malformed("train", UNLABELLED, "has voxels of type [('R', 'u1'), ('G', 'u1'), ('B', 'u1'), ('A', 'u1')],", NUMBERS)
def colours_with_transparency(scene: Scene) -> None:
    scene.nifti(f"data/{UNLABELLED}", np.zeros((10, 12, 8), RGBA))


@malformed("train", IMAGE, "has voxels of type complex64", NUMBERS)
def complex_numbers(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", np.ones((10, 12, 8, 2), np.complex64))


@malformed("train", UNLABELLED, "has voxels of type complex128", NUMBERS)
def long_complex_numbers(scene: Scene) -> None:
    scene.nifti(f"data/{UNLABELLED}", np.ones((10, 12, 8, 2), np.complex128))


@malformed("train", LABEL, "has voxels of type [('R', 'u1'), ('G', 'u1'), ('B', 'u1')], colours and ", NUMBERS)
def label_of_colours(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", np.zeros((10, 12, 8), RGB))


@malformed("train", IMAGE, "2 of 1920 voxels are NaN or infinite", MEND)
def image_with_nan(scene: Scene) -> None:
    spoil(scene, IMAGE, np.nan)


@malformed("train", UNLABELLED, "2 of 1920 voxels are NaN or infinite", MEND)
def image_with_infinity(scene: Scene) -> None:
    spoil(scene, UNLABELLED, -np.inf)


@malformed("train", "imagesTr/case_01.nii.gz", "2 of 1920 voxels are NaN or infinite", MEND)
def image_with_numbers_too_large(scene: Scene) -> None:
    spoil(scene, "imagesTr/case_01.nii.gz", 1e300, np.float64)


@malformed("train", IMAGE, "1920 of 1920 voxels are NaN or infinite", MEND)
def image_scaled_to_infinity(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (SLOPE, "2f", (3e38, 0.0)))


@malformed("train", IMAGE, "has 3 channels, the data set has 2: T1, T2", "give the image these channels")
def a_channel_too_many(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", np.ones((10, 12, 8, 3), np.float32))


@malformed("train", UNLABELLED, "has 1 channels, the data set has 2: T1, T2", "give the image these channels")
def a_channel_too_few(scene: Scene) -> None:
    scene.nifti(f"data/{UNLABELLED}", np.ones((10, 12, 8), np.float32))


@malformed("train", LABEL, "found 0.5: soft labels cannot be used", "threshold them first")
def soft_label(scene: Scene) -> None:
    spoil(scene, LABEL, 0.5)


@malformed(
    "train",
    LABEL,
    "label values 7 are not in the scheme (0, 1)",
    'add them to "labels" (in dataset.json, or in the JSON beside',
)
def label_outside_the_scheme(scene: Scene) -> None:
    spoil(scene, LABEL, 7, np.uint8)


@malformed(
    "train",
    LABEL,
    "label values -1 are not in the scheme (0, 1)",
    'add them to "labels" (in dataset.json, or in the JSON beside',
)
def negative_label(scene: Scene) -> None:
    spoil(scene, LABEL, -1, np.int16)


@malformed(
    "train",
    LABEL,
    "label values 1e+30 are not in the scheme (0, 1)",
    'add them to "labels" (in dataset.json, or in the JSON beside',
)
def enormous_label(scene: Scene) -> None:
    spoil(scene, LABEL, 1e30, np.float64)


@malformed(
    "train",
    LABEL,
    "label values 1.09951e+12 are not in the scheme (0, 1)",
    'add them to "labels" (in dataset.json, or in the JSON beside',
)
def label_that_would_wrap_around(scene: Scene) -> None:
    image = scene.voxels(f"data/{LABEL}").astype(np.int64)
    image[5, 5, 5] = 2**40 + 1
    scene.file(f"data/{LABEL}", gzip.compress(nib.Nifti1Image(image, AFFINE, dtype=np.int64).to_bytes()))


@malformed("train", LABEL, "1 label voxels are NaN or infinite", "set them to 0")
def label_with_nan(scene: Scene) -> None:
    spoil(scene, LABEL, np.nan)


@malformed("train", "labelsTr/case_01.nii.gz", "1 label voxels are NaN or infinite", "set them to 0")
def label_with_infinity(scene: Scene) -> None:
    spoil(scene, "labelsTr/case_01.nii.gz", np.inf)


@malformed("train", LABEL, "a label map has one channel, this file has 2", "export one map a case")
def label_with_two_channels(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", np.zeros((10, 12, 8, 2), np.uint8))


@malformed("train", IMAGE, "label values must be integers", "threshold them first")
def the_image_given_as_label(scene: Scene) -> None:
    scene.dataset(modality={"0": "T1"})
    one = scene.voxels(f"data/{IMAGE}")[..., 0]
    for index in range(5):
        scene.nifti(f"data/imagesTr/case_{index:02d}.nii.gz", one + index)
    scene.json("data/dataset.json", lambda d: d["training"][0].update(label=IMAGE))


@legal()
def label_of_floats_that_are_integers(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}").astype(np.float32))


@legal()
def label_of_floats_near_integers(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}").astype(np.float64) * 0.9999)


@legal()
def label_of_long_integers(scene: Scene) -> None:
    label = nib.Nifti1Image(scene.voxels(f"data/{LABEL}").astype(np.int64), AFFINE, dtype=np.int64)
    scene.file(f"data/{LABEL}", gzip.compress(label.to_bytes()))


@legal()
def label_scaled_by_the_header(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", (scene.voxels(f"data/{LABEL}") * 2).astype(np.int16))
    scene.patch(f"data/{LABEL}", (SLOPE, "2f", (0.5, 0.0)))


@legal()
def image_of_doubles(scene: Scene) -> None:
    scene.nifti(f"data/{IMAGE}", scene.voxels(f"data/{IMAGE}").astype(np.float64))
