"""Sums over the processes of a run, so that each of them has the loss of the whole step's samples.

A step's samples may be spread over processes in any way: one may have no labelled sample at all. The mean of the
processes' means is then not the mean over the samples, so losses add up numerators and denominators instead, and
the data-parallel wrapper, which averages the processes' gradients, arrives at the gradient of one process:

    every process has the same L, a function of S = sum over processes p of s_p(weights)
    the derivative of the sum of all L's with respect to s_p is  sum over processes of dL/dS = P dL/dS
    hence the average over the P processes of (P dL/dS)(ds_p/dw) is dL/dw

Outside of `sharing`, and with one process, a sum is the tensor itself, at no cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed


class Share(NamedTuple):
    """Which samples of a step a process has: those numbered rank, rank + world, rank + 2 world, ..."""

    rank: int
    world: int


_current: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Within the `with` block, which all processes must enter, sums run over the processes."""
    token = _current.set(share if share.world > 1 else None)
    try:
        yield
    finally:
        _current.reset(token)


class _Sum(torch.autograd.Function):
    """All-reduce; its adjoint is an all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _reduced(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _reduced(gradients[0])


def _reduced(x: Tensor) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def all_sum(x: Tensor) -> Tensor:
    """Return the sum of every process's `x`, all of one shape. All processes must call it, in the same order."""
    if _current.get() is None:
        return x
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


def all_rows(rows: Tensor) -> Tensor:
    """Return every process's rows (one a sample), in the order of the step's samples, with gradient."""
    share = _current.get()
    if share is None:
        return rows
    count = int(all_sum(torch.tensor(len(rows), device=rows.device)))
    places = row_numbers(len(rows), rows.device)
    return all_sum(rows.new_zeros(count, *rows.shape[1:]).index_copy(0, places, rows))


def row_numbers(count: int, device: torch.device) -> Tensor:
    """Return the numbers (count,) of this process's rows among those of all processes."""
    share = _current.get() or Share(0, 1)
    return share.rank + share.world * torch.arange(count, device=device)
