"""A run decided in full and not begun: to time its steps before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frugalseg.config import load_config
from frugalseg.data.budget import make_split, without_labels
from frugalseg.data.manifest import read_manifest
from frugalseg.jobs.first_plan import first_plan, order, without_what_is_not_there
from frugalseg.jobs.prepare import chosen, prepared
from frugalseg.jobs.run import Run
from frugalseg.jobs.teacher_runs import require_taught_by_nobody


def undertaken(
    data: Path,
    recipe: str | Path,
    labels: int,
    seed: int,
    overrides: Sequence[str],
    store: Path | None,
    pretraining: bool = False,
) -> Run:
    """Return the run that `train` would begin, or its pre-training. It has no folder, and must not be trained."""
    config = load_config(recipe, [*overrides, f"training.seed={seed}"])
    require_taught_by_nobody(config)
    manifest = read_manifest(data)
    split = make_split(manifest, labels, seed)
    preparation, reasons = chosen(manifest, split.readable, config.preprocess)
    if pretraining:
        config, split = config.of_pretraining(), without_labels(manifest)
    config = without_what_is_not_there(config, split)
    cases = order(prepared(manifest, split.readable, store, preparation), split)
    if config.atlas is not None:
        config = config.without_atlas()  # registered for a look at the clock? A teacher takes as long a step
    config, plan = first_plan(config, manifest, cases, split)
    plan = replace(plan, preparation=preparation, reasons={**reasons, **plan.reasons})
    return Run(Path(), config, plan, manifest, split, cases)
