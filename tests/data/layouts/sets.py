"""Tiny data sets in layouts other than the Decathlon's, of the cases of `make_case`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.data.datasets import make_case, write_nifti


def write_any(path: Path, array: NDArray[Any]) -> Path:
    """Write (x, y, z) in the type that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        write_nifti(path, array)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), str(path), useCompression=True)
    return path


def write_raw(
    folder: Path, labelled: int = 3, unlabelled: int = 1, test: int = 1, ending: str = ".nrrd", **extra: Any
) -> Path:
    """Write nnU-Net's layout with two channels, the second being the first one's negative."""
    for index in range(labelled + unlabelled + test):
        image, label = make_case(index)
        part = "Ts" if index >= labelled + unlabelled else "Tr"
        for channel, sign in enumerate((1, -1)):
            write_any(folder / f"images{part}" / f"case_{index:02d}_{channel:04d}{ending}", sign * image)
        if index < labelled or part == "Ts":
            write_any(folder / f"labels{part}" / f"case_{index:02d}{ending}", label)
    content = {
        "channel_names": {"0": "T1w", "1": "FLAIR"},
        "labels": {"background": 0, "box": 1},
        "file_ending": ending,
        "numTraining": labelled,
        **extra,
    }
    (folder / "dataset.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


def write_table(folder: Path, *rows: str, describe: dict[str, Any] | None = None) -> Path:
    """Write a CSV, and the JSON beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if describe is not None:
        (folder / "cases.json").write_text(json.dumps(describe))
    return folder / "cases.csv"
