"""Random crops from prepared cases: ours against MONAI's PersistentDataset and torchio's Queue; and flat memory.

Sixteen phantoms of 4 x 160 x 160 x 128 voxels, crops of 64 cubed centred on foreground half of the time, no other
augmentation, from cases in random order. Each reader at its usual settings: MONAI one crop a loaded case (and
four); torchio eight a case through a queue of 64. First in one process, then with two loader processes. Then ours
alone, from 10, 100 and 1,000 phantoms of 1 x 64 cubed: crops a second and memory.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed.rounds import Contender, alternate
from benchmarks.speed.text import Table

WORK = Path(tempfile.gettempdir()) / "frugalseg-bench-patches"
CASES, SHAPE, CROP, CHANNELS = 16, (160, 160, 128), (64, 64, 64), 4
CROPS = 32  # of a timed run
Run = Callable[[], dict[str, Any]]


def write_cases(folder: Path, cases: int, shape: tuple[int, int, int], channels: int) -> None:
    """Write phantoms as a user has them: a .nii.gz of each case's channels, and one of its label."""
    import nibabel as nib

    from frugalseg.files import write_json

    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    grid = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in shape), indexing="ij")
    distance = np.sqrt(sum(axis**2 for axis in grid))
    entries = []
    for number in range(cases):
        generator = np.random.default_rng(number)
        image = (generator.standard_normal((*shape, channels), dtype=np.float32) * 20 + 200) * (distance < 0.9)[
            ..., None
        ]
        label = (distance < generator.uniform(0.1, 0.3)).astype(np.uint8)
        voxels = image.round().astype(np.int16)
        name = f"case_{number:04d}.nii.gz"
        nib.save(nib.Nifti1Image(voxels if channels > 1 else voxels[..., 0], np.eye(4)), folder / "imagesTr" / name)
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "name": "phantoms", "modality": {str(c): f"MR{c}" for c in range(channels)}, "numTraining": cases,
        "labels": {"0": "background", "1": "ball"}, "training": entries, "test": [],
    }  # fmt: skip
    write_json(folder / "dataset.json", content)


def data(cases: int, shape: tuple[int, int, int], channels: int) -> Path:
    """Return the folder of these phantoms, made unless it is there."""
    folder = WORK / f"{cases}-{channels}x{'x'.join(map(str, shape))}"
    if not (folder / "dataset.json").exists():
        write_cases(folder, cases, shape, channels)
    return folder


def loader(dataset: Any, workers: int, collate: Any = None) -> Any:
    """Return an endless iterator over a DataLoader with batches of 2, as a training step takes."""
    from torch.utils.data import DataLoader

    made = DataLoader(
        dataset,
        batch_size=2,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        shuffle=False,
    )
    while True:
        yield from made


def timed(batches: Any, each: int) -> Run:
    """Return a run that takes CROPS crops from an iterator of batches of `each` crops."""

    def run() -> dict[str, Any]:
        for _ in range(CROPS // each):
            batch = next(batches)
        del batch
        return {}

    return run


def ours(workers: int, cases: int = CASES, shape: tuple[int, int, int] = SHAPE, channels: int = CHANNELS,
         crop: tuple[int, int, int] = CROP, preset: str = "none") -> Run:  # fmt: skip
    """Cut crops from the store, as training does."""
    import torch

    from frugalseg.data.augment import PRESETS
    from frugalseg.data.manifest import read_manifest
    from frugalseg.data.patches import Samples, SamplingSettings
    from frugalseg.data.preprocess import PreprocessSettings
    from frugalseg.jobs.prepare import chosen, prepared
    from frugalseg.training.loader import batches

    folder = data(cases, tuple(shape), channels)
    manifest = read_manifest(folder)
    names = [case.name for case in manifest.training]
    preparation, _ = chosen(manifest, names, PreprocessSettings())
    found = prepared(manifest, names, WORK / "store", preparation)
    sampling = SamplingSettings(labelled=2, unlabelled=0)
    samples = Samples(found, len(found), tuple(crop), 1, 2, sampling, PRESETS[preset], (0,), 0)
    return timed(iter(batches(samples, 0, 10**7, workers, torch.device("cpu"))), 2)


def transforms(channels: int, count: int) -> Any:
    """MONAI's usual chain for cached cases: load, scale, then the random crop."""
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        RandCropByPosNegLabeld,
    )  # fmt: skip

    return Compose([
        LoadImaged(["image", "label"]),
        EnsureChannelFirstd(["image"], channel_dim=-1 if channels > 1 else "no_channel"),
        EnsureChannelFirstd(["label"], channel_dim="no_channel"),
        Orientationd(["image", "label"], "RAS", labels=None),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        RandCropByPosNegLabeld(["image", "label"], "label", CROP, pos=1, neg=1, num_samples=count),
    ])  # fmt: skip


def monai(workers: int, count: int) -> Run:
    """PersistentDataset with its cache on disk, `count` crops of each loaded case."""
    from monai.data import PersistentDataset, list_data_collate

    folder = data(CASES, SHAPE, CHANNELS)
    rows = [
        {"image": str(p), "label": str(folder / "labelsTr" / p.name)}
        for p in sorted((folder / "imagesTr").iterdir())
    ]
    dataset = PersistentDataset(rows, transforms(CHANNELS, count), cache_dir=WORK / "persistent")
    for number in range(len(rows)):
        dataset[number]  # fill the cache
    return timed(loader(dataset, workers, list_data_collate), 2 * count)


def torchio(workers: int) -> Run:
    """A Queue of 64 crops, eight of each subject, half of them centred on the label."""
    import torchio as tio

    folder = data(CASES, SHAPE, CHANNELS)
    subjects = [
        tio.Subject(image=tio.ScalarImage(p), label=tio.LabelMap(folder / "labelsTr" / p.name))
        for p in sorted((folder / "imagesTr").iterdir())
    ]
    dataset = tio.SubjectsDataset(subjects, transform=tio.ZNormalization(masking_method=tio.ZNormalization.mean))
    sampler = tio.LabelSampler(CROP, "label", {0: 1, 1: 1})
    queue = tio.Queue(dataset, max_length=64, samples_per_volume=8, sampler=sampler, num_workers=workers)

    def batches() -> Any:
        made = tio.SubjectsLoader(queue, batch_size=2, num_workers=0)
        while True:
            yield from made

    return timed(batches(), 2)


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    import time

    here = "benchmarks.speed.patches"
    data(CASES, SHAPE, CHANNELS)
    kept: dict[str, Any] = {"against": [], "growth": [], "augmentation": []}
    table = Table("loader processes", "who", "crops a second", "ours over it", "memory of the main process")
    for workers in (0, 2):
        found = alternate(
            [
                Contender("ours", f"{here}:ours", {"workers": workers}),
                Contender("MONAI, 1 crop a case", f"{here}:monai", {"workers": workers, "count": 1}),
                Contender("MONAI, 4 crops a case", f"{here}:monai", {"workers": workers, "count": 4}),
                Contender("torchio", f"{here}:torchio", {"workers": workers}),
            ],
            repeats=4, threads=1,
        )  # fmt: skip
        for item in found.values():
            kept["against"].append({"workers": workers, **item.to_json()})
            table.add(
                workers,
                item.name,
                f"{CROPS / item.median:.1f}",
                f"{item.median / found['ours'].median:.1f}",
                f"{item.peak_bytes / 2**20:.0f} MiB",
            )
    text = table.markdown()
    sizes = {
        name: sum(f.stat().st_size for f in (WORK / name).rglob("*") if f.is_file()) / 2**20
        for name in ("store", "persistent")
    }
    text += f"\nOn disk: our store {sizes['store']:.0f} MiB, MONAI's cache {sizes['persistent']:.0f} MiB.\n"
    kept["disk_mib"] = {name: round(value, 1) for name, value in sizes.items()}

    text += "\n## From more and more cases\n\n"
    growth = Table("cases", "preparing", "cases a second", "crops a second", "memory")
    for cases in (10, 100, 1000):
        data(cases, (64, 64, 64), 1)
        begun = time.perf_counter()
        given = {"workers": 0, "cases": cases, "shape": (64, 64, 64), "channels": 1, "crop": (32, 32, 32)}
        alternate([Contender("ours", f"{here}:ours", given)], repeats=1, threads=1)
        took = time.perf_counter() - begun
        found = alternate([Contender("ours", f"{here}:ours", given)], repeats=40, threads=1)["ours"]
        kept["growth"].append({"cases": cases, "preparing_seconds": round(took, 1), **found.to_json()})
        growth.add(
            cases,
            f"{took:.1f} s",
            f"{cases / took:.1f}",
            f"{CROPS / found.median:.0f}",
            f"{found.peak_bytes / 2**20:.0f} MiB",
        )
    text += growth.markdown()

    text += "\n## Augmentation\n\n"
    cost = Table("crop", "preset", "ms a crop")
    for channels, shape, crop in ((1, (64, 64, 64), (40, 56, 40)), (4, SHAPE, (80, 80, 80))):
        cases = 10 if channels == 1 else CASES
        base = {"workers": 0, "cases": cases, "shape": shape, "channels": channels, "crop": crop}
        found = alternate(
            [Contender(p, f"{here}:ours", {**base, "preset": p}) for p in ("none", "published", "strong")],
            repeats=6,
            threads=1,
        )
        for name, item in found.items():
            kept["augmentation"].append({"crop": crop, "channels": channels, **item.to_json()})
            cost.add(f"{channels} x {'x'.join(map(str, crop))}", name, f"{1000 * item.median / CROPS:.1f}")
    text += cost.markdown()
    shutil.rmtree(WORK)
    return kept, text
