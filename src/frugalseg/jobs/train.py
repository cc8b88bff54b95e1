"""Train: a data set, a method and a budget of labels become a run folder."""

from __future__ import annotations

import gc
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from frugalseg.config import Config, load_config
from frugalseg.data.budget import Split, hold_out, without_labels
from frugalseg.data.manifest import DataSource, Manifest
from frugalseg.data.preprocess import Preparation
from frugalseg.errors import UserError
from frugalseg.files import hash_value
from frugalseg.jobs.budget import budget_of, manifest_of
from frugalseg.jobs.fair_start import require_fair
from frugalseg.jobs.first_plan import first_plan, order, preparation_of, without_what_is_not_there
from frugalseg.jobs.fitting import fitting
from frugalseg.jobs.initial import Initial, read_initial
from frugalseg.jobs.mixtures import require_mixable
from frugalseg.jobs.preflight import settings_fixed
from frugalseg.jobs.prepare import chosen, prepared
from frugalseg.jobs.record import (
    PRETRAIN,
    WITHOUT_ATLAS,
    has_begun,
    other_conditions,
    read_plan,
    read_record,
    same_data,
    same_run,
    settings_hash,
)
from frugalseg.jobs.rehearse import rehearse
from frugalseg.jobs.run import Run, TrainResult
from frugalseg.jobs.same_start import require_same_start, require_same_weights
from frugalseg.jobs.show import mute, say
from frugalseg.jobs.taught import taught
from frugalseg.jobs.teacher_runs import open_teachers, require_same_teachers, require_teachers
from frugalseg.jobs.teachers import registered_once
from frugalseg.training.determinism import arithmetic
from frugalseg.training.launch import make_fabric
from frugalseg.training.loader import require_enough
from frugalseg.training.lock import NAME as LOCK
from frugalseg.training.lock import FolderLock
from frugalseg.training.plan import Plan, choose_device, choose_precision, gpu_there
from frugalseg.training.processes import Processes
from frugalseg.training.seal import LAST, find_intact

__all__ = ["TrainResult", "train"]


def train(
    data: Path | DataSource,
    out: Path,
    method: str = "frugal",
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
    init: Path | None = None,
    teachers: Sequence[Path] = (),
    pretraining: bool = False,
    preparation: tuple[Preparation, dict[str, str]] | None = None,
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
        init: A finished run whose weights this one begins with, instead of the recipe's own pre-training.
        teachers: Finished runs, or folders of folds, whose mean says what unlabelled volumes are segmented like.
        pretraining: Run the recipe's pre-training alone: every training volume, no label; `labels` do not matter.
        preparation: What is done to the images, and why, if that was chosen before.

    With training.devices or training.nodes above 1 this command line is started again for every further process,
    which comes here too and leaves with the same result; only the first one writes and prints.

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: The loss became infinite or not a number.
        ProcessError: Another process of a distributed run is gone.
    """
    config = load_config(recipe or method, [f"training.seed={seed}", *overrides])
    if pretraining:
        config = config.of_pretraining()
    elif not config.trained:
        raise UserError(f"{config.method!r} trains nothing: that is `frugalseg register`", "--method")
    elif config.sampling.labelled == 0:
        raise UserError("0 labelled crops are a pre-training: that is `frugalseg pretrain`", "sampling.labelled")
    used = out.exists() and (not out.is_dir() or holds_something(out))
    if used and not (resume and out.is_dir()):
        raise UserError("exists and is not empty; choose another --out, or --resume to go on with that run", out)
    begun = used and has_begun(out)
    order_seed = config.training.seed if label_seed is None else label_seed
    if pretraining:
        manifest = manifest_of(data, transductive)
        split = without_labels(manifest, held_out)
    else:
        manifest, split = budget_of(data, labels, order_seed, labelled, validation, transductive)
        if held_out:
            split = hold_out(manifest, split, held_out)
    facts = read_record(out) if begun else None
    config = require_teachers(config, teachers, facts, out)
    found = without_what_is_not_there(config, split)
    left_out, config = found is not config, found
    if begun:
        config = same_run(out, config, split)
    plan = read_plan(out) if begun else None
    if plan is not None and plan.device == "cuda" and choose_device("auto")[0] != "cuda":
        raise UserError("the run began on a GPU, and none can be used here; start a new run, or go on there", out)
    training = config.training
    require_enough(config.sampling, training.devices * training.nodes)
    # What is set of a pre-training has the names of its part there, and a run's own once it is one.
    named = [item.replace("pretrain.crops", "sampling.unlabelled").replace("pretrain.", "") for item in overrides]
    given = None if begun else settings_fixed(config, named if pretraining else overrides, recipe is not None)
    initial, asked = None, open_teachers(teachers) if teachers else None
    if asked is not None:
        preparation = preparation or asked.preparation
        require_same_teachers(facts, asked)
        asked.require_fit(config, manifest, split)
    require_same_start(facts, config, init, out)
    if find_intact(out / LAST) is None:
        if init is not None:
            initial = read_initial(init)
            require_fair(initial, manifest, split)
        elif config.pretrain is not None and not dry_run:
            before = pretrained(
                data, out / PRETRAIN, method, seed, recipe, overrides, store, transductive, held_out,
                manifest, split, config, preparation,
            )  # fmt: skip
            if isinstance(before, TrainResult):
                return replace(before, run=out, step=0)
            initial = before
    if initial is not None:
        require_same_weights(facts, initial, out)
        preparation = initial.preparation
    if asked is not None and preparation is not None:
        asked.require_prepared_alike(preparation[0])
    if dry_run:
        return rehearse(config, plan, manifest, split, given, out, store, initial, preparation)
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
        if left_out:
            say(f"{config.method}: every volume is labelled; goes on without unlabelled crops")
        processes.require_same(hash_value([begun, settings_hash(config), split.to_json()]), "the run")
        prepare, reasons = preparation_of(processes, manifest, split, config, plan, preparation)
        with processes.first_alone():
            cases = order(prepared(manifest, split.readable, store, prepare), split)
        require_mixable(config, cases[: len(split.labelled)])
        config, cases, unlike = registered_once(processes, config, manifest, split, cases, store)
        with processes.first_alone():
            cases = taught(asked, manifest, split, cases, store)
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
            config, plan = first_plan(config, manifest, cases, split, initial)
            plan = replace(plan, preparation=prepare, reasons={**reasons, **plan.reasons})
            if unlike:
                plan = plan.because(WITHOUT_ATLAS, unlike)
        # A run that goes on keeps its plan; where memory has become short, the loop makes chunks smaller.
        if processes.first:
            config, plan = fitting(config, plan, manifest, out, given)
        # Chosen from the first process's machine, should the machines differ.
        told = processes.tell([config.model_dump(mode="json"), plan.to_json()])
        config, plan = Config.model_validate(told[0]), Plan.from_json(told[1])
        held.enter_context(arithmetic(training.deterministic, plan.device, threads))
        run = Run(out, config, plan, manifest, split, cases, processes, initial, asked)
        if not begun:
            if plan.steps == 0:
                run = Run(out, config, run.with_length(), manifest, split, cases, processes, initial, asked)
            if processes.first:
                if not used:
                    lock(held, out, begun)
                run.record()
        processes.wait()
        return run.fit()


def pretrained(
    data: Path | DataSource,
    out: Path,
    method: str,
    seed: int,
    recipe: Path | None,
    overrides: Sequence[str],
    store: Path | None,
    transductive: bool,
    held_out: Collection[str],
    manifest: Manifest,
    split: Split,
    config: Config,
    preparation: tuple[Preparation, dict[str, str]] | None = None,
) -> Initial | TrainResult:
    """Run the recipe's pre-training in its own folder, or go on with it; return its weights, or how it was stopped.

    Raises:
        UserError: As `train`; it cannot be shared by several processes.
    """
    if config.training.devices * config.training.nodes > 1:
        raise UserError(
            "several processes cannot pre-train and train in one go; run `frugalseg pretrain`, then train --init",
            "training.devices",
        )
    say(f"pre-training in {out}")
    result = train(
        data, out, method, seed=seed, recipe=recipe, overrides=overrides, resume=True, store=store,
        transductive=transductive, held_out=(*held_out, *split.validation), pretraining=True,
        preparation=preparation or chosen(manifest, split.readable, config.preprocess),
    )  # fmt: skip
    gc.collect()  # what it held of a GPU is free for the training, as if that had been started by itself
    if gpu_there():
        torch.cuda.empty_cache()
    return result if result.signal is not None else read_initial(out)


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
