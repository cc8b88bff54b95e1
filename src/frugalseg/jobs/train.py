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
from frugalseg.files import read_json_object, read_text
from frugalseg.jobs import build as building
from frugalseg.jobs.machine import memory_bytes
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.run import Run, TrainResult
from frugalseg.jobs.show import say
from frugalseg.training.plan import Plan, make_plan

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

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: The loss became infinite or not a number.
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
    if begun:
        require_same_run(out, config, split)
    cases = order(prepared(manifest, split.readable, store, config.preprocess), split)
    if part := sum(case.in_part for case in cases):
        say(f"{part} of {len(split.readable)} labels show only a part of the structures (annotated_classes)")
    if begun:
        plan = Plan.from_json(read_json_object(out / "plan.json"))
        config, _ = building.with_chunks(config, plan, len(manifest.channels), memory_bytes(plan.device))
    else:
        config, plan = first_plan(config, manifest, cases, split)
    run = Run(out, config, plan, manifest, split, cases)
    if not begun:
        if plan.steps == 0:
            run = Run(out, config, run.with_length(), manifest, split, cases)
        run.record()
    return run.fit()


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
    config, plan = building.with_chunks(config, plan, len(manifest.channels), memory_bytes(plan.device))
    if config.training.steps is not None:
        plan = plan.because("steps", "set", steps=config.training.steps)
    return config, plan


def require_same_run(out: Path, config: Config, split: Split) -> None:
    """Refuse to go on with a run under other settings or labels.

    Raises:
        ConfigError: Names the first setting that differs.
    """
    content = parse_yaml(read_text(out / "config.yaml"), out / "config.yaml")
    before = Config.model_validate(content).model_dump(mode="json")
    now = config.model_dump(mode="json")
    for key in now:
        if before[key] != now[key]:
            raise ConfigError(f"the run in this folder was started with another {key!r}; repeat its command", out)
    if Split.from_json(read_json_object(out / "split.json"), out / "split.json") != split:
        raise ConfigError("the run in this folder reads other labels; repeat its command", out)
