"""A volume of 512 x 512 x 300 voxels of 1 x 1 x 5 mm, CT-like, 13 structures: time and peak memory of each command.

`prepare`, `train` (two steps) and `predict` run as a user's would, each in a process of its own, whose peak is the
operating system's (ru_maxrss). The phantom is one labelled and one test case; nothing in it is hard to find. With
--spacing the images are resampled and the predictions brought back. The network is small and windows do not
overlap (--overlap), because time on a CPU grows with both; memory does not depend on the overlap. With --voters as
many labelled cases, whose balls lie elsewhere by up to 1.5 voxels, are registered onto the test case and vote; it
is predicted without them, too.

Command: .venv/bin/python -m benchmarks.large_volume WORK [--spacing 1.5 1.5 5] [--shape 512 512 300] [--voters 3]
Writes benchmarks/results/large_volume/SHAPE[-at-SPACING][-N-voters].json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "large_volume"
SPACING = (1.0, 1.0, 5.0)  # mm
STRUCTURES = 13


def write_phantom(folder: Path, shape: tuple[int, int, int], structures: int, voters: int) -> None:
    """Write bodies of water in air, with balls (in mm) of 20 to 200 HU, in int16: to train on, and one to test."""
    import nibabel as nib

    affine = np.diag([*SPACING, 1.0])
    parts = ["Tr"] * max(1, voters) + ["Ts"]
    for number, part in enumerate(parts):
        generator = np.random.default_rng(0 if voters else number)
        image = np.full(shape, -1000, np.int16)
        label = np.zeros(shape, np.uint8)
        size = np.array(shape) * SPACING
        centres = generator.uniform(0.3, 0.7, (structures, 3)) * size
        radii = generator.uniform(0.04, 0.12, structures) * min(size)
        if voters:
            centres += np.random.default_rng(number).uniform(-1.5, 1.5, centres.shape) * SPACING
        x, y = np.meshgrid(*(np.arange(n) + 0.5 for n in shape[:2]), indexing="ij")
        body = ((x / shape[0] - 0.5) / 0.45) ** 2 + ((y / shape[1] - 0.5) / 0.35) ** 2 <= 1
        for z in range(shape[2]):
            noise = generator.normal(0, 15, shape[:2])
            values = np.where(body, noise, -1000 + noise)
            for index in range(structures):
                a, b, c = centres[index]
                height = (z + 0.5) * SPACING[2] - c
                ball = body & ((x - a) ** 2 + (y - b) ** 2 + height**2 <= radii[index] ** 2)
                values[ball] = 20 + 15 * index + noise[ball]
                label[..., z][ball] = index + 1
            image[..., z] = values
        for kind, array in (("images", image), ("labels", label)):
            (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), folder / f"{kind}{part}" / f"case_{number}.nii.gz")
    names = {"0": "background", **{str(index + 1): f"organ {index + 1}" for index in range(structures)}}
    content = {
        "name": "large",
        "modality": {"0": "CT"},
        "labels": names,
        "training": [
            {"image": f"./imagesTr/case_{number}.nii.gz", "label": f"./labelsTr/case_{number}.nii.gz"}
            for number in range(len(parts) - 1)
        ],
        "test": [f"./imagesTs/case_{len(parts) - 1}.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def measure(*arguments: object) -> dict[str, float]:
    """Run a command of frugalseg; return its wall time and peak memory.

    Raises:
        RuntimeError: It failed.
    """
    begun = time.perf_counter()
    words = [sys.executable, "-m", "frugalseg", *map(str, arguments)]
    child = os.posix_spawn(sys.executable, words, dict(os.environ))
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{' '.join(words)} failed")
    seconds = time.perf_counter() - begun
    return {"seconds": round(seconds, 1), "peak_gib": round(usage.ru_maxrss / 2**20, 2)}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--spacing", type=float, nargs=3)
    parser.add_argument("--crop", type=int, nargs=3, default=(128, 128, 32))
    parser.add_argument("--overlap", type=float, default=0.0)
    parser.add_argument("--structures", type=int, default=STRUCTURES)
    parser.add_argument("--voters", type=int, default=0)
    options = parser.parse_args()
    shape: tuple[int, int, int] = tuple(options.shape)
    name = "x".join(map(str, shape))
    if options.structures != STRUCTURES:
        name += f"-{options.structures + 1}-classes"
    if options.voters:
        name += f"-{options.voters}-voters"
    data, store = options.work / name, options.work / "store"
    if not (data / "dataset.json").exists():
        write_phantom(data, shape, options.structures, options.voters)
    spacing = [] if options.spacing is None else ["--set", f"preprocess.spacing={list(options.spacing)}"]
    if spacing:
        name += "-at-" + "x".join(f"{side:g}" for side in options.spacing)
    run, out = options.work / f"run-{name}", options.work / f"out-{name}"
    sets = [f"crop={list(options.crop)}", "network.width=8", "training.steps=2", "training.workers=0",
            f"inference.overlap={options.overlap}"]  # fmt: skip
    if options.voters:
        sets += ["atlas={}", "atlas.least=0", "inference.registration=0.4"]
    given = [word for setting in sets for word in ("--set", setting)]
    from frugalseg.jobs.machine import describe

    voxels = shape[0] * shape[1] * shape[2]
    result: dict[str, Any] = {
        "shape": list(shape), "spacing_mm": list(SPACING), "target_spacing_mm": options.spacing, "settings": sets,
        "classes": options.structures + 1,
        "image_in_float32_gib": round(voxels * 4 / 2**30, 2),
        "all_classes_in_float32_gib": round(voxels * 4 * (options.structures + 1) / 2**30, 2),
    }  # fmt: skip
    if not spacing:  # the command has the default settings
        result["prepare"] = measure("prepare", data, "--store", store)
    begin = ("train", data, "--method", "encdec", "--out", run, "--store", store)
    result["train" if not spacing else "prepare and train"] = measure(*begin, *given, *spacing)
    result["predict"] = measure("predict", run, data, "--out", out, "--no-flips", "--store", store)
    if options.voters:
        alone = options.work / f"alone-{name}"
        result["predict without votes"] = measure(
            "predict", run, data, "--out", alone, "--no-flips", "--no-register"
        )
    result["machine"] = describe("cpu")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
