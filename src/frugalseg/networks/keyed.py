"""Random numbers that are a function of a key and a position, the same on every device and in every chunk.

A generator's stream depends on who drew before; these do not. A sample's dropout mask and negatives come from
its key, so that encoding 448 patches at once or 16 at a time, twice (activation checkpointing) or on another
process gives the same network. The mixing function is the 32-bit finaliser found by Chris Wellons' search
("lowbias32", public domain), used as a counter-based hash.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B9 - 2**32  # 2^32 / golden ratio, as a signed number: spreads neighbouring keys
_M1, _M2 = 0x7FEB352D, 0x846CA68B - 2**32


def _mix(words: Tensor) -> Tensor:
    """Mix int32 words in place; a bijection of 32 bits. The masks turn arithmetic shifts into logical ones."""
    words ^= (words >> 16) & 0xFFFF
    words *= _M1
    words ^= (words >> 15) & 0x1FFFF
    words *= _M2
    words ^= (words >> 16) & 0xFFFF
    return words


def keyed_words(keys: Tensor, count: int) -> Tensor:
    """Return (B, count) random int32 words for integer `keys` (B,)."""
    seeds = _mix((keys.to(torch.int32) * _GOLDEN).clone())
    counters = torch.arange(count, dtype=torch.int32, device=keys.device)
    return _mix((counters[None] * _GOLDEN) ^ seeds[:, None])


def subkeys(keys: Tensor, count: int) -> Tensor:
    """Return (B, count) int64 keys derived from `keys` (B,), for the parts (patches) of each sample."""
    return (keyed_words(keys ^ 0x5BD1E995, count) & 0x7FFFFFFF).to(torch.int64)


def keyed_dropout(x: Tensor, keys: Tensor, rate: float) -> Tensor:
    """Element-wise dropout of `x` (B, ...) whose masks are functions of `keys` (B,).

    Two 16-bit draws come from each word: the rate is rounded to a multiple of 1/65536 and the kept elements are
    scaled by the exact inverse of the rounded share.
    """
    threshold = round(rate * 65536)
    if threshold == 0:
        return x
    elements = x[0].numel()
    words = keyed_words(keys, (elements + 1) // 2)
    draws = words.view(torch.int16)[:, :elements].reshape(x.shape)  # uniform on [-32768, 32767]
    keep = (draws >= threshold - 32768).to(x.dtype)
    if x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d):
        keep = keep.contiguous(memory_format=torch.channels_last_3d)  # a product of two orders is 10 times slower
    return x * keep.mul_(65536 / (65536 - threshold))


def keyed_choice(keys: Tensor, population: int, count: int) -> Tensor:
    """Return (B, count) different indices below `population` for each of `keys` (B,), in random order."""
    order = keyed_words(keys ^ 0x3C6EF372, population).argsort(dim=1)
    return order[:, :count]


def keyed_normal(keys: Tensor, count: int) -> Tensor:
    """Return (B, count) float32 standard normal numbers for `keys` (B,), by the transform of Box and Muller (1958).

    Two 32-bit words make two numbers. They are worked out in float64, so that rounding to float32 hides how
    a device or a vector unit computes a logarithm. The largest that can occur is sqrt(-2 ln 2^-33) = 6.8.
    """
    words = keyed_words(keys ^ 0x1B873593, 2 * ((count + 1) // 2)).to(torch.float64)
    uniform = (words + 2**31 + 0.5) / 2**32  # the middles of 2^32 equal parts of (0, 1): never 0, whose log is not
    radius = (-2 * uniform[:, 0::2].log()).sqrt()
    angle = 2 * math.pi * uniform[:, 1::2]
    pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=2)
    return pairs.flatten(1)[:, :count].to(torch.float32)
