"""A run decided in full and not begun: to time its steps before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frugalseg.config import load_config
from frugalseg.data.budget import make_split
from frugalseg.data.manifest import read_manifest
from frugalseg.jobs.prepare import chosen, prepared
from frugalseg.jobs.run import Run
from frugalseg.jobs.train import first_plan, order


def undertaken(
    data: Path, recipe: str | Path, labels: int, seed: int, overrides: Sequence[str], store: Path | None
) -> Run:
    """Return the run that `train` would begin. It has no folder, and must not be trained."""
    config = load_config(recipe, [*overrides, f"training.seed={seed}"])
    manifest = read_manifest(data)
    split = make_split(manifest, labels, seed)
    preparation, reasons = chosen(manifest, split.readable, config.preprocess)
    cases = order(prepared(manifest, split.readable, store, preparation), split)
    config, plan = first_plan(config, manifest, cases, split)
    plan = replace(plan, preparation=preparation, reasons={**reasons, **plan.reasons})
    return Run(Path(), config, plan, manifest, split, cases)
