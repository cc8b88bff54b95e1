"""Group normalisation followed by ReLU, as one operation that keeps both its neighbours fast on a CPU.

There a convolution is 1.2 to 4 times faster on maps in channels-last order, and PyTorch's group normalisation up to
30 times faster on maps in the ordinary one (docs/decisions/0006, 0013). PyTorch's pair of operations leaves the
change of order to whoever comes next: the convolution does it twice, and ReLU's backward pass walks through one map
in each order, at a twentieth of the memory's speed. Here the order changes once each way; and maps that lie in no
cache are not reordered at all: the kernels of batch normalisation are fast in channels-last order, and are made to
compute what group normalisation needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

NORM_GROUPS = 8
NORM_EPS = 1e-5
CHANNELS_LAST = torch.channels_last_3d
LARGE = 2**20  # elements of a sample's map from which on it is not reordered: about the size of a core's cache
LANES = 128  # channels that the vector units are kept busy with
aten = torch.ops.aten


class Normalisation(nn.GroupNorm):
    """Group normalisation and ReLU of (B, C, x, y, z)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, x, y, z) to the same shape; on a CPU in channels-last order."""
        if x.device.type != "cpu":
            return self._on_a_gpu(x)
        way = _Streamed if x[0].numel() >= LARGE else _Reordered
        if torch.is_grad_enabled():
            out: Tensor = way.apply(  # type: ignore[no-untyped-call]
                x, self.weight, self.bias, self.num_groups, self.eps
            )
            return out
        result: Tensor = way.compute(x, self.weight, self.bias, self.num_groups, self.eps)[0]
        return result

    def _on_a_gpu(self, x: Tensor) -> Tensor:
        """Compute in the type of `x`, as on a CPU. Left alone, autocast turns maps of bf16 into single precision.

        The kernel adds up in single precision whatever the type.
        """
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            out = functional.group_norm(x, self.num_groups, weight, bias, self.eps)
        return functional.relu(out, inplace=True)


def normalisation(channels: int) -> Normalisation:
    """Return group normalisation with 8 groups, and ReLU."""
    return Normalisation(NORM_GROUPS, channels, eps=NORM_EPS)


class _Reordered(torch.autograd.Function):
    """PyTorch's own kernels, with a change of order before and after: for maps that fit into a cache.

    As many samples at a time as fit there together: what lies between the changes of order is small and used again.
    """

    @staticmethod
    def compute(
        x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, keep: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        out = torch.empty_like(x, memory_format=CHANNELS_LAST)
        kept: list[Tensor] = []  # of each part: the map in ordinary order, mean, 1 / sd
        for part, target in zip(_parts(x), _parts(out)):
            count, channels, voxels = len(part), part.shape[1], part[0, 0].numel()
            plain = part.contiguous()
            found, *statistics = torch.native_group_norm(plain, weight, bias, count, channels, voxels, groups, eps)
            target.copy_(found.relu_())
            if keep:
                kept += [plain, *statistics]
        return out, kept

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        out, kept = _Reordered.compute(x, weight, bias, groups, eps, keep=True)
        ctx.groups = groups
        ctx.save_for_backward(weight, out, *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, out, *kept = ctx.saved_tensors
        into = torch.empty_like(out)  # in the order that the convolution before it wants
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        parts = zip(_parts(gradient), _parts(out), _parts(into), kept[::3], kept[1::3], kept[2::3])
        for passed, shown, target, plain, mean, rstd in parts:
            count, channels, voxels = len(plain), plain.shape[1], plain[0, 0].numel()
            through = _through_relu(passed, shown).contiguous()
            dx, dw, db = aten.native_group_norm_backward(
                through, plain, mean, rstd, weight, count, channels, voxels, ctx.groups, [True, True, True]
            )
            target.copy_(dx)
            by_weight += dw
            by_bias += db
        return into, by_weight, by_bias, None, None


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Return the samples of a map in parts that fit into a cache."""
    parts: tuple[Tensor, ...] = x.split(max(1, LARGE // x[0].numel()))
    return parts


class _Streamed(torch.autograd.Function):
    """Kernels of batch normalisation, sample by sample, in channels-last order: for maps that lie in no cache.

    A sample (C, x, y, z) is looked at as k C channels of a k-th of its voxels each, so that the vector units are
    full. With statistics m, r = 1 / sd of each group of M elements, w and b of each channel, and
    y = (x - m) r w + b, a gradient g of y gives

        db = sum g,   dw = sum g (x - m) r,   dx = r w g - r^2 S(w dw) (x - m) - r S(w db),

    where S is the sum over a group's channels, divided by M (Wu and He 2018, differentiated).
    """

    @staticmethod
    def compute(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, ...]:
        x = x.contiguous(memory_format=CHANNELS_LAST)
        out = torch.empty_like(x, memory_format=CHANNELS_LAST)
        fold = _Fold.of(x, groups)
        means, rstds = [], []
        for source, target in zip(x.split(1), out.split(1)):
            # The buffers only say that statistics are wanted in the weights' precision.
            unused = weight.new_zeros(2, fold.times * x.shape[1])
            mean, variance = aten.batch_norm_update_stats(fold.view(source), unused[0], unused[1], 0.0)
            mean, variance = (value.view(fold.times, groups, -1) for value in (mean, variance))
            middle = mean.mean(dim=(0, 2))
            spread = (variance + (mean - middle[None, :, None]).square()).mean(dim=(0, 2))
            rstd = (spread + eps).rsqrt()
            _affine(fold, source, target, middle, _each(rstd, weight), bias)
            means.append(middle)
            rstds.append(rstd)
        return out.relu_(), x, torch.stack(means), torch.stack(rstds)

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        out, x, mean, rstd = _Streamed.compute(x, weight, bias, groups, eps)
        ctx.groups = groups
        ctx.save_for_backward(x, weight, mean, rstd, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, means, rstds, out = ctx.saved_tensors
        groups, channels = ctx.groups, x.shape[1]
        gradient = _through_relu(gradient, out)
        into = torch.empty_like(x, memory_format=CHANNELS_LAST)
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        fold = _Fold.of(x, groups)
        size = x[0].numel() // groups
        for part, source, target, mean, rstd in zip(gradient.split(1), x.split(1), into.split(1), means, rstds):
            at = fold.each(mean), fold.each(rstd)
            _, dw, db = aten.native_batch_norm_backward(
                fold.view(part), fold.view(source), at[1], None, None, *at, True, 0.0, (False, True, True)
            )
            dw, db = (value.view(fold.times, channels).sum(dim=0) for value in (dw, db))
            by_weight += dw
            by_bias += db
            slope, level = ((weight * value).view(groups, -1).sum(dim=1) / size for value in (dw, db))
            _affine(fold, source, target, mean, fold.channels(-rstd.square() * slope), fold.channels(-rstd * level))
            scaled = torch.empty_like(target)
            _affine(fold, part, scaled, torch.zeros_like(mean), _each(rstd, weight), torch.zeros_like(weight))
            target += scaled
        return into, by_weight, by_bias, None, None


class _Fold:
    """Looking at a sample (1, C, x, y, z) in channels-last order as (1, k C, 1, voxels / k)."""

    def __init__(self, times: int, channels: int, groups: int) -> None:
        self.times, self.count, self.groups = times, channels, groups

    @staticmethod
    def of(x: Tensor, groups: int) -> _Fold:
        channels, voxels = x.shape[1], x[0, 0].numel()
        times = 1
        while times * channels < LANES and voxels % (2 * times) == 0:
            times *= 2
        return _Fold(times, channels, groups)

    def view(self, sample: Tensor) -> Tensor:
        return sample.permute(0, 2, 3, 4, 1).reshape(1, 1, -1, self.times * self.count).permute(0, 3, 1, 2)

    def channels(self, of_group: Tensor) -> Tensor:
        """Return a value of each group (G,) for each channel (C,)."""
        return of_group.repeat_interleave(self.count // self.groups)

    def each(self, of_group: Tensor) -> Tensor:
        """Return a value of each group (G,) for each folded channel (k C,)."""
        return self.channels(of_group).repeat(self.times)


def _affine(fold: _Fold, source: Tensor, target: Tensor, mean: Tensor, scale: Tensor, shift: Tensor) -> None:
    """Write (source - mean) * scale + shift to target; mean of each group, the others of each channel."""
    at = fold.each(mean)
    unused = at.new_empty(0)
    # Batch normalisation with given statistics: variance 1 and no epsilon, so that the scale is all there is.
    aten.native_batch_norm.out(
        fold.view(source), scale.repeat(fold.times), shift.repeat(fold.times), at, torch.ones_like(at),
        False, 0.0, 0.0, out=fold.view(target), save_mean=unused, save_invstd=unused,
    )  # fmt: skip


def _each(of_group: Tensor, weight: Tensor) -> Tensor:
    """Return a value of each group (G,) times the weight of each channel (C,)."""
    return (of_group[:, None] * weight.view(len(of_group), -1)).flatten()


def _through_relu(gradient: Tensor, out: Tensor) -> Tensor:
    """Return the gradient where ReLU let its argument pass; in channels-last order, as the map `out` is."""
    through: Tensor = aten.threshold_backward(gradient.contiguous(memory_format=CHANNELS_LAST), out, 0)
    return through
