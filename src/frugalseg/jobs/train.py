"""Train: a data set, a method and a budget of labels become a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from frugalseg.config import Config, load_config
from frugalseg.data.budget import Split, make_split, read_names
from frugalseg.data.manifest import Manifest, read_manifest, require_files, with_test_images
from frugalseg.data.store import StoredCase
from frugalseg.errors import UserError
from frugalseg.jobs import build as building
from frugalseg.jobs.machine import memory_bytes
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.record import has_begun, other_conditions, read_plan, read_record, same_data, same_run
from frugalseg.jobs.run import Run, TrainResult
from frugalseg.jobs.show import say
from frugalseg.training.determinism import arithmetic
from frugalseg.training.lock import NAME as LOCK
from frugalseg.training.lock import FolderLock
from frugalseg.training.plan import Plan, choose_device, make_plan

__all__ = ["TrainResult", "train"]


def train(
    data: Path,
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
) -> TrainResult:
    """Train a model.

    Args:
        data: Folder with dataset.json.
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

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: The loss became infinite or not a number.
    """
    config = load_config(recipe or method, [f"training.seed={seed}", *overrides])
    used = out.exists() and (not out.is_dir() or holds_something(out))
    if used and not (resume and out.is_dir()):
        raise UserError("exists and is not empty; choose another --out, or --resume to go on with that run", out)
    with ExitStack() as held:
        if used:
            held.enter_context(FolderLock(out))
        begun = used and has_begun(out)
        manifest = read_manifest(data)
        require_files(manifest)
        if transductive:
            manifest = with_test_images(manifest)
        named = read_names(labelled) if labelled is not None else None
        if named is not None and labels is not None:
            raise UserError("give --labels or --labelled, not both", "--labels")
        order_seed = config.training.seed if label_seed is None else label_seed
        split = make_split(manifest, labels, order_seed, named, validation)
        if begun:
            return go_on(out, config, manifest, split, store)
        cases = order(prepared(manifest, split.readable, store, config.preprocess), split)
        config, plan = first_plan(config, manifest, cases, split)
        with arithmetic(config.training.deterministic, plan.device):
            run = Run(out, config, plan, manifest, split, cases)
            if plan.steps == 0:
                run = Run(out, config, run.with_length(), manifest, split, cases)
            if not used:
                held.enter_context(FolderLock(out))
                if holds_something(out):
                    raise UserError("another run was started in it meanwhile; choose another --out", out)
            run.record()
            return run.fit()


def holds_something(folder: Path) -> bool:
    """Whether a folder holds more than a lock that nobody holds any more."""
    return any(path.name != LOCK for path in folder.iterdir())


def go_on(out: Path, config: Config, manifest: Manifest, split: Split, store: Path | None) -> TrainResult:
    """Go on with the run in a folder.

    Raises:
        UserError: Its record is damaged, or settings, labels, the data's content or the kind of device differ.
    """
    facts = read_record(out)
    config = same_run(out, config, split)
    plan = read_plan(out)
    if plan.device == "cuda" and choose_device("auto")[0] != "cuda":
        raise UserError("the run began on a GPU, and none can be used here; start a new run, or go on there", out)
    cases = order(prepared(manifest, split.readable, store, config.preprocess), split)
    same_data(facts, out, cases)
    threads = int(facts["machine"]["threads"]) if config.training.deterministic else None
    if (line := other_conditions(facts, config, plan, threads)) is not None:
        say(line)
    with arithmetic(config.training.deterministic, plan.device, threads):
        return Run(out, config, plan, manifest, split, cases).fit()


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
            "there is no unlabelled volume to train on; set sampling.unlabelled=0 or take fewer --labels",
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
    config, plan = building.with_chunks(config, plan, len(manifest.channels), memory_bytes(plan.device))
    if config.training.steps is not None:
        plan = plan.because("steps", "set", steps=config.training.steps)
    return config, plan
