"""A scene: a small data set, a run trained on it and its predictions, copied anew for everything that is broken."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from frugalseg.data.store import Entry
from tests.data.datasets import make_case, write_nifti

TINY = ("--set", "crop=[8,8,8]", "--set", "network.width=8", "--set", "training.workers=0",
        "--set", "training.device=cpu", "--set", "training.checkpoint_seconds=0.001")  # fmt: skip
AFFINE = np.array([[1.2, 0, 0, -6], [0, 0.9, 0, 4], [0, 0, 1.5, 7], [0, 0, 0, 1]], np.float64)
IMAGE, LABEL, UNLABELLED, TEST = (
    f"{folder}/case_{index:02d}.nii.gz"
    for folder, index in (("imagesTr", 0), ("labelsTr", 0), ("imagesTr", 3), ("imagesTs", 5))
)


@dataclass(frozen=True)
class Scene:
    """Where everything is. `out` does not exist, `store` is empty, `extra` is a folder for further files."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def extra(self) -> Path:
        return self.folder / "extra"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def file(self, name: str, content: bytes | str) -> Path:
        """Write a file below the scene in place of whatever is there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def json(self, name: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change what a JSON file holds."""
        content = json.loads((self.folder / name).read_text())
        change(content)
        self.file(name, json.dumps(content))

    def dataset(self, **keys: Any) -> None:
        """Set keys of dataset.json; None takes one away."""

        def change(content: dict[str, Any]) -> None:
            content.update(keys)
            for key in [key for key, value in content.items() if value is None]:
                del content[key]

        self.json("data/dataset.json", change)

    def nifti(self, name: str, array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
        """Write an image in place of the file of that name."""
        path = self.folder / name
        path.unlink(missing_ok=True)
        write_nifti(path, array, AFFINE if affine is None else affine)
        return path

    def voxels(self, name: str) -> NDArray[Any]:
        """Return an image's voxels as they are stored."""
        image = nib.load(self.folder / name)
        assert isinstance(image, nib.Nifti1Image)
        return np.asarray(image.dataobj).copy()

    def patch(self, name: str, *fields: tuple[int, str, Any]) -> None:
        """Overwrite header fields (offset, struct format, value or values) of a compressed NIfTI file."""
        content = bytearray(gzip.decompress((self.folder / name).read_bytes()))
        for offset, layout, value in fields:
            values = value if isinstance(value, tuple) else (value,)
            struct.pack_into("<" + layout, content, offset, *values)
        self.file(name, gzip.compress(bytes(content), 1))


def build(folder: Path) -> Scene:
    """Make the clean scene: five training cases of two channels, three of them labelled, a test case, a run."""
    from frugalseg.jobs.predict import predict
    from frugalseg.jobs.train import train

    scene = Scene(folder)
    training: list[dict[str, str]] = []
    for index in range(6):
        image, label = make_case(index)
        part, name = "Ts" if index == 5 else "Tr", f"case_{index:02d}.nii.gz"
        write_nifti(scene.data / f"images{part}" / name, np.stack([image, 300 - image], axis=3), AFFINE)
        if index < 3 or index == 5:
            write_nifti(scene.data / f"labels{part}" / name, label, AFFINE)
        if index < 3:
            training.append({"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"})
    content = {
        "name": "tiny",
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "box"},
        "training": training,
        "test": [TEST],
    }
    (scene.data / "dataset.json").write_text(json.dumps(content))
    overrides = [item for item in TINY if item != "--set"]
    train(scene.data, scene.run, "encdec", overrides=[*overrides, "training.steps=2"], store=folder / "made")
    predict(scene.run, [scene.data], scene.predictions)
    shutil.rmtree(folder / "made")
    return scene


def copy(clean: Scene, folder: Path) -> Scene:
    """Copy the clean scene by hard links: what replaces a file breaks the link, what changes one must not."""
    for part in (clean.data, clean.run, clean.predictions):
        for path in sorted(part.rglob("*")):
            target = folder / path.relative_to(clean.folder)
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, target)
    return Scene(folder)


def arrays(scene: Scene) -> dict[str, NDArray[Any]]:
    """Return what a store holds: arrays by case and kind."""
    import blosc2

    found = {}
    for seal in sorted(scene.store.glob("*.json")):
        case, key, _ = seal.name.rsplit(".", 2)
        facts = Entry(scene.store, case, key).read()
        assert facts is not None
        for kind in facts["sha256"]:
            found[f"{case} {kind}"] = blosc2.open(str(scene.store / f"{case}.{key}.{kind}.b2nd"))[...]
        if "spacing" in facts:
            found[f"{case} spacing"] = np.array(facts["spacing"])
    return found


def tree(folder: Path) -> dict[str, object]:
    """Return everything below a folder: contents of files, targets of links; nothing special is opened."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder)).hex()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            small = path.stat().st_size < 2**24
            found[name] = path.read_bytes() if small else (path.stat().st_size, path.stat().st_mtime_ns)
        else:
            found[name] = path.lstat().st_mode
    return found


def commands(scene: Scene) -> dict[str, list[object]]:
    """Return the command lines by name; what a `Break` returns is appended."""
    new = ["--method", "encdec", "--steps", "1", *TINY]
    place = ["--out", scene.out, "--store", scene.store]
    resume = ["--method", "encdec", "--out", scene.run, "--store", scene.store, "--resume"]
    return {
        "check": ["check", scene.data],
        "prepare": ["prepare", scene.data, "--store", scene.store, "--workers", "1"],
        "train": ["train", "--method", "sscpcseg", scene.data, *place, *new],
        "recipe": ["train", "--method", "sscpcseg", scene.data, *place],
        "resume": ["train", scene.data, *resume, "--set", "training.steps=2", *TINY],
        "predict": ["predict", scene.run, "--out", scene.out],
        "predict-test": ["predict", scene.run, "--out", scene.out, scene.data],
        "evaluate": ["evaluate", scene.predictions, scene.data, "--out", scene.out],
        "info": ["info", scene.run],
    }


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
