"""A configuration and a plan made to fit the machine, with the line that says what they need."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from frugalseg.config import Config
from frugalseg.data.manifest import Manifest
from frugalseg.errors import UserError
from frugalseg.jobs import build as building
from frugalseg.jobs.footprint import Footprint
from frugalseg.jobs.machine import default_workers, memory_bytes
from frugalseg.jobs.needs import AHEAD
from frugalseg.jobs.needs_text import ROOM, needs_line, require_disk, size
from frugalseg.jobs.pace import step_seconds
from frugalseg.jobs.preflight import Setting, fit, reckon
from frugalseg.jobs.resources import Resources, free_disk, look
from frugalseg.jobs.show import say
from frugalseg.training.plan import Plan


def fitting(
    config: Config, plan: Plan, manifest: Manifest, out: Path, fixed: Collection[str] | None
) -> tuple[Config, Plan]:
    """Return a configuration and a plan that fit this machine, after a line that says what they need.

    Args:
        config: The configuration.
        plan: The plan.
        manifest: Whose channels and labels.
        out: The run's folder, to be.
        fixed: Settings that must stay; None if all must, and the line is all that is wanted.

    Raises:
        UserError: It cannot fit; says what would.
    """
    training = config.training
    workers = default_workers(training.devices) if training.workers is None else training.workers
    processes = training.devices if plan.device == "cpu" else 1
    setting = Setting(
        len(manifest.channels), manifest.scheme, workers, processes, training.devices * training.nodes
    )
    here, free = look(plan.device), free_disk(out)
    if fixed is None:
        need, found = reckon(config, plan, setting)
    else:
        before = plan.reasons
        config, plan, need, found = fit(config, plan, setting, here, fixed)
        require_disk(need, free, out)
        for what, why in plan.reasons.items():
            if before.get(what) != why:
                say(f"{what}: {why}")
    config = with_workers_that_fit(config, workers, training.devices, found, here)
    seconds = None
    if plan.steps == 0:
        seconds = 60 * (training.minutes or training.usual_minutes)
    elif found is not None and plan.device == "cpu":
        seconds = plan.steps * step_seconds(found)
    say(f"train: {needs_line(replace(need, seconds=seconds), here, free, processes)}")
    return config, plan


def with_workers_that_fit(
    config: Config, workers: int, processes: int, step: Footprint | None, here: Resources
) -> Config:
    """Return the configuration with no more loader processes than the shared memory has room for their batches.

    Raises:
        UserError: More were asked for; says how many would do.
    """
    if not workers or step is None or here.shared is None:
        return config
    room = int(ROOM * here.shared / (processes * AHEAD * max(1, step.batch)))
    if workers <= room:
        return config
    short = (
        f"the batches of {workers} loader processes do not fit into {size(here.shared)} of shared memory (/dev/shm)"
    )
    if config.training.workers is not None:
        raise UserError(f"{short}; set it to {room}, or enlarge it (docker: --shm-size)", "training.workers")
    say(f"{short}: {room} are started")
    return config.model_copy(update={"training": config.training.model_copy(update={"workers": room})})


def with_chunks(config: Config, plan: Plan, channels: int) -> tuple[Config, Plan]:
    """Choose how contrastive coding fits the memory that each process has."""
    devices, nodes = config.training.devices, config.training.nodes
    memory = memory_bytes(plan.device)
    if plan.device == "cpu":
        memory //= devices
    return building.with_chunks(config, plan, channels, memory, devices * nodes)
