"""Averages over processes, where the data-parallel wrapper does not take them (several backward passes a step)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def average(tensors: Sequence[Tensor], world: int) -> None:
    """Replace the tensors by their means over `world` processes, in one exchange."""
    if world == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(flat)
    parts = flat.div_(world).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def average_gradients(parameters: Iterable[nn.Parameter], world: int) -> None:
    """Replace the gradients by their means over `world` processes, which have those of the same parameters."""
    average([parameter.grad for parameter in parameters if parameter.grad is not None], world)
