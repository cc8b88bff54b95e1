"""A CSV of paths and the JSON beside it, parted by a zero byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.data.manifest import read_manifest, test_labels

JSON = {"labels": {"background": 0, "a": 1}, "name": "x"}
TABLES = (
    "case,image,label,group,role,annotated\na,a.nii,al.nii,p,train,a\nb,b.nii,,q,test,\nc,c.nii,cl.nii,r,validation,a\n",
    "image,label\na.nii,al.nii\nb.nii,\n",
    "case,image:T1,image:T2,label\na,a.nii,b.nii,al.nii\n",
    '"case","image"\n"x ""y""",\'a.nii\'\n',
)
WORDS = [
    '"',
    "\r\n",
    "\ufeff",
    *[
        "case",
        "image",
        "image:",
        "label",
        "group",
        "role",
        "annotated",
        "train",
        "test",
        "validation",
        ";",
        "..",
        "labels",
        "channel_names",
        "groups",
    ],
]


def target(data: bytes, folder: Path) -> None:
    """Read the data set, and the places of its test labels."""
    table, zero, content = data.partition(b"\0")
    (folder / "data.csv").write_bytes(table)
    (folder / "data.json").unlink(missing_ok=True)
    if zero:
        (folder / "data.json").write_bytes(content)
    read_manifest(folder / "data.csv")
    test_labels(folder / "data.csv")


def seeds() -> Iterator[bytes]:
    """Yield sound ones."""
    for table in TABLES:
        yield table.encode()
        yield table.encode() + b"\0" + json.dumps(JSON).encode()


if __name__ == "__main__":
    start("table", target, seeds(), WORDS)
