"""Tiny data sets in the Decathlon layout, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SHAPE = (10, 12, 8)


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def make_case(index: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return image and label of 10 x 12 x 8 voxels with a bright box of 4 x (2 to 4) x 4 that is the structure."""
    generator = np.random.default_rng(index)
    label = np.zeros(SHAPE, np.uint8)
    shift = index // 3 % 4  # the first dozen labels differ, so that none is taken for a copy of another
    label[3 + shift : 7 + shift, 4 : 6 + index % 3, 2:6] = 1
    image = (generator.normal(100, 5, label.shape) + 60 * label).astype(np.float32)
    return image, label


def write_data_set(
    folder: Path,
    labelled: int = 3,
    unlabelled: int = 2,
    test: int = 1,
    affine: NDArray[np.float64] | None = None,
    **extra: Any,
) -> Path:
    """Write the cases of `make_case`: first labelled ones, then unlabelled ones, then those for testing."""
    training: list[dict[str, str]] = []
    for index in range(labelled + unlabelled + test):
        image, label = make_case(index)
        part = "Ts" if index >= labelled + unlabelled else "Tr"
        name = f"case_{index:02d}.nii.gz"
        write_nifti(folder / f"images{part}" / name, image, affine)
        if index < labelled or part == "Ts":
            write_nifti(folder / f"labels{part}" / name, label, affine)
        if index < labelled:
            training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    tests = [f"./imagesTs/{path.name}" for path in sorted((folder / "imagesTs").glob("*"))]
    content = {
        "name": "tiny",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "box"},
        "training": training,
        "test": tests,
        **extra,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def change(folder: Path, **keys: Any) -> None:
    """Set keys of dataset.json; None takes a key away."""
    content = {**json.loads((folder / "dataset.json").read_text()), **keys}
    content = {key: value for key, value in content.items() if value is not None}
    (folder / "dataset.json").write_text(json.dumps(content))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below `folder`, by its relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
