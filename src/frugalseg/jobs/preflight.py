"""Before the work: what it needs against what is there, a plan that fits, or a refusal that says what would.

What is made smaller, in this order: the patches that contrastive coding encodes at a time (the result is the same
up to rounding), the crops of a step, the crop. The last two change what is learnt: they are left alone where they
were set, and each change is a reason in plan.json. A run that goes on keeps its plan whatever the machine has then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from frugalseg.config.schema import Config
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import UserError
from frugalseg.jobs.build import FLOATS_PER_VOXEL
from frugalseg.jobs.footprint import Footprint, footprint, patches_of, share_of, with_chunk
from frugalseg.jobs.needs import MIB, Need, training
from frugalseg.jobs.needs_text import shortage
from frugalseg.jobs.resources import Resources
from frugalseg.objectives import CpcSettings
from frugalseg.objectives.across import Share
from frugalseg.semisup import CopyPasteSettings
from frugalseg.training.plan import Plan, choose_crop, total_stride

TINY = 32 * MIB  # a step that holds less than about this is not simulated: what PyTorch takes is ten times as much
GAIN = 0.98  # a smaller chunk that leaves more than this of the need is not worth it


@dataclass(frozen=True)
class Setting:
    """What a need is reckoned for. `processes` share the machine's memory, `world` the samples of a step."""

    channels: int
    scheme: LabelScheme
    workers: int
    processes: int = 1
    world: int = 1


def reckon(config: Config, plan: Plan, setting: Setting) -> tuple[Need, Footprint | None]:
    """Return what one process of a run needs, and its step if that had to be simulated."""
    samples, labelled = share_of(config, Share(0, setting.world))
    x, y, z = plan.crop
    rough = samples * x * y * z * plan.width * FLOATS_PER_VOXEL * 4
    if rough < TINY:
        return training(
            Footprint(rough, rough // 8, rough // 2, rough // 8, {}, 0, 0), plan.device, setting.workers
        ), None
    found = footprint(config, plan, setting.channels, setting.scheme, samples, labelled)
    return training(found, plan.device, setting.workers), found


def fit(
    config: Config, plan: Plan, setting: Setting, here: Resources, fixed: Collection[str] = ()
) -> tuple[Config, Plan, Need, Footprint | None]:
    """Return a configuration and plan that fit the machine, and what they need.

    Args:
        config: The configuration.
        plan: The plan that was chosen for it.
        setting: Channels, labels, processes.
        here: What the machine has.
        fixed: Settings that must stay, e.g. "sampling.labelled", "crop", "auxiliary.cpc.chunk".

    Raises:
        UserError: Nothing that may be changed makes it fit; says what would.
    """
    need, found = reckon(config, plan, setting)
    lacking = shortage(need, here, setting.processes)
    if lacking is None:
        return config, plan, need, found
    smaller = _smaller(config, plan, setting, lambda n: shortage(n, here, setting.processes), fixed)
    if smaller is not None:
        return smaller
    would = _smaller(config, plan, setting, lambda n: shortage(n, here, setting.processes), ())
    advice = "nothing smaller of this plan fits; take a machine with more memory, or a smaller network.width"
    if would is not None:
        advice = f"this would fit: {describe(config, plan, would[0], would[1])}"
    raise UserError(f"needs {lacking}; {advice}", "training")


def _smaller(
    config: Config,
    plan: Plan,
    setting: Setting,
    lacking: Callable[[Need], str | None],
    fixed: Collection[str],
) -> tuple[Config, Plan, Need, Footprint | None] | None:
    for less in (_chunks, _batches, _crops):
        before = reckon(config, plan, setting)[0]
        for other, changed in less(config, plan, setting, fixed):
            try:
                need, found = reckon(other, changed, setting)
            except UserError:
                break  # a crop that a task cannot be built for
            if need.ram + need.gpu > GAIN * (before.ram + before.gpu):
                break
            config, plan, before = other, changed, need
            if lacking(need) is None:
                return config, plan, need, found
    return None


def _chunks(config: Config, plan: Plan, setting: Setting, fixed: Collection[str]) -> Iterator[tuple[Config, Plan]]:
    samples, _ = share_of(config, Share(0, setting.world))
    for name, settings in config.auxiliary.items():
        if not isinstance(settings, CpcSettings) or f"auxiliary.{name}.chunk" in fixed:
            continue
        total = samples * patches_of(settings, plan, setting.channels)
        now = min(settings.chunk or total, total)
        while now > 1:
            now = -(-now // 4)
            config = with_chunk(config, name, now)
            plan = plan.because(f"{name}.chunk", f"{now} of {total} patches encoded at a time to fit the memory")
            yield config, plan


def _batches(config: Config, plan: Plan, setting: Setting, fixed: Collection[str]) -> Iterator[tuple[Config, Plan]]:
    if "sampling.labelled" in fixed or "sampling.unlabelled" in fixed:
        return
    while config.sampling.labelled + config.sampling.unlabelled > max(1, setting.world):
        sampling = config.sampling
        labelled, unlabelled = -(-sampling.labelled // 2), -(-sampling.unlabelled // 2)
        if (labelled, unlabelled) == (
            sampling.labelled,
            sampling.unlabelled,
        ) or labelled + unlabelled < setting.world:
            return
        if isinstance(config.semisup, CopyPasteSettings) and min(labelled, unlabelled) < setting.world:
            return  # a process would have one kind of crops alone, and nothing to mix them with
        config = config.model_copy(
            update={"sampling": sampling.model_copy(update={"labelled": labelled, "unlabelled": unlabelled})}
        )
        why = f"{labelled} labelled and {unlabelled} unlabelled crops a step, fewer than chosen, to fit the memory"
        plan = plan.because("batch", why)
        yield config, plan


def _crops(config: Config, plan: Plan, setting: Setting, fixed: Collection[str]) -> Iterator[tuple[Config, Plan]]:
    if "crop" in fixed:
        return
    stride = total_stride(plan.strides)
    for _ in range(12):
        x, y, z = plan.crop
        crop = choose_crop(plan.crop, stride, x * y * z * 3 // 4)
        if crop == plan.crop:
            return
        plan = plan.because("crop", f"{_by(crop)}, smaller than the data ask for, to fit the memory", crop=crop)
        if config.crop is not None:
            config = config.model_copy(update={"crop": crop})
        yield config, plan


def describe(config: Config, plan: Plan, other: Config, changed: Plan) -> str:
    """Say how a smaller configuration and plan differ, as settings that can be given."""
    words = []
    for name, settings in other.auxiliary.items():
        before = config.auxiliary[name]
        if isinstance(settings, CpcSettings) and isinstance(before, CpcSettings) and settings.chunk != before.chunk:
            words.append(f"auxiliary.{name}.chunk={settings.chunk}")
    for key in ("labelled", "unlabelled"):
        if getattr(other.sampling, key) != getattr(config.sampling, key):
            words.append(f"sampling.{key}={getattr(other.sampling, key)}")
    if changed.crop != plan.crop:
        words.append(f"crop=[{','.join(map(str, changed.crop))}]")
    return " ".join(f"--set {word}" for word in words)


def _by(values: Collection[int]) -> str:
    return " x ".join(map(str, values))


def settings_fixed(config: Config, overrides: Collection[str], from_file: bool) -> set[str]:
    """Return which of the settings that could be made smaller were set: by name, in a recipe file, or as a crop.

    Args:
        config: The configuration.
        overrides: Settings such as "sampling.labelled=2".
        from_file: Whether the recipe is the user's own, where everything counts as set.
    """
    given = [override.partition("=")[0].strip() for override in overrides]
    keys = ["sampling.labelled", "sampling.unlabelled", *(f"auxiliary.{name}.chunk" for name in config.auxiliary)]
    fixed = {key for key in keys if any(key == name or key.startswith(f"{name}.") for name in given)}
    if from_file:
        fixed |= {"sampling.labelled", "sampling.unlabelled"}
        for name, task in config.auxiliary.items():
            if isinstance(task, CpcSettings) and task.chunk is not None:
                fixed.add(f"auxiliary.{name}.chunk")
    return fixed if config.crop is None else fixed | {"crop"}
