"""What a run's configuration leaves open, chosen from the data before its first step."""

from __future__ import annotations

from collections.abc import Sequence

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import StoredCase
from frugalseg.errors import UserError
from frugalseg.jobs.fitting import with_chunks
from frugalseg.jobs.initial import Initial
from frugalseg.jobs.prepare import chosen
from frugalseg.training.plan import Plan, make_plan
from frugalseg.training.processes import Processes


def preparation_of(
    processes: Processes,
    manifest: Manifest,
    split: Split,
    config: Config,
    plan: Plan | None,
    given: tuple[Preparation, dict[str, str]] | None,
) -> tuple[Preparation, dict[str, str]]:
    """Return what is done to the images, and why: the plan's, what is given, or else the first process's choice."""
    if plan is not None:
        old = Preparation(crop_nonzero=config.preprocess.crop_nonzero)  # before it stood in the plan
        return plan.preparation or old, {}
    if given is not None:
        return given
    told = None
    if processes.first:
        preparation, reasons = chosen(manifest, split.readable, config.preprocess)
        told = [preparation.model_dump(mode="json"), reasons]
    told = processes.tell(told)
    return Preparation.model_validate(told[0]), told[1]


def order(cases: Sequence[StoredCase], split: Split) -> list[StoredCase]:
    """Return the labelled cases of the split in its order, then the unlabelled ones, then the validation cases."""
    by_name = {case.name: case for case in cases}
    return [by_name[name] for name in (*split.labelled, *split.unlabelled, *split.validation)]


def without_what_is_not_there(config: Config, split: Split) -> Config:
    """Return the configuration without unlabelled crops if there are none and it is to adapt itself to the data."""
    if config.adapt and config.sampling.unlabelled and not split.unlabelled:
        return config.without_unlabelled()
    return config


def first_plan(
    config: Config,
    manifest: Manifest,
    cases: Sequence[StoredCase],
    split: Split,
    initial: Initial | None = None,
) -> tuple[Config, Plan]:
    """Choose what the configuration leaves open. The length is 0 if it has to be measured.

    With `initial` weights crop and width are theirs, unless they are set.

    Raises:
        UserError: There is no unlabelled volume, or the weights do not fit.
    """
    if config.sampling.unlabelled and not split.unlabelled:
        raise UserError(
            "there is no unlabelled volume to train on; put images without a label into imagesTr, give fewer "
            "--labels, or choose a method that needs none (encdec, cpcseg) or sampling.unlabelled=0",
            "sampling.unlabelled",
        )
    plan = make_plan(
        cases,
        manifest.scheme.structures,
        config.network if initial is None else initial.sized(config.network),
        config.crop if initial is None else config.crop or initial.plan.crop,
        config.mirror_axes,
        config.training.device,
        config.training.precision,
        None if initial is None else initial.plan,
        config.training.minutes or config.training.usual_minutes,
    )
    if initial is not None:
        initial.require_fit(config, plan, manifest)
        plan = plan.because(
            "initial", f"weights of {initial.run} after {initial.step} steps; crop and width like its"
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
