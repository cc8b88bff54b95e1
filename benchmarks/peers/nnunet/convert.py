"""A budget of labels as an nnU-Net raw data set: the labelled cases alone, and the test images. No test label."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from frugalseg.data.budget import Split
from frugalseg.data.manifest import Case, Manifest
from frugalseg.errors import UserError

NUMBER = 701


def convert(manifest: Manifest, split: Split, raw: Path) -> Path:
    """Write the data set below `raw` unless it is there; return its folder.

    Raises:
        UserError: The labels are regions, have an ignored value or gaps, which nnU-Net wants in other forms than
            this writes, or show only some of the structures, which it does not know of.
    """
    scheme = manifest.scheme
    if scheme.regions:
        raise UserError("has regions; this converts exclusive classes only", manifest.source.path)
    by_name = {case.name: case for case in manifest.training}
    if any(by_name[name].annotated is not None for name in split.labelled):
        raise UserError("has labels that show some of the structures, which nnU-Net would learn as background")
    names = [name for name, value in scheme.values if value]
    if scheme.ignore is not None or scheme.predicted != tuple(range(len(names) + 1)):
        raise UserError("has an ignored value, or values with gaps; this converts 0, 1, 2, ... alone")
    folder = raw / f"Dataset{NUMBER}_Budget"
    facts = folder / "dataset.json"
    if facts.exists():
        return folder
    for name in split.labelled:
        case = by_name[name]
        channels(case, folder / "imagesTr")
        label = case.label
        assert label is not None
        copy(label, folder / "labelsTr" / f"{name}.nii.gz")
    for case in manifest.test:
        channels(case, folder / "imagesTs")
    content = {
        "channel_names": {str(number): name for number, name in enumerate(manifest.channels)},
        "labels": {"background": 0, **{name: value for name, value in scheme.values if value}},
        "numTraining": len(split.labelled),
        "file_ending": ".nii.gz",
    }
    facts.write_text(json.dumps(content, indent=1))
    return folder


def channels(case: Case, folder: Path) -> None:
    """Write a case's channels as files of their own, named as nnU-Net wants them."""
    number = 0
    for path in case.images:
        image = nib.Nifti1Image.from_filename(path)
        if len(image.shape) == 3:
            copy(path, folder / f"{case.name}_{number:04d}.nii.gz")
            number += 1
            continue
        for channel in np.moveaxis(np.asarray(image.dataobj), -1, 0):
            target = folder / f"{case.name}_{number:04d}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(channel, image.affine), target)
            number += 1


def copy(source: Path, target: Path) -> None:
    """Write an image or label map again as nibabel reads it, so that its name may end in .gz."""
    target.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image.from_filename(source)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), target)
