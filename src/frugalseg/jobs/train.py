"""Train: a data set, a method and a budget of labels become a run folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from frugalseg.config import Config, load_config
from frugalseg.data.budget import Split, hold_out, make_split, read_names
from frugalseg.data.manifest import DataSource, Manifest, read_manifest, require_files, with_test_images
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import StoredCase, default_store
from frugalseg.errors import UserError
from frugalseg.files import hash_value
from frugalseg.jobs import build as building
from frugalseg.jobs.footprint import Footprint
from frugalseg.jobs.machine import default_workers, memory_bytes
from frugalseg.jobs.needs import AHEAD
from frugalseg.jobs.needs_text import ROOM, needs_line, require_disk, size
from frugalseg.jobs.pace import step_seconds
from frugalseg.jobs.preflight import Setting, fit, reckon, settings_fixed
from frugalseg.jobs.prepare import cases_from_headers, chosen, prepared, workers_that_fit
from frugalseg.jobs.record import (
    has_begun,
    other_conditions,
    read_plan,
    read_record,
    same_data,
    same_run,
    settings_hash,
)
from frugalseg.jobs.resources import Resources, free_disk, look
from frugalseg.jobs.run import Run, TrainResult
from frugalseg.jobs.show import mute, say
from frugalseg.training.determinism import arithmetic
from frugalseg.training.launch import make_fabric
from frugalseg.training.loader import require_enough
from frugalseg.training.lock import NAME as LOCK
from frugalseg.training.lock import FolderLock
from frugalseg.training.plan import Plan, choose_device, choose_precision, make_plan
from frugalseg.training.processes import Processes
from frugalseg.training.settings import DEFAULT_MINUTES

__all__ = ["TrainResult", "train"]


def train(
    data: Path | DataSource,
    out: Path,
    method: str = "sscpcseg",
    labels: int | None = None,
    seed: int = 0,
    label_seed: int | None = None,
    labelled: Path | None = None,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    store: Path | None = None,
    validation: int | str = 0,
    transductive: bool = False,
    dry_run: bool = False,
    held_out: Collection[str] = (),
) -> TrainResult:
    """Train a model.

    Args:
        data: The data set: a folder with dataset.json, a CSV of paths, or a `DataSource` (images and label maps).
        out: The run's folder; must not exist or be empty, unless `resume`.
        method: Name of a shipped recipe.
        labels: How many labels the run may read; by default all of them.
        seed: Seed of weights and samples.
        label_seed: Seed of the choice of labelled cases; by default `seed`.
        labelled: File that names the labelled cases, one a line, instead of a number.
        recipe: A recipe file instead of a shipped one.
        overrides: Settings such as "training.steps=500".
        resume: Go on with the run in `out`; starts it if it has no checkpoint, returns at once if it is finished.
        store: Where prepared cases are kept.
        validation: How many of the budget's labels choose the checkpoint instead of training, or "listed" for the
            cases that dataset.json lists under "validation".
        transductive: Use the test cases' images as further unlabelled ones; recorded, and told in reports.
        dry_run: Only say the plan and what it needs; nothing is written. The sizes are those of the images'
            headers: borders of zeros, which preparing cuts away, are not known before.
        held_out: Cases of the budget that the model is to be scored on: their labels and images are not read.

    With training.devices or training.nodes above 1 this command line is started again for every further process,
    which comes here too and leaves with the same result; only the first one writes and prints.

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: The loss became infinite or not a number.
        ProcessError: Another process of a distributed run is gone.
    """
    config = load_config(recipe or method, [f"training.seed={seed}", *overrides])
    used = out.exists() and (not out.is_dir() or holds_something(out))
    if used and not (resume and out.is_dir()):
        raise UserError("exists and is not empty; choose another --out, or --resume to go on with that run", out)
    begun = used and has_begun(out)
    order_seed = config.training.seed if label_seed is None else label_seed
    manifest, split = budget_of(data, labels, order_seed, labelled, validation, transductive)
    if held_out:
        split = hold_out(manifest, split, held_out)
    facts = read_record(out) if begun else None
    if begun:
        config = same_run(out, config, split)
    plan = read_plan(out) if begun else None
    if plan is not None and plan.device == "cuda" and choose_device("auto")[0] != "cuda":
        raise UserError("the run began on a GPU, and none can be used here; start a new run, or go on there", out)
    training = config.training
    require_enough(config.sampling, training.devices * training.nodes)
    given = None if begun else settings_fixed(config, overrides, recipe is not None)
    if dry_run:
        return rehearse(config, plan, manifest, split, given, out, store)
    device = plan.device if plan else choose_device(training.device)[0]
    precision = plan.precision if plan else choose_precision(training.precision, device)[0]
    fabric = make_fabric(device, precision, training.devices, training.nodes)
    with ExitStack() as held:
        # Further processes start here: until then nothing is written, and nothing is printed but errors.
        processes = held.enter_context(Processes(fabric))
        if not processes.first:
            mute()
        elif used:
            lock(held, out, begun)
        processes.require_same(hash_value([begun, settings_hash(config), split.to_json()]), "the run")
        preparation, reasons = preparation_of(processes, manifest, split, config, plan)
        cases = order(prepared_once(processes, manifest, split, store, preparation), split)
        if part := sum(case.in_part for case in cases):
            say(f"{part} of {len(split.readable)} labels show only a part of the structures (annotated_classes)")
        processes.require_same(hash_value([case.key for case in cases]), "the prepared cases")
        threads = None
        if facts is not None and plan is not None:
            same_data(facts, out, cases)
            threads = int(facts["machine"]["threads"]) if training.deterministic else None
            if (line := other_conditions(facts, config, plan, threads)) is not None:
                say(line)
        else:
            config, plan = first_plan(config, manifest, cases, split)
            plan = replace(plan, preparation=preparation, reasons={**reasons, **plan.reasons})
        # A run that goes on keeps its plan; where memory has become short, the loop makes chunks smaller.
        if processes.first:
            config, plan = fitting(config, plan, manifest, out, given)
        # Chosen from the first process's machine, should the machines differ.
        told = processes.tell([config.model_dump(mode="json"), plan.to_json()])
        config, plan = Config.model_validate(told[0]), Plan.from_json(told[1])
        held.enter_context(arithmetic(training.deterministic, plan.device, threads))
        run = Run(out, config, plan, manifest, split, cases, processes)
        if not begun:
            if plan.steps == 0:
                run = Run(out, config, run.with_length(), manifest, split, cases, processes)
            if processes.first:
                if not used:
                    lock(held, out, begun)
                run.record()
        processes.wait()
        return run.fit()


def budget_of(
    data: Path | DataSource,
    labels: int | None,
    seed: int,
    labelled: Path | None,
    validation: int | str = 0,
    transductive: bool = False,
) -> tuple[Manifest, Split]:
    """Return the data set and whose labels may be read; the arguments are those of `train`.

    Raises:
        UserError: The budget cannot be had.
        DataError: A file is missing or the data set is not what it says.
    """
    manifest = read_manifest(data)
    require_files(manifest)
    if transductive:
        manifest = with_test_images(manifest)
    named = read_names(labelled) if labelled is not None else None
    if named is not None and labels is not None:
        raise UserError("give --labels or --labelled, not both", "--labels")
    return manifest, make_split(manifest, labels, seed, named, validation)


def rehearse(
    config: Config,
    plan: Plan | None,
    manifest: Manifest,
    split: Split,
    fixed: Collection[str] | None,
    out: Path,
    store: Path | None,
) -> TrainResult:
    """Say the plan of a run, with its reasons, and what preparing and training need; nothing is written."""
    if plan is None:
        preparation, reasons = chosen(manifest, split.readable, config.preprocess)
        cases = order(cases_from_headers(manifest, preparation), split)
        workers_that_fit(manifest.training, store or default_store(), None)
        config, plan = first_plan(config, manifest, cases, split)
        plan = replace(plan, preparation=preparation, reasons={**reasons, **plan.reasons})
    config, plan = fitting(config, plan, manifest, out, fixed)
    for what, why in plan.reasons.items():
        say(f"{what}: {why}")
    return TrainResult(out, 0, plan.steps, None)


def lock(held: ExitStack, out: Path, begun: bool) -> None:
    """Take the folder's lock, until `held` ends, and make sure that nobody else had it since it was looked at.

    Raises:
        UserError: Another run has it, or had it meanwhile.
    """
    held.enter_context(FolderLock(out))
    if has_begun(out) != begun:
        raise UserError("another run was started in it meanwhile; choose another --out", out)


def holds_something(folder: Path) -> bool:
    """Whether a folder holds more than a lock that nobody holds any more."""
    return any(path.name != LOCK for path in folder.iterdir())


def preparation_of(
    processes: Processes, manifest: Manifest, split: Split, config: Config, plan: Plan | None
) -> tuple[Preparation, dict[str, str]]:
    """Return what is done to the images, and why: the plan's if there is one, else chosen by the first process."""
    if plan is not None:
        old = Preparation(crop_nonzero=config.preprocess.crop_nonzero)  # before it stood in the plan
        return plan.preparation or old, {}
    told = None
    if processes.first:
        preparation, reasons = chosen(manifest, split.readable, config.preprocess)
        told = [preparation.model_dump(mode="json"), reasons]
    told = processes.tell(told)
    return Preparation.model_validate(told[0]), told[1]


def prepared_once(
    processes: Processes, manifest: Manifest, split: Split, store: Path | None, preparation: Preparation
) -> list[StoredCase]:
    """Prepare the cases in the first process while the others wait, which then find them in the store."""
    if not processes.first:
        processes.wait()
    cases = prepared(manifest, split.readable, store, preparation)
    if processes.first:
        processes.wait()
    return cases


def order(cases: Sequence[StoredCase], split: Split) -> list[StoredCase]:
    """Return the labelled cases of the split in its order, then the unlabelled ones, then the validation cases."""
    by_name = {case.name: case for case in cases}
    return [by_name[name] for name in (*split.labelled, *split.unlabelled, *split.validation)]


def first_plan(
    config: Config, manifest: Manifest, cases: Sequence[StoredCase], split: Split
) -> tuple[Config, Plan]:
    """Choose what the configuration leaves open. The length is 0 if it has to be measured."""
    if config.sampling.unlabelled and not split.unlabelled:
        raise UserError(
            "there is no unlabelled volume to train on; put images without a label into imagesTr, give fewer "
            "--labels, or choose a method that needs none (encdec, cpcseg) or sampling.unlabelled=0",
            "sampling.unlabelled",
        )
    plan = make_plan(
        cases,
        manifest.scheme.structures,
        config.network,
        config.crop,
        config.mirror_axes,
        config.training.device,
        config.training.precision,
    )
    sampling = config.sampling
    crops = f"{sampling.labelled} labelled and {sampling.unlabelled} unlabelled crops a step"
    plan = plan.because("batch", crops if sampling.mix == "fixed" else f"{crops}, drawn over all volumes alike")
    config, plan = with_chunks(config, plan, len(manifest.channels))
    if config.training.steps is not None:
        plan = plan.because("steps", "set", steps=config.training.steps)
    if config.training.epochs is not None:
        alike = sampling.mix == "published" or sampling.unlabelled > 0
        volumes = len(split.labelled) + (len(split.unlabelled) if alike else 0)
        each = -(-volumes // (sampling.labelled + sampling.unlabelled))
        why = f"{config.training.epochs} passes over {volumes} volumes, {each} steps each"
        plan = plan.because("steps", why, steps=config.training.epochs * each)
    return config, plan


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
    config = with_workers_that_fit(config, workers, processes, found, here)
    seconds = None
    if plan.steps == 0:
        seconds = 60 * (training.minutes or DEFAULT_MINUTES)
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
