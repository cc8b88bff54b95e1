"""What preparing leaves open, chosen from the data: target spacing from headers, CT scaling from readable labels.

The choice is made once, before the first case is prepared, and stands in the run's plan: `predict` and a resumed
run read it there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.channels import is_ct, read_channels
from frugalseg.data.manifest import Case, Manifest
from frugalseg.data.preprocess import ALIKE, Preparation, PreprocessSettings, Window
from frugalseg.data.readers import read_header, read_label
from frugalseg.data.resample import COARSE
from frugalseg.errors import UserError
from frugalseg.files import hash_value
from frugalseg.geometry import Reorder

SAMPLE = 10_000  # foreground voxels of a case that its CT channels are measured on
PERCENTILES = (0.5, 99.5)
THIN = 10  # percentile of the spacing along a coarse axis

Spacing = tuple[float, float, float]


def choose(
    manifest: Manifest, readable: Collection[str], settings: PreprocessSettings, workers: int = 1
) -> tuple[Preparation, dict[str, str]]:
    """Return what is done to every image, and the reasons for it.

    Args:
        manifest: The data set.
        readable: Names of the cases whose labels may be read; the other label files are not opened.
        settings: What the user asked for.
        workers: Cases read at a time.

    Raises:
        DataError: A header, or for CT an image or a readable label, cannot be read.
        UserError: `normalise` has another number of channels, or CT has no labelled foreground to be scaled by.
    """
    reasons: dict[str, str] = {}
    kinds = choose_kinds(manifest.channels, settings)
    spacing, uniform, reasons["spacing"] = choose_spacing(manifest.training, settings)
    windows: tuple[Window | None, ...] = ()
    if "ct" in kinds:
        cases = [case for case in manifest.training if case.name in readable and case.label is not None]
        windows, reasons["normalise"] = choose_windows(manifest, cases, kinds, workers)
    else:
        reasons["normalise"] = "z-scores over the non-zero voxels: no channel is CT"
    preparation = Preparation(
        crop_nonzero=settings.crop_nonzero and "ct" not in kinds,
        spacing=spacing,
        uniform=uniform,
        windows=windows,
        zero_missing=settings.missing_channels == "zero",
    )
    return preparation, reasons


def choose_kinds(channels: Sequence[str], settings: PreprocessSettings) -> tuple[str, ...]:
    """Return how each channel is normalised, "zscore" or "ct".

    Raises:
        UserError: The setting has another number of channels than the data.
    """
    wanted = settings.normalise
    if wanted == "auto":
        return tuple("ct" if is_ct(name) else "zscore" for name in channels)
    if isinstance(wanted, str):
        return (wanted,) * len(channels)
    if len(wanted) != len(channels):
        raise UserError(
            f"has {len(wanted)} entries, the data {len(channels)} channels: {', '.join(channels)}; give one each",
            "preprocess.normalise",
        )
    return wanted


def choose_spacing(
    cases: Sequence[Case], settings: PreprocessSettings
) -> tuple[Spacing | None, Spacing | None, str]:
    """Return the target spacing (mm, canonical axes), what all have where none is resampled, and why; None: not so.

    The median of the cases along each axis; along axes whose median is more than 3 times the finest the 10th
    percentile (as nnU-Net has it): where half of the images have thick slices, the median would throw away most of
    what the thin ones show, whereas thick slices lose nothing by becoming thin.
    """
    if settings.spacing == "none":
        return None, None, "set: images keep their own"
    if not isinstance(settings.spacing, str):
        return settings.spacing, None, "set"
    grids = [read_header(case.image).grid for case in cases]
    canonical = [Reorder.to_canonical(grid).apply_grid(grid) for grid in grids]
    table = np.array([grid.spacing for grid in canonical])
    solid = np.array([[side > 1 for side in grid.shape] for grid in canonical])
    target = np.median(table, axis=0)
    used = solid.any(axis=0)  # an axis of one voxel is never resampled
    if used.any():
        coarse = used & (target > COARSE * target[used].min())
        low = np.percentile(table, THIN, axis=0)
        # Not below the other axes: a coarse one stays the coarsest.
        target = np.where(coarse, np.maximum(low, target[~coarse & used].max(initial=0)), target)
    else:
        coarse = used
    apart = float(np.where(solid, np.abs(table / target - 1), 0).max())
    words = " x ".join(f"{side:.4g}" for side in target)
    x, y, z = (float(f"{side:.4g}") for side in target)
    if apart < ALIKE:
        # What no image has along an axis, single slices say nothing of.
        return (
            None,
            (x, y, z) if used.all() else None,
            f"all images have one, {words} mm (within {ALIKE:.0%}): none of them is resampled",
        )
    thin = "".join("xyz"[axis] for axis in np.flatnonzero(coarse))
    how = f" (coarse along {thin}: the {THIN}th percentile there)" if thin else ""
    x, y, z = (float(side) for side in target)
    return (x, y, z), None, f"{words} mm, the median of {len(cases)} images{how}, which differ by up to {apart:.0%}"


def choose_windows(
    manifest: Manifest, cases: Sequence[Case], kinds: Sequence[str], workers: int = 1
) -> tuple[tuple[Window | None, ...], str]:
    """Return the scaling of each CT channel from the foreground of these cases' labels, None for others, and why.

    Raises:
        DataError: An image or label cannot be read.
        UserError: No label has foreground.
    """
    with ThreadPoolExecutor(max_workers=workers) as pool:
        samples = list(pool.map(lambda case: foreground(manifest, case), cases))
    windows: list[Window | None] = []
    counted = 0
    for channel, kind in enumerate(kinds):
        if kind != "ct":
            windows.append(None)
            continue
        known = [values[channel] for values, case in zip(samples, cases) if channel not in case.missing]
        values = np.concatenate(known).astype(np.float64) if known else np.empty(0)
        if not values.size:
            raise UserError(
                f"channel {manifest.channels[channel]} is CT, which is scaled by what the labels show, and none of "
                f"the {len(cases)} labels that may be read shows any structure in it; set it to zscore",
                "preprocess.normalise",
            )
        counted = values.size
        low, high = (float(value) for value in np.percentile(values, PERCENTILES))
        deviation = float(values.std())
        windows.append(Window(low=low, high=high, mean=float(values.mean()), deviation=deviation or 1.0))
    words = "; ".join(
        f"{name}: clipped to {w.low:.6g} ... {w.high:.6g}, less {w.mean:.6g}, over {w.deviation:.6g}"
        for name, w in zip(manifest.channels, windows)
        if w is not None
    )
    return tuple(windows), f"{words} (from {counted} foreground voxels of {len(cases)} labels); not cropped"


def foreground(manifest: Manifest, case: Case) -> NDArray[np.float32]:
    """Return the intensities (channel, n) of up to 10,000 random voxels of a case's structures."""
    assert case.label is not None
    scheme = manifest.scheme
    _, label, _ = read_label(case.label, scheme.allowed)
    places = np.flatnonzero((label != 0) & ~scheme.ignored(label))
    _, image = read_channels(case.images, manifest.channels, "the data set has", case.missing)
    if image[0].size != label.size:
        return np.empty((len(image), 0), np.float32)  # preparing the case will say what is wrong with it
    if places.size > SAMPLE:
        generator = np.random.Generator(np.random.Philox(int(hash_value(case.name)[:8], 16)))
        places = np.sort(generator.choice(places, SAMPLE, replace=False))
    return finite(image.reshape(len(image), -1)[:, places])


def finite(values: NDArray[Any]) -> NDArray[Any]:
    """Return the columns without NaN or infinity; a case with such voxels is refused when it is prepared."""
    return values[:, np.isfinite(values).all(axis=0)]
