"""Tiny data sets in the Decathlon layout, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray


def write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


def write_data_set(folder: Path, labelled: int = 3, unlabelled: int = 2, test: int = 1, **extra: Any) -> Path:
    """Write volumes of 10 x 12 x 8 voxels with a bright box that is the structure."""
    training: list[dict[str, str]] = []
    for index in range(labelled + unlabelled + test):
        generator = np.random.default_rng(index)
        label = np.zeros((10, 12, 8), np.uint8)
        label[3:7, 4 : 6 + index % 3, 2:6] = 1
        image = (generator.normal(100, 5, label.shape) + 60 * label).astype(np.float32)
        part = "Ts" if index >= labelled + unlabelled else "Tr"
        name = f"case_{index:02d}.nii.gz"
        write_nifti(folder / f"images{part}" / name, image)
        if index < labelled or part == "Ts":
            write_nifti(folder / f"labels{part}" / name, label)
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
