"""What a training would do, said without doing it: `frugalseg train --dry-run`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from frugalseg.config import Config
from frugalseg.data.budget import Split, without_labels
from frugalseg.data.manifest import Manifest
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import default_store
from frugalseg.jobs.first_plan import first_plan, order
from frugalseg.jobs.fitting import fitting
from frugalseg.jobs.initial import Initial
from frugalseg.jobs.prepare import cases_from_headers, chosen, workers_that_fit
from frugalseg.jobs.run import TrainResult
from frugalseg.jobs.show import say
from frugalseg.jobs.teachers import registering_line
from frugalseg.training.launch import make_fabric
from frugalseg.training.plan import Plan


def rehearse(
    config: Config,
    plan: Plan | None,
    manifest: Manifest,
    split: Split,
    fixed: Collection[str] | None,
    out: Path,
    store: Path | None,
    initial: Initial | None = None,
    known: tuple[Preparation, dict[str, str]] | None = None,
) -> TrainResult:
    """Say the plan of a run, with its reasons, and what preparing and training need; nothing is written."""
    make_fabric("cpu", "fp32")  # as a run does, before it looks at what memory is left
    if plan is None:
        preparation, reasons = known or chosen(manifest, split.readable, config.preprocess)
        cases = order(cases_from_headers(manifest, preparation), split)
        workers_that_fit(manifest.training, store or default_store(), None)
        config, plan = first_plan(config, manifest, cases, split, initial)
        plan = replace(plan, preparation=preparation, reasons={**reasons, **plan.reasons})
    config, plan = fitting(config, plan, manifest, out, fixed)
    for what, why in plan.reasons.items():
        say(f"{what}: {why}")
    if config.atlas is None and config.pretrain is None:
        return TrainResult(out, 0, plan.steps, None)
    on_grids = cases_from_headers(manifest, plan.preparation or Preparation())
    if (line := registering_line(config, manifest, split, on_grids)) is not None:
        say(line)
    if config.pretrain is not None and initial is None:
        say(f"before it: {config.pretrain.steps} steps of pre-training ({', '.join(config.pretrain.auxiliary)})")
        first, seen = config.of_pretraining(), without_labels(manifest, (*split.held_out, *split.validation))
        fitting(*first_plan(first, manifest, order(on_grids, seen), seen), manifest, out, None)
    return TrainResult(out, 0, plan.steps, None)
