"""What is fuzzed: bytes become a file, and the file is read as users' files are."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from frugalseg.config import load_config
from frugalseg.data.manifest import read_manifest
from frugalseg.data.readers import read_header, read_image, read_label
from frugalseg.files import read_json
from frugalseg.training.plan import Plan
from frugalseg.training.seal import verify

Target = Callable[[bytes, Path], object]


def nifti(data: bytes, folder: Path) -> None:
    """A NIfTI file that is not compressed, and the same compressed."""
    for name, content in (("a.nii", data), ("a.nii.gz", gzip.compress(data, 1))):
        path = folder / name
        path.write_bytes(content)
        header = read_header(path)
        if np.prod(header.grid.shape) * header.channels < 2**20:
            read_image(path)
            read_label(path, (0, 1, 2))


def nrrd(data: bytes, folder: Path) -> None:
    path = folder / "a.nrrd"
    path.write_bytes(data)
    header = read_header(path)
    if np.prod(header.grid.shape) * header.channels < 2**20:
        read_image(path)


def any_json(data: bytes, folder: Path) -> None:
    path = folder / "a.json"
    path.write_bytes(data)
    read_json(path)


def any_yaml(data: bytes, folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_bytes(data)
    load_config(path)


def plan(data: bytes, folder: Path) -> None:
    path = folder / "plan.json"
    path.write_bytes(data)
    value = read_json(path)
    if isinstance(value, dict):
        Plan.from_json(value, path)


def manifest(data: bytes, folder: Path) -> None:
    (folder / "imagesTr").mkdir(exist_ok=True)
    (folder / "dataset.json").write_bytes(data)
    read_manifest(folder)


def table(data: bytes, folder: Path) -> None:
    path = folder / "cases.csv"
    path.write_bytes(data)
    read_manifest(path)


def checkpoint(data: bytes, folder: Path) -> None:
    (folder / "state.json").write_bytes(data)
    verify(folder)


def image() -> bytes:
    """A small sound NIfTI file."""
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    return bytes(nib.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes())


def dataset() -> bytes:
    content = {
        "name": "x", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a", "2": "b"},
        "regions": {"all": [1, 2], "b": [2]}, "regions_class_order": [1, 2], "groups": {"c": "p"},
        "validation": ["c"],
        "training": [{"image": "imagesTr/c.nii.gz", "label": "labelsTr/c.nii.gz"}], "test": ["imagesTs/d.nii.gz"],
        "annotated_classes": {"c": ["a"]}, "ignore": 9,
    }  # fmt: skip
    return json.dumps(content).encode()


PLAN = {
    "format_version": 1, "crop": [8, 8, 8], "strides": [[1, 1, 1], [2, 2, 2]], "kernels": [[3, 3, 3], [3, 3, 3]],
    "width": 8,
    "mirror_axes": [0], "device": "cpu", "precision": "fp32", "steps": 3,
    "reasons": {"crop": "set"}, "preparation": None,
}  # fmt: skip
NRRD = b"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 2 2 2\n" + (
    b"space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
    b"space origin: (0,0,0)\n\n" + bytes(16)
)
TABLE = (
    b"case,image:T1,image:T2,label,group,role,annotated\na,a1.nii,a2.nii,l.nii,p,train,x;y\nb,b1.nii,,,q,test,\n"
)
YAML = b"method: mine\ncrop: [8, 8, 8]\ntraining: {steps: 3}\nauxiliary:\n  cpc: {kind: cpc, weight: 0.1}\n"

TARGETS: dict[str, Target] = {
    "nifti": nifti,
    "nrrd": nrrd,
    "json": any_json,
    "yaml": any_yaml,
    "plan": plan,
    "manifest": manifest,
    "table": table,
    "checkpoint": checkpoint,
}
SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "nifti": lambda: [image()],
    "nrrd": lambda: [NRRD],
    "json": lambda: [dataset(), json.dumps(PLAN).encode()],
    "yaml": lambda: [YAML],
    "plan": lambda: [json.dumps(PLAN).encode()],
    "manifest": lambda: [dataset()],
    "table": lambda: [TABLE],
    "checkpoint": lambda: [b'{"format_version": 2, "step": 3, "sha256": {"model.safetensors": "ab"}}'],
}
