"""From an image as it was read to what the network sees.

Canonical orientation, crop to the box of non-zero voxels, intensities, target spacing. Intensities are z-scores per
channel over its non-zero voxels (applied to all voxels, zeros included: Iwasawa et al. 2020 and their published
preprocessing), but for CT, whose numbers mean something: clipped and scaled by the labelled foreground's
percentiles, mean and deviation (nnU-Net), and not cropped, because a zero is water there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frugalseg.data.placement import Placement
from frugalseg.data.resample import new_shape
from frugalseg.geometry import Box, Grid, Reorder, nonzero_box
from frugalseg.settings import Settings

Millimetres = Annotated[float, Field(gt=0, le=1000)]
Kind = Literal["zscore", "ct"]

ALIKE = 0.01  # spacings that differ by less than this share are one spacing
MAX_GROWTH = 64  # times as many voxels: a target spacing of another unit, or a mistake
_PIECE = 2**22  # voxels that are worked on at a time where double precision is needed


class PreprocessSettings(Settings):
    """What `prepare` does to an image; what it leaves open is chosen from the data (`data.choose`)."""

    crop_nonzero: bool = True
    """Cut away the border in which every channel is zero; never done where a channel is CT."""
    spacing: Literal["median", "none"] | tuple[Millimetres, Millimetres, Millimetres] = "median"
    """Size of a voxel in mm (to the right, to the front, upwards) that all images are resampled to. `median`: that
    of the training images, and none of it where they have one spacing already."""
    normalise: Literal["auto"] | Kind | tuple[Kind, ...] = "auto"
    """`zscore`: mean 0 and standard deviation 1 over each channel's non-zero voxels. `ct`: clipped to the labelled
    foreground's percentiles 0.5 and 99.5, less its mean, over its deviation. `auto`: `ct` for a channel named CT.
    A list has one for each channel."""
    missing_channels: Literal["refuse", "zero"] = "refuse"
    """A case without a file for a channel: refused, or the channel is 0 and training drops channels at times
    (`augment.channel_dropout`)."""


class Window(Settings):
    """How a CT channel is scaled: clipped to `low` and `high`, then less `mean`, over `deviation`."""

    low: float
    high: float
    mean: float
    deviation: Annotated[float, Field(gt=0)]


class Preparation(Settings):
    """What is done to every image of a run, nothing left open: in the key of each stored case, and in the plan."""

    crop_nonzero: bool = True
    """Whether the border of zeros is cut away."""
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = None
    """Target spacing in mm along the canonical axes; None: no training image was resampled."""
    uniform: tuple[Millimetres, Millimetres, Millimetres] | None = None
    """What all training images have, where none was resampled. A later image of other spacing is brought to it;
    None: images keep their own."""
    windows: tuple[Window | None, ...] = ()
    """Of each channel that is CT; None, or fewer of them than channels: z-scores."""
    zero_missing: bool = False
    """Whether a channel without a file is 0 instead of refused."""

    def window(self, channel: int) -> Window | None:
        """Return a CT channel's scaling, None for z-scores."""
        return self.windows[channel] if channel < len(self.windows) else None

    def target(self, grid: Grid) -> tuple[float, float, float] | None:
        """Return the spacing that an image on this grid (canonical axes) is brought to; None: it keeps its own."""
        if self.spacing is not None or self.uniform is None:
            return self.spacing
        solid = np.array(grid.shape) > 1  # the thickness of a single slice is no spacing
        apart = np.abs(np.array(grid.spacing) / self.uniform - 1)[solid].max(initial=0)
        return self.uniform if apart >= ALIKE else None

    def same_voxels(self, other: Preparation) -> bool:
        """Whether all images get the same voxels by both, as far as older ones say."""
        if self.uniform is None or other.uniform is None:
            return self.spacing == other.spacing
        return bool(np.abs(np.array(self.uniform) / other.uniform - 1).max() < ALIKE)

    def key(self, grid: Grid | None = None) -> dict[str, Any]:
        """Return what a stored image depends on. What is not used is left out: it changes no key.

        Args:
            grid: Where the image's voxels lie, along canonical axes; by default one that is as training images are.
        """
        key: dict[str, Any] = {"crop_nonzero": self.crop_nonzero, "normalise": "zscore"}
        target = self.spacing if grid is None else self.target(grid)
        if target is not None:
            key["spacing"] = list(target)
        if any(window is not None for window in self.windows):
            key["windows"] = [None if window is None else window.model_dump() for window in self.windows]
        return key


@dataclass(frozen=True)
class Prepared:
    """A prepared image (channel, x, y, z) in float32, and `background`: what stands for nothing in each channel.

    That is what a raw zero became; in a CT channel what the darkest voxels became, and 0 in a missing one.
    """

    image: NDArray[np.float32]
    background: tuple[float, ...]
    placement: Placement


class TooManyVoxels(ValueError):
    """The target spacing would make far too many voxels of an image."""


def preprocess(
    grid: Grid, image: NDArray[np.float32], settings: Preparation, missing: Sequence[int] = ()
) -> Prepared:
    """Prepare an image (channel, x, y, z) that was read on `grid`; the image itself is left as it is.

    Args:
        grid: Where its voxels lie.
        image: Its voxels.
        settings: What is done to it.
        missing: Channels that are not known; they become 0 whatever they hold.

    Raises:
        ValueError: A voxel is NaN or infinite, or the target spacing makes far too many voxels of it.
    """
    count = sum(int(channel.size - np.isfinite(channel).sum()) for channel in image)
    if count:
        raise ValueError(f"{count} of {image.size} voxels are NaN or infinite")
    reorder = Reorder.to_canonical(grid)
    canonical = reorder.apply(image)
    x, y, z = canonical.shape[1:]
    box: Box = nonzero_box(canonical) if settings.crop_nonzero else ((0, x), (0, y), (0, z))
    placement = placed(Placement(grid, reorder, box), settings)
    cut = np.array(placement.cut(image), order="C")  # always a copy: it is normalised in place
    background = []
    for place, channel in enumerate(cut):
        if place in missing:
            channel[...] = 0
            background.append(0.0)
        elif (window := settings.window(place)) is not None:
            background.append(scale_ct(channel, window))
        else:
            mean, deviation = nonzero_moments(channel)
            channel -= np.float32(mean)
            channel /= np.float32(deviation)
            background.append(-mean / deviation)
    # Scaled first: a z-score is that of the voxels that were measured.
    return Prepared(placement.resample_image(cut), tuple(background), placement)


def placed(placement: Placement, settings: Preparation) -> Placement:
    """Return the placement with the number of voxels that the target spacing asks for.

    Raises:
        TooManyVoxels: They are more than 64 times as many.
    """
    cut = placement.cut_grid
    target = settings.target(cut)
    if target is None:
        return placement
    shape = new_shape(cut.shape, cut.spacing, target)
    if np.prod(np.array(shape, np.float64)) > MAX_GROWTH * np.prod(np.array(cut.shape, np.float64)):
        old, new = ("x".join(f"{side:.3g}" for side in spacing) for spacing in (cut.spacing, target))
        raise TooManyVoxels(
            f"resampled from {old} to {new} mm it would have {'x'.join(map(str, shape))} voxels, more than "
            f"{MAX_GROWTH} times as many"
        )
    return placement if shape == cut.shape else Placement(placement.grid, placement.reorder, placement.box, shape)


def scale_ct(channel: NDArray[np.float32], window: Window) -> float:
    """Clip and scale a channel (x, y, z) in place; return what its darkest voxels become."""
    np.clip(channel, np.float32(window.low), np.float32(window.high), out=channel)
    channel -= np.float32(window.mean)
    channel /= np.float32(window.deviation)
    return (window.low - window.mean) / window.deviation


def nonzero_moments(channel: NDArray[np.float32]) -> tuple[float, float]:
    """Return mean and population standard deviation of the non-zero voxels, in float64.

    The deviation of a constant channel is given as 1; a channel of zeros has (0, 1).
    """
    # Voxels in double precision take three times the memory of the channel: a piece at a time, twice.
    values = channel[channel != 0]
    if values.size == 0:
        return 0.0, 1.0
    pieces = [values[start : start + _PIECE] for start in range(0, values.size, _PIECE)]
    mean = sum(float(piece.astype(np.float64).sum()) for piece in pieces) / values.size
    squares = sum(float(np.square(piece.astype(np.float64) - mean).sum()) for piece in pieces)
    deviation = float(np.sqrt(squares / values.size))
    return mean, deviation if deviation > 0 else 1.0
