"""Putting a network together from configuration, plan and label scheme, for training and for prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frugalseg.config.schema import Config
from frugalseg.data.scheme import LabelScheme
from frugalseg.networks import MultiTaskNetwork, build_network
from frugalseg.networks.decoder import Skip
from frugalseg.objectives import CpcSettings, SegmentationLoss, Shapes, Task
from frugalseg.objectives.consistency import ConsistencyLoss
from frugalseg.semisup import Teacher
from frugalseg.training.average import WeightAverage
from frugalseg.training.loop import Loop
from frugalseg.training.optimiser import make_optimiser
from frugalseg.training.plan import Plan
from frugalseg.training.total import Objectives

if TYPE_CHECKING:
    from frugalseg.training.launch import Fabric

# Floats held for the backward pass for each voxel and channel of the first level: measured on the CPU at width 8
# with 120 patches of 16 cubed (about 17 of level 0, and a fifth of that for all deeper ones).
FLOATS_PER_VOXEL = 20
GIB = 2**30


def shapes_of(plan: Plan, channels: int, scheme: LabelScheme, skip: Skip) -> Shapes:
    """Return what branches are built for."""
    features = tuple(plan.width * 2**level for level in range(len(plan.strides)))
    decoded = plan.width * (2 if skip == "concat" else 1)
    return Shapes(channels, plan.crop, plan.strides, features, decoded, scheme.groups, scheme.classes, plan.kernels)


def build(config: Config, plan: Plan, channels: int, scheme: LabelScheme) -> MultiTaskNetwork:
    """Return the network with every auxiliary task's branch, freshly initialised."""
    shapes = shapes_of(plan, channels, scheme, config.network.skip)
    tasks: dict[str, Task] = {name: settings.build(shapes) for name, settings in config.auxiliary.items()}
    network = build_network(config.network, channels, scheme.outputs, plan.strides, plan.kernels, tasks, plan.width)
    # Weights in this order make the CPU's convolutions compute in it: 2 to 3 times faster (docs/decisions/0006).
    if plan.device == "cpu":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's stubs
    return network


def make_loop(
    config: Config,
    plan: Plan,
    scheme: LabelScheme,
    network: MultiTaskNetwork,
    fabric: Fabric,
    move: bool = True,
) -> Loop:
    """Return the loop around a network, not yet started, without logs, that saves nothing.

    Args:
        config: Settings of the objectives and of training.
        plan: Its number of steps is taken.
        scheme: What the labels mean.
        network: Moved to the device, if `move`.
        fabric: Who runs it.
        move: False for a network without numbers (`jobs.footprint`).
    """
    training = config.training
    wrapped, optimiser = fabric.setup(network, make_optimiser(training, network), move_to_device=move)
    weights = {name: task.weight for name, task in config.auxiliary.items()}
    groups, classes, ways = scheme.groups, scheme.classes, config.semisup
    average = average_of(config, network)
    return Loop(
        fabric=fabric,
        network=wrapped,
        encoder=network.encoder,
        objectives=Objectives(
            SegmentationLoss(config.segmentation, groups, classes),
            tasks_of(network),
            weights,
            None if ways is None else ConsistencyLoss(config.segmentation, groups, classes, ways.dice_weight),
        ),
        optimiser=optimiser,
        settings=training,
        steps=max(1, plan.steps),
        structures=scheme.structures,
        case_names=(),
        log=None,
        save=lambda step: None,
        average=average,
        semisup=None if ways is None else ways.build(groups, classes),
        teacher=teacher_of(config, network, average),
    )


def begin_again(config: Config, network: MultiTaskNetwork, loop: Loop) -> None:
    """Let running mean and teacher begin with the weights that the network has now."""
    loop.average = average_of(config, network)
    loop.teacher = teacher_of(config, network, loop.average)


def teacher_of(config: Config, network: MultiTaskNetwork, average: WeightAverage | None) -> Teacher | None:
    """Return the teacher, whose weights are the running mean's; None where nobody asks one."""
    if config.semisup is None or average is None:
        return None
    return Teacher(network, average.weights)


def average_of(config: Config, network: MultiTaskNetwork) -> WeightAverage | None:
    """Return the running mean of the weights, beginning with those that the network has now; None for none."""
    decay = config.training.average
    return None if decay is None else WeightAverage(network, deployed_weights(network), decay)


def tasks_of(network: MultiTaskNetwork) -> dict[str, Task]:
    """Return the network's branches as tasks."""
    return {name: branch for name, branch in network.branches.items() if isinstance(branch, Task)}


def deployed_weights(network: MultiTaskNetwork) -> frozenset[str]:
    """Return the names of the weights that prediction needs: trunk, head, and branches that feed the head."""
    feeding = tuple(f"branches.{name}." for name, task in tasks_of(network).items() if task.head_features)
    return frozenset(
        name for name in network.state_dict() if not name.startswith("branches.") or name.startswith(feeding or "/")
    )


def with_chunks(config: Config, plan: Plan, channels: int, memory: int, processes: int = 1) -> tuple[Config, Plan]:
    """Choose how many patches contrastive coding encodes at a time, so that activations take a third of `memory`.

    Args:
        config: The configuration; a chunk that it sets is kept.
        plan: The plan; gets the layout as a reason.
        channels: Channels of an image.
        memory: Bytes that the device may use.
        processes: How many processes share the samples of a step.
    """
    tasks: dict[str, Any] = {}
    samples = -(-(config.sampling.labelled + config.sampling.unlabelled) // processes)
    for name, settings in config.auxiliary.items():
        tasks[name] = settings
        if isinstance(settings, CpcSettings):
            task = settings.build(Shapes(channels, plan.crop, plan.strides, (8,) * len(plan.strides), 8, 1, 2))
            layout = task.layout
            voxels = layout.patch[0] * layout.patch[1] * layout.patch[2]
            each = voxels * plan.width * FLOATS_PER_VOXEL * 4
            total = samples * task.most
            fits = max(1, memory // 3 // each)
            why = f"{layout.describe()}; "
            if total:
                why += f"at most {total} patches a step" + (" and process" if processes > 1 else "")
            else:
                why += "encodings are means over the crop's own map"
            if settings.chunk is None and fits < total:
                tasks[name] = settings.model_copy(update={"chunk": int(fits)})
                why += f", encoded {fits} at a time to fit {memory / GIB:.1f} GiB"
            plan = plan.because(name, why)
    return config.model_copy(update={"auxiliary": tasks}), plan


def model_facts(config: Config, plan: Plan, channels: tuple[str, ...], scheme: LabelScheme) -> dict[str, Any]:
    """Return what model.json holds: everything that prediction needs beside the weights.

    The plan's reasons are not among it: they may name cases and folders, and this is what people pass on.
    """
    return {
        "config": config.model_dump(mode="json"),
        "plan": {**plan.to_json(), "reasons": {}},
        "channels": list(channels),
        "scheme": scheme.to_json(),
    }


def from_facts(facts: Mapping[str, Any], where: Path) -> tuple[Config, Plan, tuple[str, ...], LabelScheme]:
    """Read what `model_facts` returned and wrote to the file `where`."""
    config = Config.model_validate(facts["config"])
    if not isinstance(facts["channels"], list) or not isinstance(facts["scheme"], dict):
        raise TypeError("channels must be a list of names, scheme an object")
    channels = tuple(str(name) for name in facts["channels"])
    return config, Plan.from_json(facts["plan"], where), channels, LabelScheme.from_json(facts["scheme"])
