"""Spacings and affines with which no voxel has a place, and images whose labels or channels lie elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.faults.corpus.headers import PIXDIM, UNITS
from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import AFFINE, IMAGE, LABEL, UNLABELLED, Scene

QFORM, SFORM, QUATERN, SROW = 252, 254, 256, 280
NAN, INF = float("nan"), float("inf")
MEND = "correct the header"


def without_forms(scene: Scene, name: str, *pixdim: float) -> None:
    """Leave the spacing as the only thing that the header says of the geometry."""
    scene.patch(f"data/{name}", (QFORM, "2h", (0, 0)), (PIXDIM + 4, "3f", pixdim))


def rows(affine: NDArray[np.float64]) -> tuple[int, str, tuple[float, ...]]:
    return SROW, "12f", tuple(affine[:3].ravel())


@malformed("train", IMAGE, "has spacing 0 x 0.9 x 1.5 mm", MEND)
def zero_spacing(scene: Scene) -> None:
    without_forms(scene, IMAGE, 0.0, 0.9, 1.5)


@malformed("train", IMAGE, "has spacing -1.2 x 0.9 x 1.5 mm", MEND)
def negative_spacing(scene: Scene) -> None:
    without_forms(scene, IMAGE, -1.2, 0.9, 1.5)


@malformed("train", UNLABELLED, "has spacing nan x 0.9 x 1.5 mm", MEND)
def spacing_that_is_no_number(scene: Scene) -> None:
    without_forms(scene, UNLABELLED, NAN, 0.9, 1.5)


@malformed("train", LABEL, "has spacing inf x 0.9 x 1.5 mm", MEND)
def infinite_spacing(scene: Scene) -> None:
    without_forms(scene, LABEL, INF, 0.9, 1.5)


@malformed("train", IMAGE, "has spacing 1.2 x 0 x 1.5 mm", MEND)
def zero_spacing_beside_a_qform(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (QFORM, "2h", (1, 0)), (PIXDIM + 8, "f", 0.0))


@malformed("train", IMAGE, "no usable geometry: the affine is not a 4 x 4 matrix of finite numbers", MEND)
def affine_that_is_no_number(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (SROW, "f", NAN))


@malformed("train", UNLABELLED, "no usable geometry: the affine is not a 4 x 4 matrix of finite numbers", MEND)
def infinite_affine(scene: Scene) -> None:
    scene.patch(f"data/{UNLABELLED}", (SROW + 12, "f", INF))


@malformed("train", IMAGE, "no usable geometry: the affine is singular", MEND)
def affine_of_zeros(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", rows(np.zeros((4, 4))))


@malformed("train", LABEL, "no usable geometry: the affine is singular", MEND)
def affine_with_two_equal_axes(scene: Scene) -> None:
    affine = AFFINE.copy()
    affine[:3, 1] = affine[:3, 0]
    scene.patch(f"data/{LABEL}", rows(affine))


@malformed(
    "train",
    "case_00.nii.gz",
    "has no usable geometry: its axes are not at right angles (14.9 degrees o",
    "resample it to a grid with right angles",
)
def shearing_affine(scene: Scene) -> None:
    affine = AFFINE.copy()
    affine[0, 2] = 0.4
    scene.patch(f"data/{IMAGE}", rows(affine))


@malformed("train", IMAGE, "no usable geometry: ", "quatern")
def quaternion_that_is_no_rotation(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (QFORM, "2h", (1, 0)), (QUATERN, "3f", (2.0, 2.0, 2.0)))


@malformed(
    "train", LABEL, "label and image lie 5 mm apart (origin shifted by 5, 0, 0 mm)", "a label map made on this"
)
def label_5_mm_away(scene: Scene) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += 5
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}"), affine)


@malformed("train", LABEL, "(orientation LAS instead of RAS)", "a label map made on this image")
def label_turned_around(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}"), np.diag([-1, 1, 1, 1]) @ AFFINE)


@malformed(
    "train",
    LABEL,
    "label and image lie 4.087 mm apart (spacing 1 x 1 x 1 mm instead of 1.2 ",
    "a label map made on this image",
)
def label_of_another_spacing(scene: Scene) -> None:
    affine = AFFINE.copy()
    affine[:3, :3] = np.eye(3)
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}"), affine)


@malformed("train", LABEL, "label has shape (10, 12, 7), its image (10, 12, 8)", "a label map made on this image")
def label_of_another_shape(scene: Scene) -> None:
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}")[..., :7])


@malformed("predict", "T2.nii.gz", "lies 5 mm away from T1.nii.gz", "resample the channels to one grid")
def channel_5_mm_away(scene: Scene) -> list[object]:
    affine = AFFINE.copy()
    affine[1, 3] += 5
    return channels(scene, (10, 12, 8), affine)


@malformed(
    "predict", "T2.nii.gz", "has shape (9, 12, 8), T1.nii.gz has (10, 12, 8)", "resample the channels to one"
)
def channel_of_another_shape(scene: Scene) -> list[object]:
    return channels(scene, (9, 12, 8), AFFINE)


def channels(scene: Scene, shape: tuple[int, ...], affine: NDArray[np.float64]) -> list[object]:
    one = scene.nifti("extra/T1.nii.gz", np.ones((10, 12, 8), np.float32))
    two = scene.nifti("extra/T2.nii.gz", np.ones(shape, np.float32), affine)
    return ["--channel", f"T1={one}", "--channel", f"T2={two}"]


@legal()
def label_a_hair_away(scene: Scene) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] += 1e-5
    scene.nifti(f"data/{LABEL}", scene.voxels(f"data/{LABEL}"), affine)


@legal()
def geometry_in_the_qform_alone(scene: Scene) -> None:
    for name in (f"data/{IMAGE}", f"data/{LABEL}"):
        offsets = tuple(AFFINE[:3, 3])
        scene.patch(name, (QFORM, "2h", (1, 0)), (QUATERN, "6f", (0.0, 0.0, 0.0, *offsets)), rows(np.zeros((4, 4))))


@legal()
def spacing_of_zero_that_the_affine_overrules(scene: Scene) -> None:
    scene.patch(f"data/{IMAGE}", (PIXDIM + 4, "3f", (0.0, 0.0, 0.0)))


@legal()
def metres_in_the_header(scene: Scene) -> None:
    affine = np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE
    for name in (f"data/{IMAGE}", f"data/{LABEL}"):
        scene.patch(name, rows(affine), (UNITS, "B", 1))


@legal()
def micrometres_in_the_header(scene: Scene) -> None:
    for name in (f"data/{IMAGE}", f"data/{LABEL}"):
        scene.patch(name, rows(np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE), (UNITS, "B", 3))
