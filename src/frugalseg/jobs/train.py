"""Train: a data set, a method and a budget of labels become a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frugalseg.config import Config, load_config
from frugalseg.config.load import parse_yaml
from frugalseg.data.budget import Split, make_split, read_names
from frugalseg.data.manifest import Manifest, read_manifest, require_files
from frugalseg.data.store import StoredCase
from frugalseg.errors import ConfigError, UserError
from frugalseg.files import hash_value, read_json_object, read_text
from frugalseg.jobs import build as building
from frugalseg.jobs.machine import memory_bytes
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.run import Run, TrainResult
from frugalseg.jobs.show import mute, say
from frugalseg.training.launch import make_fabric
from frugalseg.training.loader import require_enough
from frugalseg.training.plan import Plan, choose_device, choose_precision, make_plan
from frugalseg.training.processes import Processes

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

    With training.devices or training.nodes above 1 this command line is started again for every further process,
    which comes here too and leaves with the same result; only the first one writes and prints.

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: The loss became infinite or not a number.
        ProcessError: Another process of a distributed run is gone.
    """
    config = load_config(recipe or method, [f"training.seed={seed}", *overrides])
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not resume)):
        raise UserError("exists and is not empty; choose another --out, or --resume to go on with that run", out)
    manifest = read_manifest(data)
    require_files(manifest)
    named = read_names(labelled) if labelled is not None else None
    if named is not None and labels is not None:
        raise UserError("give --labels or --labelled, not both", "--labels")
    order_seed = config.training.seed if label_seed is None else label_seed
    split = make_split(manifest, labels, order_seed, named, validation)
    begun = resume and (out / "plan.json").exists()
    changed = require_same_run(out, config, split) if begun else None
    plan = Plan.from_json(read_json_object(out / "plan.json")) if begun else None
    training = config.training
    require_enough(config.sampling, training.devices * training.nodes)
    device = plan.device if plan else choose_device(training.device)[0]
    precision = plan.precision if plan else choose_precision(training.precision, device)[0]
    # Further processes start here: until then nothing is written, and nothing is printed but errors.
    with Processes(make_fabric(device, precision, training.devices, training.nodes)) as processes:
        if not processes.first:
            mute()
        processes.require_same(hash_value([begun, config.model_dump(mode="json"), split.to_json()]), "the run")
        if changed is not None:
            say(changed)
        cases = order(prepared_once(processes, manifest, split, store, config), split)
        if part := sum(case.in_part for case in cases):
            say(f"{part} of {len(split.readable)} labels show only a part of the structures (annotated_classes)")
        processes.require_same(hash_value([case.key for case in cases]), "the prepared cases")
        if plan is None:
            config, plan = first_plan(config, manifest, cases, split)
        else:
            config, _ = with_chunks(config, plan, len(manifest.channels))
        # Chosen from the first process's machine, should the machines differ.
        chosen = processes.tell([config.model_dump(mode="json"), plan.to_json()])
        config, plan = Config.model_validate(chosen[0]), Plan.from_json(chosen[1])
        run = Run(out, config, plan, manifest, split, cases, processes)
        if not begun:
            if plan.steps == 0:
                run = Run(out, config, run.with_length(), manifest, split, cases, processes)
            if processes.first:
                run.record()
        processes.wait()
        return run.fit()


def prepared_once(
    processes: Processes, manifest: Manifest, split: Split, store: Path | None, config: Config
) -> list[StoredCase]:
    """Prepare the cases in the first process while the others wait, which then find them in the store."""
    if not processes.first:
        processes.wait()
    cases = prepared(manifest, split.readable, store, config.preprocess)
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


def with_chunks(config: Config, plan: Plan, channels: int) -> tuple[Config, Plan]:
    """Choose how contrastive coding fits the memory that each process has."""
    devices, nodes = config.training.devices, config.training.nodes
    memory = memory_bytes(plan.device)
    if plan.device == "cpu":
        memory //= devices
    return building.with_chunks(config, plan, channels, memory, devices * nodes)


def require_same_run(out: Path, config: Config, split: Split) -> str | None:
    """Refuse to go on with a run under other settings or labels. Return what to say if the processes are others.

    Raises:
        ConfigError: Names the first setting that differs.
    """
    content = parse_yaml(read_text(out / "config.yaml"), out / "config.yaml")
    before = Config.model_validate(content).model_dump(mode="json")
    now = config.model_dump(mode="json")
    counts = [settings["training"].pop("devices") * settings["training"].pop("nodes") for settings in (before, now)]
    for key in now:
        if before[key] != now[key]:
            raise ConfigError(f"the run in this folder was started with another {key!r}; repeat its command", out)
    if Split.from_json(read_json_object(out / "split.json"), out / "split.json") != split:
        raise ConfigError("the run in this folder reads other labels; repeat its command", out)
    if counts[0] != counts[1]:
        return (
            f"the run was started with {counts[0]} processes and goes on with {counts[1]}: the same samples in "
            "every step, but sums in another order, so weights agree within rounding and not bit for bit"
        )
    return None
