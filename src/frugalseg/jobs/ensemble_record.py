"""What `train --folds` found out about its models, in OUT/ensemble.json. Imports no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg.files import read_json_object
from frugalseg.formats import describing, require_seal, require_version
from frugalseg.jobs.info import info

ENSEMBLE = "ensemble.json"
FORMAT_VERSION = 1


def read_ensemble(folder: Path) -> dict[str, Any]:
    """Return what ensemble.json holds.

    Raises:
        DataError: It is malformed, of a newer format, or not what was written.
    """
    path = folder / ENSEMBLE
    facts = read_json_object(path)
    require_version(facts, FORMAT_VERSION, path)
    facts = dict(require_seal(facts, path))
    with describing("an ensemble", path):
        for key in ("members", "largest"):
            if not all(isinstance(name, str) for name in facts[key]):
                raise TypeError(f"{key}: names were expected")
        if not facts["members"] or any(Path(name).name != name or name == ".." for name in facts["members"]):
            raise ValueError("members: names of folders beside this file were expected")
        facts["temperature"] = float(facts["temperature"])
        if not 0 < facts["temperature"] < 1000:
            raise ValueError("temperature: a number above 0 was expected")
    return facts


def damaged_folds(folder: Path) -> list[str]:
    """Check every file of every fold against its hash; return a line for each that is not as it was written.

    Raises:
        UserError: A fold is missing.
        DataError: As `read_ensemble`.
    """
    found = []
    for name in read_ensemble(folder)["members"]:
        checks = info(folder / name, verify_files=True).checks or {}
        found += [f"{name}/{file}: {what}" for file, what in checks.items() if what != "ok"]
    return found


def render_folds(folder: Path) -> str:
    """Return what a folder of folds is, for people.

    Raises:
        UserError: A fold is missing.
        DataError: As `read_ensemble`, or a fold's files are damaged.
    """
    facts = read_ensemble(folder)
    runs = [(name, info(folder / name)) for name in facts["members"]]
    scores = dict(facts.get("out_of_fold") or {})
    lines = [f"folds       {len(runs)} models, averaged by `frugalseg predict {folder}`"]
    if scores:
        spread = scores.get("interval")
        interval = (
            f" (95 % interval {spread['low']:.3f} to {spread['high']:.3f}, {spread['how']})" if spread else ""
        )
        lines.append(f"out of fold Dice {scores['dice']:.3f}{interval}")
        if errors := scores.get("calibration_error"):
            lines.append(f"calibration error {errors[0]:.3f}, {errors[1]:.3f} with the other folds' temperature")
    lines.append(f"temperature {facts['temperature']:.2f}")
    lines.append(f"largest     {', '.join(facts['largest']) or 'no structure'}: only the largest part is kept")
    for name, run in runs:
        lines.append(
            f"{name:<11} {run.method}, {run.state}, step {run.step} of {run.steps}, {run.labels_read} labels"
        )
    return "\n".join(lines)
