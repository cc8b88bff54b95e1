"""A run decided in full and not begun: to time its steps before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.config import Config, load_config
from frugalseg.data.budget import make_split, without_labels
from frugalseg.data.deform import Deformation
from frugalseg.data.manifest import read_manifest
from frugalseg.data.store import Entry, StoredCase, default_store
from frugalseg.data.warp import THIN
from frugalseg.files import hash_value
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
        config, cases = without_registering(config, cases, len(split.labelled), store or default_store())
    config, plan = first_plan(config, manifest, cases, split)
    plan = replace(plan, preparation=preparation, reasons={**reasons, **plan.reasons})
    return Run(Path(), config, plan, manifest, split, cases)


def without_registering(
    config: Config, cases: Sequence[StoredCase], labelled: int, root: Path
) -> tuple[Config, list[StoredCase]]:
    """Return what takes as long a step as with registrations, which a look at the clock is not worth.

    A teacher takes as long whoever taught it first. A crop is deformed as fast by a displacement of nothing.
    """
    plain, deform = config.without_atlas(), config.augment.deform
    if not deform:
        return plain, list(cases)
    assert config.atlas is not None
    known = min(labelled, config.atlas.most)
    augment = plain.augment.model_copy(update={"deform": deform})
    still = [replace(case, deformations=(_nothing(case, root),)) for case in cases[:known]]
    return plain.model_copy(update={"augment": augment}), [*still, *cases[known:]]


def _nothing(case: StoredCase, root: Path) -> Deformation:
    """Return the deformation of a case that leaves it as it is, which is kept in the store."""
    entry = Entry(root, "nothing", hash_value({"sides": case.shape, "thin": THIN}))
    if entry.read() is None:
        entry.write({"field": np.zeros((3, *(-(-side // THIN) for side in case.shape)), np.float16)}, {})
    return Deformation(entry.array("field"), case.shape, case.spacing)
