"""dataset.json of either layout, beside a few files of the names that the seeds use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.data.manifest import read_manifest, require_files

DECATHLON = {
    "name": "a",
    "modality": {"0": "T1"},
    "labels": {"0": "background", "1": "a", "2": "b"},
    "training": [{"image": "imagesTr/a.nii", "label": "labelsTr/a.nii"}, "imagesTr/b.nii"],
    "test": ["imagesTs/c.nii"],
}
NNUNET = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "a": 1, "whole": [1, 2]},
    "regions_class_order": [2, 1],
    "numTraining": 1,
    "file_ending": ".nii",
}
MORE = {
    "regions": {"all": [1, 2], "core": [2]},
    "regions_class_order": [1, 2],
    "groups": {"a": "p"},
    "annotated_classes": {"a": ["all"]},
    "validation": ["a"],
    "ignore": 255,
}
WORDS = [
    *DECATHLON,
    *NNUNET,
    *MORE,
    "image",
    "..",
    "null",
    "true",
    "1e400",
    "\\ud800",
    "[[[[",
    "imagesTr/a.nii",
    "-1",
]


def target(data: bytes, folder: Path) -> None:
    """Read the data set."""
    if not (folder / "imagesTr").exists():
        for name in ("imagesTr/a.nii", "imagesTr/b.nii", "labelsTr/a.nii", "imagesTs/c.nii", "labelsTs/c.nii"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(name.encode())
    (folder / "dataset.json").write_bytes(data)
    require_files(read_manifest(folder))


def seeds() -> Iterator[bytes]:
    """Yield sound ones."""
    for content in (DECATHLON, NNUNET, DECATHLON | MORE):
        yield json.dumps(content).encode()
        yield json.dumps(content, indent=1).encode()
    for key, value in MORE.items():
        yield json.dumps(DECATHLON | {key: value}).encode()


if __name__ == "__main__":
    start("dataset", target, seeds(), WORDS)
