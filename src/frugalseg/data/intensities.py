"""Changes of a crop's intensities, by parameters that were drawn before (`frugalseg.data.augment`)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from frugalseg.data.augment import Draw


def intensities(image: NDArray[np.float32], drawn: Draw) -> NDArray[np.float32]:
    """Apply the drawn intensity changes to a crop (channel, x, y, z); the array may be changed in place."""
    if drawn.noise is not None:
        deviation, seed = drawn.noise
        generator = np.random.Generator(np.random.Philox(seed))
        image = image + generator.standard_normal(image.shape, dtype=np.float32) * np.float32(deviation)
    for channel, sigma in enumerate(drawn.blur):
        if sigma > 0:
            image[channel] = ndimage.gaussian_filter(image[channel], sigma, truncate=3.0)
    if drawn.gain != 1.0:
        image = image * np.float32(drawn.gain)
    if drawn.contrast is not None:
        image = _contrast(image, drawn.contrast)
    for channel, factor in enumerate(drawn.low_resolution):
        if factor < 1:
            image[channel] = _low_resolution(image[channel], factor)
    if drawn.inverted_gamma is not None:
        image = -_gamma(-image, drawn.inverted_gamma)
    if drawn.gamma is not None:
        image = _gamma(image, drawn.gamma)
    if drawn.shift is not None:
        image = image + drawn.shift[:, None, None, None]
    return image


def _contrast(image: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = image.mean(axis=(1, 2, 3), keepdims=True)
    low, high = image.min(axis=(1, 2, 3), keepdims=True), image.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray(((image - mean) * factors[:, None, None, None] + mean).clip(low, high))


def _gamma(image: NDArray[np.float32], exponents: NDArray[np.float32]) -> NDArray[np.float32]:
    axes = (1, 2, 3)
    low = image.min(axis=axes, keepdims=True)
    span = np.maximum(image.max(axis=axes, keepdims=True) - low, np.float32(1e-7))
    mean, deviation = image.mean(axis=axes, keepdims=True), image.std(axis=axes, keepdims=True)
    curved = ((image - low) / span) ** exponents[:, None, None, None] * span + low
    curved -= curved.mean(axis=axes, keepdims=True)
    curved *= deviation / np.maximum(curved.std(axis=axes, keepdims=True), np.float32(1e-7))
    return np.asarray(curved + mean)


def _low_resolution(channel: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    small = [max(1, round(side * factor)) for side in channel.shape]
    voxels = torch.from_numpy(np.ascontiguousarray(channel))[None, None]
    shrunk = functional.interpolate(voxels, small, mode="nearest-exact")
    return np.asarray(
        functional.interpolate(shrunk, channel.shape, mode="trilinear", align_corners=False)[0, 0].numpy()
    )
