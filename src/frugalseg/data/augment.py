"""Augmentation: the parameters are drawn first, from the sample's own generator, then applied.

Presets: `published` (Iwasawa et al. 2020: flips, intensity shift of 0.1, isotropic scaling by 0.9 to 1.1) and
`strong` (nnU-Net, Isensee et al. 2021: the probabilities and ranges of its code, nnUNetTrainerV2 and version 2's
nnUNetTrainer, which are milder in part than those that the paper's supplementary note 4 prints; here one gain
serves all channels, and low resolution comes back linearly, not cubically). Each operation has a probability and a
range; 0 switches it off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch.nn import functional

from frugalseg.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
Generator = np.random.Generator


class AugmentSettings(Settings):
    """What happens to a training crop, how often, and how much."""

    mirror: Probability = 0.5
    """Chance of a flip along each of the mirror axes."""
    rotate: Probability = 0.2
    """Chance of a rotation."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest angle about each axis, in degrees."""
    scale: Probability = 0.2
    """Chance of isotropic scaling."""
    scale_range: Range = (0.7, 1.4)
    """Factor by which the anatomy grows."""
    noise: Probability = 0.1
    """Chance of Gaussian noise."""
    noise_variance: Range = (0.0, 0.1)
    """Its variance, in units of the normalised image."""
    blur: Probability = 0.2
    """Chance of Gaussian blur; each channel then takes part with chance 0.5."""
    blur_sigma: Range = (0.5, 1.0)
    """Its standard deviation in voxels."""
    shift: Probability = 0.0
    """Chance of adding a constant to each channel."""
    shift_range: Range = (-0.1, 0.1)
    """That constant."""
    gain: Probability = 0.15
    """Chance of multiplying all intensities."""
    gain_range: Range = (0.75, 1.25)
    """That factor."""
    contrast: Probability = 0.15
    """Chance of scaling each channel about its mean, clipped to its own range."""
    contrast_range: Range = (0.75, 1.25)
    """That factor."""
    low_resolution: Probability = 0.25
    """Chance of down- and up-sampling; each channel then takes part with chance 0.5."""
    low_resolution_range: Range = (0.5, 1.0)
    """Factor on the number of voxels a side."""
    gamma: Probability = 0.3
    """Chance of a gamma curve on each channel's own range, mean and deviation kept."""
    inverted_gamma: Probability = 0.1
    """Chance of the same on the negated channel."""
    gamma_range: Range = (0.7, 1.5)
    """The exponent."""
    deform: Probability = 0.0
    """Chance that a labelled crop is deformed as its case is when it is laid onto another one; needs `atlas`."""
    deform_range: Range = (0.0, 1.0)
    """Share of that displacement."""
    channel_dropout: Probability | None = None
    """Chance of setting each channel to 0, as a missing one is, but never all; by default 0.1 with
    `preprocess.missing_channels=zero`, else 0."""

    @model_validator(mode="after")
    def _ranges(self) -> AugmentSettings:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple) and not value[0] <= value[1]:
                raise ValueError(f"{name}: the lower end {value[0]:g} is above the upper end {value[1]:g}")
        for name in ("scale_range", "low_resolution_range", "gamma_range"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"{name} must be above 0")
        for name in ("noise_variance", "blur_sigma"):
            if getattr(self, name)[0] < 0:
                raise ValueError(f"{name} must not be below 0")
        if self.low_resolution_range[1] > 1:
            raise ValueError("low_resolution_range must not be above 1")
        return self


OFF = AugmentSettings(
    **dict.fromkeys(
        (
            "mirror",
            "rotate",
            "scale",
            "noise",
            "blur",
            "shift",
            "gain",
            "contrast",
            "low_resolution",
            "gamma",
            "inverted_gamma",
        ),
        0.0,
    )
)
PUBLISHED = OFF.model_copy(
    update={"mirror": 0.5, "shift": 1.0, "scale": 1.0, "scale_range": (0.9, 1.1)},
)
STRONG = AugmentSettings()
PRESETS = {"none": OFF, "published": PUBLISHED, "strong": STRONG}


@dataclass(frozen=True)
class Draw:
    """The drawn parameters of one sample. None or an empty tuple: the operation is left out.

    `matrix` (3, 3) takes a step in voxels inside the crop to the step in voxels in the source. `deform`: which of
    the ways in which a labelled case can be deformed, from 0 to 1, and what share of it.
    """

    flips: tuple[int, ...]
    matrix: NDArray[np.float64] | None
    shift: NDArray[np.float32] | None
    noise: tuple[float, int] | None
    blur: tuple[float, ...]
    gain: float
    contrast: NDArray[np.float32] | None
    low_resolution: tuple[float, ...]
    gamma: NDArray[np.float32] | None
    inverted_gamma: NDArray[np.float32] | None
    dropped: tuple[int, ...]
    deform: tuple[float, float] | None = None


def draw(
    generator: Generator,
    settings: AugmentSettings,
    channels: int,
    spacing: tuple[float, float, float],
    mirror_axes: tuple[int, ...],
    flat: tuple[int, ...] = (),
) -> Draw:
    """Draw one sample's parameters. The generator moves on by what is switched on, nothing else.

    Args:
        generator: The sample's own.
        settings: How often and how much.
        channels: Of the image.
        spacing: In mm.
        mirror_axes: Axes along which it may be flipped.
        flat: Axes of one voxel: nothing is turned out of the plane, where there is nothing to see.
    """

    def happens(chance: float) -> bool:
        return chance > 0 and generator.random() < chance

    def each(limits: Range) -> NDArray[np.float32]:
        return generator.uniform(*limits, size=channels).astype(np.float32)

    flips = tuple(axis for axis in mirror_axes if happens(settings.mirror))
    angles = (
        generator.uniform(-1, 1, 3) * np.deg2rad(settings.rotate_degrees)
        if happens(settings.rotate)
        else np.zeros(3)
    )
    factor = generator.uniform(*settings.scale_range) if happens(settings.scale) else 1.0
    noise = None
    if happens(settings.noise):
        noise = (float(np.sqrt(generator.uniform(*settings.noise_variance))), int(generator.integers(2**63)))
    blur: tuple[float, ...] = ()
    if happens(settings.blur):
        blur = tuple(float(s) for s in np.where(generator.random(channels) < 0.5, each(settings.blur_sigma), 0))
    gain = float(generator.uniform(*settings.gain_range)) if happens(settings.gain) else 1.0
    contrast = each(settings.contrast_range) if happens(settings.contrast) else None
    low: tuple[float, ...] = ()
    if happens(settings.low_resolution):
        low = tuple(
            float(s) for s in np.where(generator.random(channels) < 0.5, each(settings.low_resolution_range), 1)
        )
    return Draw(
        flips=flips,
        matrix=_matrix(_in_plane(angles, flat), factor, spacing),
        shift=each(settings.shift_range) if happens(settings.shift) else None,
        noise=noise,
        blur=blur,
        gain=gain,
        contrast=contrast,
        low_resolution=low,
        inverted_gamma=each(settings.gamma_range) if happens(settings.inverted_gamma) else None,
        gamma=each(settings.gamma_range) if happens(settings.gamma) else None,
        # These last, so that the other draws are those of a run without them.
        dropped=tuple(channel for channel in range(channels) if happens(settings.channel_dropout or 0.0)),
        deform=_deformation(generator, settings) if happens(settings.deform) else None,
    )


def _deformation(generator: Generator, settings: AugmentSettings) -> tuple[float, float]:
    return float(generator.random()), float(generator.uniform(*settings.deform_range))


def _in_plane(angles: NDArray[np.float64], flat: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the angles about the three axes without those that would turn a flat axis."""
    return np.array([0.0 if any(axis != other for other in flat) else angle for axis, angle in enumerate(angles)])


def _matrix(
    angles: NDArray[np.float64], factor: float, spacing: tuple[float, float, float]
) -> NDArray[np.float64] | None:
    """Rotation about the three axes, in millimetres, then scaling, as a map of voxel steps."""
    if factor == 1.0 and not angles.any():
        return None
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    size = np.array(spacing)
    # A factor above 1 enlarges the anatomy: the crop then sees a smaller part of the source.
    return np.asarray(rotation * size[None, :] / size[:, None] / factor)


def reach(matrix: NDArray[np.float64] | None, crop: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the sides in voxels of the source box that a transformed crop needs, of the crop's parity."""
    if matrix is None:
        return crop
    half = np.abs(matrix) @ ((np.array(crop) - 1) / 2)
    sides = [crop_side + 2 * int(np.ceil(h - (crop_side - 1) / 2)) for h, crop_side in zip(half, crop)]
    return max(1, sides[0]), max(1, sides[1]), max(1, sides[2])


def resample(
    source: NDArray[np.float32], matrix: NDArray[np.float64], crop: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Sample (channel, x, y, z) trilinearly at the transformed voxels of a crop about the source's centre.

    Outside the source every channel is 0.
    """
    axes = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in crop]
    steps = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    places = steps @ torch.from_numpy(matrix.T.astype(np.float32))
    # grid_sample wants (z, y, x) in [-1, 1] from edge to edge of the source. (From the first to the last voxel's
    # centre, its other way, has no length where a side is one voxel: every place would be inside.)
    half = torch.tensor([side / 2 for side in source.shape[1:]])
    grid = (places / half).flip(-1)[None]
    sampled = functional.grid_sample(torch.from_numpy(source)[None], grid, "bilinear", "zeros", align_corners=False)
    return np.asarray(sampled[0].numpy())


def flip(array: NDArray[Any], flips: tuple[int, ...]) -> NDArray[Any]:
    """Mirror (channel, x, y, z) along the drawn axes."""
    return np.ascontiguousarray(np.flip(array, tuple(axis + 1 for axis in flips))) if flips else array
