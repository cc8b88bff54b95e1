"""The hippocampus data as choices may see it: 40 training cases play the test set, the real one is absent.

Every choice that needs labels beyond a run's budget (recipes, weights, settings) is scored on the cases of
dev_cases.json, never on the 40 test cases. In the data set made here those 40 are the test cases, so that the test
lock keeps them out of every run's training and budget, and the real test cases are not there at all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def development_view(source: Path, folder: Path) -> Path:
    """Make the data set, of symbolic links, unless it is there; return its folder.

    Args:
        source: Task04_Hippocampus with its dev_cases.json.
        folder: A folder for the data set.
    """
    if (folder / "dataset.json").exists():
        return folder
    dev = set(json.loads((source / "dev_cases.json").read_text())["dev"])
    facts: dict[str, Any] = json.loads((source / "dataset.json").read_text())
    training, test = [], []
    for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for entry in facts["training"]:
        file = Path(entry["image"]).name
        held = file.removesuffix(".nii.gz") in dev
        part = "Ts" if held else "Tr"
        for kind in ("image", "label"):
            (folder / f"{kind}s{part}" / file).symlink_to((source / entry[kind]).resolve())
        if held:
            test.append(f"./imagesTs/{file}")
        else:
            training.append({kind: f"./{kind}sTr/{file}" for kind in ("image", "label")})
    if len(test) != len(dev):
        raise SystemExit(f"{source}: {len(dev) - len(test)} of the cases in dev_cases.json are not training cases")
    facts |= {"training": training, "test": test, "numTraining": len(training), "numTest": len(test)}
    facts["name"] = f"{facts['name']}, development"
    (folder / "dataset.json").write_text(json.dumps(facts, indent=1) + "\n")
    return folder
