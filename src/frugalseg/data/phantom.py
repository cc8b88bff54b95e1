"""A made-up brain tumour data set: for the demo, for tests, and to try a method before the real images are there.

Four contrasts (FLAIR, T1w, T1gd, T2w) of one head, cut to the brain, with nested lesions labelled as in Task 1
of the Medical Segmentation Decathlon. No contrast shows the lesions alone: fluid is bright in T2w, old scars
are bright in FLAIR, grey matter is as dark as edema in T1w, vessels shine in T1gd. What tells a lesion is the
combination, whereas its brightness differs from case to case. `data.threshold` says how far brightness gets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.data.phantom_anatomy import (
    CSF,
    ENHANCEMENT,
    GREY,
    Anatomy,
    Distractors,
    draw_anatomy,
    draw_distractors,
    draw_lesions,
    smooth_field,
)
from frugalseg.errors import UserError
from frugalseg.files import write_atomic, write_json
from frugalseg.geometry import Grid, Reorder

CHANNELS = ("FLAIR", "T1w", "T1gd", "T2w")
LABELS = ("background", "edema", "non-enhancing tumour", "enhancing tumour")
REGIONS = {"whole_tumour": [1, 2, 3], "tumour_core": [2, 3], "enhancing": [3]}
SMALLEST_SIDE = 24

# Brightness of CSF, grey, white; edema, non-enhancing, enhancing; one column a channel, white in T1w = 0.75.
_TISSUES = np.array([[0.18, 0.22, 0.23, 1.00], [0.60, 0.52, 0.54, 0.60], [0.50, 0.75, 0.77, 0.45]])
_LESIONS = np.array([[0.86, 0.47, 0.49, 0.82], [0.62, 0.33, 0.37, 0.92], [0.78, 0.50, 1.10, 0.74]])
_FLIPS = ((), (0,), (0, 1), (1, 2))  # RAS, LAS, LPS, RPI


class PhantomCase(NamedTuple):
    """One head: `image` (4, x, y, z) in whole numbers, 0 outside the brain, and `label` (x, y, z), 0 to 3."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]


def make_case(seed: int, index: int, shape: tuple[int, int, int] = (64, 64, 48)) -> PhantomCase:
    """Draw case `index` of the data set `seed`; the arguments decide on everything, no state is kept.

    Args:
        seed: Number of the data set, 0 or more.
        index: Number of the case within it, 0 or more.
        shape: Voxels to the right, to the front and upwards; at least 24 each.

    Raises:
        UserError: A number is negative or too large, or a side too short.
    """
    if not (0 <= seed < 2**63 and 0 <= index < 2**63):
        raise UserError(f"a phantom needs a seed and an index from 0 to 2**63 - 1, not {seed} and {index}")
    if len(shape) != 3 or min(shape) < SMALLEST_SIDE:
        raise UserError(f"a phantom needs three sides of {SMALLEST_SIDE} voxels or more, not {tuple(shape)}")
    rng = _generator(seed, index)
    anatomy = draw_anatomy(rng, shape)
    label = draw_lesions(rng, anatomy, _enhancement(seed, index))
    distractors = draw_distractors(rng, anatomy, label)
    return PhantomCase(_scan(rng, anatomy, label, distractors), label)


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))


def _enhancement(seed: int, index: int) -> int:
    """Return the kind of enhancement of a case; any five cases in a row from a multiple of 5 have the same mix."""
    block, place = divmod(index, len(ENHANCEMENT))
    return int(_generator(seed, 2**63 + block).permutation(ENHANCEMENT)[place])


def _scan(
    rng: np.random.Generator, anatomy: Anatomy, label: NDArray[np.uint8], distractors: Distractors
) -> NDArray[np.float32]:
    """Turn the anatomy into four scans (4, x, y, z), each with its own contrast, bias, noise and scale."""
    shape = label.shape
    tissues = _TISSUES * np.exp(rng.normal(0.0, 0.07, _TISSUES.shape))
    lesions = _LESIONS * np.exp(rng.normal(0.0, 0.07, _LESIONS.shape))
    strength = rng.uniform(0.75, 1.05)  # how far the lesions stand out from the tissue that they grow in
    scars, caps = rng.uniform(0.95, 1.2), rng.uniform(0.3, 0.9)
    tissue = np.where(distractors.cysts, CSF, np.where(distractors.nodules, GREY, anatomy.tissue))
    texture = 0.04 * smooth_field(rng, shape, 16)
    image = np.zeros((len(CHANNELS), *shape), np.float32)
    for channel, name in enumerate(CHANNELS):
        scan = tissues[tissue, channel]
        if name == "FLAIR":
            bright = scars * lesions[0, channel]
            scan += np.maximum(distractors.gliosis, caps * anatomy.caps) * (bright - scan)
        if name == "T1gd":
            scan[distractors.vessels] = lesions[2, channel]
        inside = label > 0
        scan[inside] += strength * (lesions[label[inside] - 1, channel] - scan[inside])
        scan = ndimage.gaussian_filter(scan, rng.uniform(0.5, 0.75))  # the scanner's point spread, in voxels
        scan *= 1.0 + texture + 0.03 * smooth_field(rng, shape, 12)
        scan = np.maximum(scan, 0.0) ** np.exp(rng.normal(0.0, 0.15))
        scan *= np.exp(rng.uniform(0.10, 0.22) * smooth_field(rng, shape, 2))
        noise = rng.uniform(0.03, 0.06) * rng.standard_normal((2, *shape))
        scan = np.hypot(scan + noise[0], noise[1])  # magnitude of a complex signal: Rician
        scale = np.exp(rng.uniform(np.log(150.0), np.log(3000.0)))
        image[channel] = np.where(anatomy.brain, np.clip(np.rint(scale * scan), 1, 32767), 0)
    return image


def write_phantom(
    folder: Path,
    cases: int = 30,
    labelled: int = 6,
    test: int = 8,
    shape: tuple[int, int, int] = (64, 64, 48),
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a data set in the layout of the Medical Segmentation Decathlon, one case in memory at a time.

    The images are 4D (x, y, z, channel) with voxels of 1 mm; their axes run in four different directions, in
    turn. Case numbers 0 to cases - 1 are for training, the first `labelled` of them with a label; then come
    the test cases. `dataset.json` is written last: a folder without it is not complete.

    Args:
        folder: Where to; must not exist, or be empty.
        cases: Number of training images, those without a label included.
        labelled: Number of training images that have a label.
        test: Number of further images with a label in `labelsTs`.
        shape: As for `make_case`.
        seed: As for `make_case`.
        progress: Called with the number of cases written so far, after each.

    Raises:
        UserError: The folder is not empty, or a number does not fit.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("is not an empty folder; name one that is empty or does not exist yet", folder)
    if test < 0 or not 1 <= labelled <= cases:
        raise UserError(
            f"a phantom data set needs 1 <= labelled <= cases and test >= 0, not {labelled=}, {cases=}, {test=}"
        )
    training: list[dict[str, str]] = []
    held_out: list[str] = []
    for index in range(cases + test):
        part = "Tr" if index < cases else "Ts"
        image, label = f"./images{part}/phantom_{index:03d}.nii.gz", f"./labels{part}/phantom_{index:03d}.nii.gz"
        has_label = index < labelled or index >= cases
        _write_case(make_case(seed, index, shape), index, folder / image, folder / label if has_label else None)
        if index >= cases:
            held_out.append(image)
        else:
            training.append({"image": image, "label": label} if has_label else {"image": image})
        if progress is not None:
            progress(index + 1)
    write_json(
        folder / "dataset.json",
        {
            "name": "phantom",
            "description": f"Made-up heads with lesions in four contrasts, seed {seed}",
            "licence": "made-up data: no patient, no restriction",
            "tensorImageSize": "4D",
            "modality": {str(number): name for number, name in enumerate(CHANNELS)},
            "labels": {str(number): name for number, name in enumerate(LABELS)},
            "regions": REGIONS,
            "numTraining": cases,
            "numTest": test,
            "training": training,
            "test": held_out,
        },
    )


def _write_case(case: PhantomCase, index: int, image: Path, label: Path | None) -> None:
    """Write a case with its axes turned as `index` says; every voxel keeps its place in millimetres."""
    shape = case.label.shape
    affine = np.eye(4)
    affine[:3, 3] = [-0.5 * (side - 1) for side in shape]
    turn = Reorder((0, 1, 2), _FLIPS[index % len(_FLIPS)])
    grid = turn.apply_grid(Grid(shape, affine))
    scans = np.moveaxis(turn.apply(case.image), 0, -1).astype(np.int16)
    _write_nifti(image, scans, grid)
    if label is not None:
        _write_nifti(label, turn.apply(case.label), grid)


def _write_nifti(path: Path, array: NDArray[np.int16] | NDArray[np.uint8], grid: Grid) -> None:
    nifti = nib.Nifti1Image(np.ascontiguousarray(array), grid.affine)
    nifti.header.set_xyzt_units("mm")
    write_atomic(path, lambda temporary: nib.save(nifti, temporary))
