"""What is given to predict, and what evaluate finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.faults.corpus.headers import PIXDIM
from tests.faults.corpus.registry import legal, malformed
from tests.faults.corpus.scene import AFFINE, TEST, Scene, remove

ONE = "predictions/case_05.nii.gz"
RECORD = "predictions.json"
SHAPE = (10, 12, 8)


def given(scene: Scene, **images: Any) -> list[object]:
    """Write images of those names and give their folder to predict."""
    scene.extra.mkdir(exist_ok=True)
    for name, voxels in images.items():
        scene.nifti(f"extra/{name}.nii.gz", voxels)
    return [scene.extra]


def grey(channels: int = 2) -> Any:
    return np.random.default_rng(0).normal(100, 5, (*SHAPE, channels)).astype(np.float32)


@malformed("predict", "nothing.nii.gz", "does not exist", "give")
def missing_input(scene: Scene) -> list[object]:
    return [scene.extra / "nothing.nii.gz"]


@malformed("predict", "notes.txt", "is no image of a known type (.nii.gz, .nii, .nrrd, .mha)", "export it as one")
def text_to_predict(scene: Scene) -> list[object]:
    return [scene.file("extra/notes.txt", "x")]


@malformed("predict", "extra", "holds no image (.nii.gz, .nii, .nrrd, .mha)", "export")
def folder_without_images(scene: Scene) -> list[object]:
    scene.file("extra/notes.txt", "x")
    return [scene.extra]


@malformed("predict", "PATHS", "nothing to predict", "give files, folders")
def nothing_to_predict(scene: Scene) -> list[object]:
    return []


@malformed("predict", "b.nii.gz", "its voxels cannot be read, it is damaged or cut short", "copy the file anew")
def damaged_image_behind_a_sound_one(scene: Scene) -> list[object]:
    paths = given(scene, a=grey(), b=grey())
    scene.file("extra/b.nii.gz", (scene.extra / "b.nii.gz").read_bytes()[:3000])
    return paths


@malformed("predict", "b.nii.gz", "1 of 1920 voxels are NaN or infinite", "mend the image")
def nan_behind_a_sound_image(scene: Scene) -> list[object]:
    bad = grey()
    bad[1, 2, 3, 1] = np.nan
    return given(scene, a=grey(), b=bad)


@malformed("predict", "a.nii.gz", "has 3 channels, the model needs 2: T1, T2", "give the image these channels")
def three_channels_to_predict(scene: Scene) -> list[object]:
    return given(scene, a=grey(3))


@malformed("predict", "a.nii.gz", "has spacing 0 x 1 x 1 mm", "correct the header")
def zero_spacing_to_predict(scene: Scene) -> list[object]:
    paths = given(scene, a=grey())
    scene.patch("extra/a.nii.gz", (252, "2h", (0, 0)), (PIXDIM + 4, "3f", (0.0, 1.0, 1.0)))
    return paths


@malformed("predict", "extra", "channel T2 (a_0001) is missing", "put it there, or take the case out")
def channel_file_missing(scene: Scene) -> list[object]:
    return given(scene, a_0000=grey()[..., 0])


@malformed("predict", "a_0001.nii.gz", "has 2 channels; one file a channel was expected", "split it")
def channel_file_of_two_channels(scene: Scene) -> list[object]:
    return given(scene, a_0000=grey()[..., 0], a_0001=grey())


@malformed("predict", "a.nii.gz", "is case 'a', and so is a.nii", "name the one to take")
def input_compressed_and_not(scene: Scene) -> list[object]:
    paths = given(scene, a=grey())
    scene.nifti("extra/a.nii", grey())
    return paths


@malformed("predict", "PATHS", "cases 'A' and 'a' differ only in capitals", "rename one")
def inputs_that_differ_in_capitals(scene: Scene) -> list[object]:
    return given(scene, A=grey(), a=grey())


@malformed("predict", "extra/caf\\udce9.nii.gz", "its name is not UTF-8", "rename it")
def input_of_another_character_set(scene: Scene) -> list[object]:
    paths = given(scene, a=grey())
    shutil.copyfile(scene.extra / "a.nii.gz", os.fsencode(scene.extra) + b"/caf\xe9.nii.gz")
    return paths


@malformed("predict", "b.nii.gz", "is a pipe, a file was expected", "take it out")
def pipe_to_predict(scene: Scene) -> list[object]:
    paths = given(scene, a=grey())
    os.mkfifo(scene.extra / "b.nii.gz")
    return paths


@malformed("predict", "--channel", "the model has no channel 'T3'", "It has: T1, T2")
def unknown_channel(scene: Scene) -> list[object]:
    path = scene.nifti("extra/a.nii.gz", grey(1))
    return ["--channel", f"T1={path}", "--channel", f"T3={path}"]


@malformed("predict", "--channel", "'T1' is not of the form NAME=FILE", "e.g. FLAIR=scan.nii.gz")
def channel_without_a_file(scene: Scene) -> list[object]:
    return ["--channel", "T1"]


@malformed("predict", "--case", "'../a' cannot name a file in --out", "take a plain name")
def case_one_folder_up(scene: Scene) -> list[object]:
    one, two = (scene.nifti(f"extra/{name}.nii.gz", grey(1)) for name in "ab")
    return ["--channel", f"T1={one}", "--channel", f"T2={two}", "--case", "../a"]


@malformed(
    "predict",
    "--case",
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "take a plain name",
)
def case_name_of_300_letters(scene: Scene) -> list[object]:
    one, two = (scene.nifti(f"extra/{name}.nii.gz", grey(1)) for name in "ab")
    return ["--channel", f"T1={one}", "--channel", f"T2={two}", "--case", "x" * 300]


def wrong(name: str, where: str, found: str, todo: str, change: Callable[[Scene], Any], *more: str) -> None:
    """Register predictions, or a truth, changed so."""

    def apply(scene: Scene) -> Sequence[object]:
        change(scene)
        return more

    apply.__name__, apply.__module__ = name, __name__
    malformed("evaluate", where, found, todo)(apply)


def evaluated(scene: Scene, **changes: Any) -> None:
    scene.json(f"predictions/{RECORD}", lambda facts: facts.update(changes))


def label(value: float, dtype: type[np.generic] = np.uint8) -> Any:
    voxels = np.zeros(SHAPE, dtype)
    voxels[2, 2, 2] = value
    return voxels


def moved(scene: Scene) -> None:
    affine = AFFINE.copy()
    affine[2, 3] -= 5
    scene.nifti(ONE, label(1), affine)


wrong(
    "prediction_of_another_shape",
    ONE,
    "has shape (10, 12, 7), its truth (10, 12, 8)",
    "resample",
    lambda s: s.nifti(ONE, label(1)[..., :7]),
)
wrong(
    "prediction_5_mm_away", ONE, "lies 5 mm away from its truth (origin shifted by 0, 0, -5 mm)", "resample", moved
)
wrong(
    "prediction_outside_the_scheme",
    ONE,
    "label values 9 are not in the scheme (0, 1)",
    'add them to "labels" (in dataset.json, or in the JSON beside',
    lambda s: s.nifti(ONE, label(9)),
)
wrong(
    "prediction_with_nan",
    ONE,
    "1 label voxels are NaN or infinite",
    "set them to 0",
    lambda s: s.nifti(ONE, label(np.nan, np.float32)),
)
wrong(
    "prediction_of_probabilities",
    ONE,
    "label values must be integers, found 0.25",
    "threshold",
    lambda s: s.nifti(ONE, label(0.25, np.float32)),
)
wrong(
    "prediction_cut_short",
    ONE,
    "its voxels cannot be read, it is damaged or cut short",
    "copy the file",
    lambda s: s.file(ONE, (s.folder / ONE).read_bytes()[:-9]),
)
wrong(
    "no_prediction",
    "predictions",
    "holds no prediction of any of the 1 truth cases",
    "name",
    lambda s: remove(s.folder / ONE),
)
wrong(
    "predictions_that_are_a_file",
    "predictions",
    "is not a folder of predictions",
    "give",
    lambda s: (shutil.rmtree(s.predictions), s.file("predictions", "x")),
)
wrong(
    "no_truth",
    "data",
    "has no label maps of test cases",
    "put some there, or give another folder",
    lambda s: shutil.rmtree(s.data / "labelsTs"),
)
wrong(
    "truth_of_no_label",
    "data",
    "has no label maps of test cases (.nii.gz",
    "put some there, or give another folder",
    lambda s: remove(s.data / "labelsTs/case_05.nii.gz"),
)
wrong(
    "truth_with_nan",
    "labelsTs/case_05.nii.gz",
    "1 label voxels are NaN or infinite",
    "set them",
    lambda s: s.nifti("data/labelsTs/case_05.nii.gz", label(np.nan, np.float32)),
)
wrong(
    "record_that_is_a_list",
    RECORD,
    "holds a JSON list",
    "an object was expected",
    lambda s: s.file(f"predictions/{RECORD}", "[]"),
)
wrong(
    "predictions_of_a_newer_format",
    RECORD,
    "has format 50",
    "update frugalseg",
    lambda s: evaluated(s, format_version=50),
)
wrong(
    "predictions_with_cases_in_a_list",
    RECORD,
    "does not describe predictions (dictionary update sequence element #0 has",
    "was it changed, or written by another version of frugalseg?",
    lambda s: evaluated(s, cases=["a"]),
)
wrong(
    "predictions_with_a_case_of_numbers",
    RECORD,
    "does not describe predictions (cases",
    "files",
    lambda s: evaluated(s, cases={"case_05": 5}),
)
wrong(
    "predictions_of_a_run_of_numbers",
    RECORD,
    "does not describe predictions (run",
    "text",
    lambda s: evaluated(s, run=[5]),
)
wrong(
    "truth_without_a_scheme",
    "data",
    "has no label maps of test cases (.nii.gz, .nii, .nrrd, .mha",
    "put some there, or give another folder",
    lambda s: (evaluated(s, scheme={}), remove(s.data / "dataset.json")),
)
wrong(
    "out_that_holds_something",
    "out",
    "exists and is not empty",
    "choose another --out",
    lambda s: s.file("out/precious.txt", "x"),
)


@malformed("evaluate", "data", "has no label of case 'case_99'", "correct")
def unknown_case_to_evaluate(scene: Scene) -> list[object]:
    return ["--cases", scene.file("extra/names.txt", "case_99\n")]


@legal("predict-test")
def test_image_big_endian(scene: Scene) -> None:
    import nibabel as nib

    image = nib.Nifti1Image(scene.voxels(f"data/{TEST}"), AFFINE, nib.Nifti1Header(endianness=">"))
    (scene.data / TEST).unlink()
    nib.save(image, scene.data / TEST)
