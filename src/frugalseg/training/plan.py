"""What is chosen from the data before step 0 (crop, strides, width, flips), with the reasons: plan.json."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import StoredCase
from frugalseg.errors import UserError
from frugalseg.formats import PLAN_FORMAT, describing, require_version
from frugalseg.networks.multitask import NetworkSettings

Triple = tuple[int, int, int]
Precision = Literal["fp32", "bf16"]

SMALLEST_MAP = 4  # an axis is not halved below this many voxels
MOST_LEVELS = 16
COARSE = 2.0  # nor while its spacing is more than twice the finest
CPU_CROP_VOXELS, GPU_CROP_VOXELS = 48**3, 128**3  # a step of seconds, not of minutes
CPU_WIDTH, GPU_WIDTH = 8, 32
LONG, LONG_CPU_WIDTH = 20.0, 16  # minutes from which on twice the width is worth its time (docs/decisions/0019)
_SIDES = re.compile(
    r"(^|[^a-z])(lh|rh|[lr](?!\d)|(left|right)[a-z]*|link(s|e[rnsm]?)|recht(s|e[rnsm]?)|gauche|droite?|izq|izquierd[oa]|der"
    r"|derech[oa]|sx|dx|sinistr[oa]?|sinister|dexter|dextr[oa]|destr[oa]|esquerd[oa]|direit[oa])([^a-z]|$)"
)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=\b[LR])(?=[A-Z][a-z])")  # LeftKidney is two words, LKidney too


@dataclass(frozen=True)
class Plan:
    """Everything about a run that its configuration leaves open. `steps` is 0 until the length is known.

    `preparation` is what was done to the images; None in plans of before it stood there: z-scores, not resampled.
    """

    crop: Triple
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    width: int
    mirror_axes: tuple[int, ...]
    device: str
    precision: Precision
    steps: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    preparation: Preparation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        value = {"format_version": PLAN_FORMAT, **asdict(self)}
        value["preparation"] = None if self.preparation is None else self.preparation.model_dump(mode="json")
        return value

    @staticmethod
    def from_json(value: dict[str, Any], where: Path = Path("plan.json")) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            DataError: It is of a newer format; `where` is named.
        """
        require_version(value, PLAN_FORMAT, where)
        with describing("a plan", where):
            plan = Plan._of(value)
            plan.require_possible()
        return plan

    def require_possible(self) -> None:
        """Hold a plan that was read to what a network can be: a damaged one might ask for any amount of memory.

        Raises:
            ValueError: Names the entry.
        """
        levels = len(self.strides)
        if not 1 <= levels <= MOST_LEVELS:
            raise ValueError(f"plan: strides has {levels} levels, 1 to {MOST_LEVELS} were expected")
        if len(self.kernels) != levels:
            raise ValueError(f"plan: kernels has {len(self.kernels)} levels, strides {levels}")
        sizes: tuple[tuple[str, Sequence[int], int], ...] = (
            ("width", (self.width,), 4096),
            ("crop", self.crop, 4096),
            ("strides", [side for stride in self.strides for side in stride], 8),
            ("kernels", [side for kernel in self.kernels for side in kernel], 7),
        )
        for name, values, most in sizes:
            if not all(1 <= value <= most for value in values):
                told = values[0] if name == "width" else list(values)
                raise ValueError(f"plan: {name} is {told}, 1 to {most} was expected")
        if self.steps < 0 or not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"plan: {self.steps} steps and mirror_axes {self.mirror_axes} cannot be")

    @staticmethod
    def _of(value: dict[str, Any]) -> Plan:
        preparation = value.get("preparation")
        return Plan(
            crop=triple(value["crop"]),
            strides=tuple(triple(stride) for stride in value["strides"]),
            kernels=tuple(triple(kernel) for kernel in value["kernels"]),
            width=int(value["width"]),
            mirror_axes=tuple(int(axis) for axis in value["mirror_axes"]),
            device=str(value["device"]),
            precision="bf16" if value["precision"] == "bf16" else "fp32",
            steps=int(value["steps"]),
            reasons={str(key): str(reason) for key, reason in value["reasons"].items()},
            preparation=None if preparation is None else Preparation.model_validate(preparation),
        )

    def because(self, what: str, why: str, **changes: Any) -> Plan:
        """Return the plan with these changes, and the reason for them."""
        return replace(self, **changes, reasons={**self.reasons, what: why})


def triple(values: Sequence[Any]) -> Triple:
    """Return three integers."""
    x, y, z = (int(value) for value in values)
    return x, y, z


def make_plan(
    cases: Sequence[StoredCase],
    structures: Sequence[str],
    network: NetworkSettings,
    crop: Triple | None,
    mirror_axes: Sequence[str] | None,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16"],
    like: Plan | None = None,
    minutes: float = 0.0,
) -> Plan:
    """Choose what the configuration leaves open; strides and kernels are those of `like`, if it is given.

    Args:
        cases: The run's.
        structures: Their names may say that there is a left and a right.
        network: What is set of the network.
        crop: Its sides, if they are set.
        mirror_axes: If they are set.
        device: Where it is trained.
        precision: In what.
        like: Plan of the first weights.
        minutes: How long the training is to take, about; a network is wider where it has time to learn.

    Raises:
        UserError: The crop cannot be divided by the strides, or there is no such device.
    """
    reasons: dict[str, str] = {}
    on, reasons["device"] = choose_device(device)
    arithmetic, reasons["precision"] = choose_precision(precision, on)
    shape = triple([round(median(case.shape[axis] for case in cases)) for axis in range(3)])
    spacing = tuple(median(case.spacing[axis] for case in cases) for axis in range(3))
    levels = len(network.blocks)
    wanted = crop or shape
    strides, kernels = choose_strides(wanted, (spacing[0], spacing[1], spacing[2]), levels)
    if crop is None:
        voxels = GPU_CROP_VOXELS if on == "cuda" else CPU_CROP_VOXELS
        chosen = choose_crop(shape, total_stride(strides), voxels)
        # A side that was rounded up may now be halved once more, and with it another axis: then the crop is chosen
        # again. It settles, because a crop is a multiple of strides that only grow, up to 2 ** (levels - 1).
        for _ in range(3 * levels):
            strides, kernels = choose_strides(chosen, (spacing[0], spacing[1], spacing[2]), levels)
            if not any(side % s for side, s in zip(chosen, total_stride(strides))):
                break
            chosen = choose_crop(shape, total_stride(strides), voxels)
        reasons["crop"] = (
            f"median volume {_by(shape)} voxels, rounded to multiples of {_by(total_stride(strides))}, "
            f"at most {voxels} voxels"
        )
    else:
        chosen = crop
        reasons["crop"] = "set"
    if like is not None:
        strides, kernels = like.strides, like.kernels
    check_crop(chosen, total_stride(strides))
    reasons["strides"] = (
        "those of the first weights"
        if like is not None
        else f"median spacing {' x '.join(f'{side:.3g}' for side in spacing)} mm: an axis is halved while it keeps "
        f"{SMALLEST_MAP} voxels and its spacing is at most {COARSE:g} times the finest"
    )
    usual = GPU_WIDTH if on == "cuda" else LONG_CPU_WIDTH if minutes >= LONG else CPU_WIDTH
    width = network.width or usual
    reasons["width"] = "set" if network.width else f"{width} on a {'GPU' if on == 'cuda' else 'CPU'}"
    if not network.width and on == "cpu" and minutes >= LONG:
        reasons["width"] += f" for {LONG:g} minutes or more"
    axes, reasons["mirror_axes"] = choose_mirror_axes(mirror_axes, structures)
    return Plan(chosen, strides, kernels, width, axes, on, arithmetic, 0, reasons)


def choose_strides(
    crop: Triple, spacing: tuple[float, float, float], levels: int
) -> tuple[tuple[Triple, ...], tuple[Triple, ...]]:
    """Return stride and kernel of each level: flat and coarse axes are left alone (DESIGN "Shapes")."""
    size, step = list(crop), list(spacing)
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = [_kernel(size, step)]
    for _ in range(levels - 1):
        finest = min(s for s, n in zip(step, size) if n > 1) if max(size) > 1 else min(step)
        halve = [n // 2 >= SMALLEST_MAP and s <= COARSE * finest for n, s in zip(size, step)]
        strides.append(triple([2 if h else 1 for h in halve]))
        size = [n // 2 if h else n for n, h in zip(size, halve)]
        step = [s * 2 if h else s for s, h in zip(step, halve)]
        kernels.append(_kernel(size, step))
    return tuple(strides), tuple(kernels)


def _kernel(size: Sequence[int], step: Sequence[float]) -> Triple:
    # The thickness of a single slice is no resolution: nothing is seen along it.
    finest = min((s for n, s in zip(size, step) if n > 1), default=min(step))
    return triple([1 if n == 1 or s > COARSE * finest else 3 for n, s in zip(size, step)])


def total_stride(strides: Sequence[Triple]) -> Triple:
    """Return the product of the strides along each axis."""
    total = [1, 1, 1]
    for stride in strides:
        total = [a * b for a, b in zip(total, stride)]
    return triple(total)


def choose_crop(shape: Triple, stride: Triple, voxels: int) -> Triple:
    """Return the multiple of `stride` nearest to `shape`, the longest side shrunk to at most `voxels`."""
    crop = [max(s, round(side / s) * s) for side, s in zip(shape, stride)]
    while crop[0] * crop[1] * crop[2] > voxels:
        shrinkable = [axis for axis in range(3) if crop[axis] > stride[axis]]
        if not shrinkable:
            break
        longest = max(shrinkable, key=lambda axis: crop[axis] / stride[axis])
        crop[longest] -= stride[longest]
    return triple(crop)


def check_crop(crop: Triple, stride: Triple) -> None:
    """Refuse a crop that the strides do not divide.

    Raises:
        UserError: Names a crop near it that would do.
    """
    if any(side % s for side, s in zip(crop, stride)):
        near = [max(s, round(side / s) * s) for side, s in zip(crop, stride)]
        raise UserError(
            f"{_by(crop)} cannot be divided by the network's strides {_by(stride)}; {_by(near)} can", "crop"
        )


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> tuple[str, str]:
    """Return "cuda" or "cpu", and why.

    Raises:
        UserError: A GPU was asked for and there is none.
    """
    there = gpu_there()
    if wanted == "cuda" and not there:
        raise UserError("no GPU can be used here; choose cpu or auto", "training.device")
    if wanted != "auto":
        return wanted, "set"
    return ("cuda", torch.cuda.get_device_name()) if there else ("cpu", "no GPU can be used here")


def gpu_there() -> bool:
    """Whether a GPU can be used.

    NVIDIA's management library is asked, as Lightning Fabric has it from its import on: the answer must not depend
    on what was imported before, and CUDA, once started, could not be used in a forked loader process.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    return torch.cuda.is_available()


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], device: str) -> tuple[Precision, str]:
    """Return the arithmetic of the network, and why: bf16 where the processor computes with it."""
    if wanted != "auto":
        return wanted, "set"
    if device == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        has = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return ("bf16", "the processor has bf16") if has else ("fp32", "the processor has no bf16")


def choose_mirror_axes(wanted: Sequence[str] | None, structures: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """Return the axes that may be flipped: x alone, or none where a structure's name tells its side."""
    if wanted is not None:
        return tuple(sorted({"xyz".index(axis) for axis in wanted})), "set"
    sided = [name for name in structures if _SIDES.search(_HUMP.sub(" ", name).lower())]
    if sided:
        return (), f"{sided[0]!r} has a side, which a flip would swap"
    return (0,), "left and right are the body's one near-symmetry"


def _by(values: Sequence[int]) -> str:
    return " x ".join(map(str, values))
