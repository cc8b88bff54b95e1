"""The teacher: the student's network with the running mean of its weights, without dropout and without gradient.

Its parameters are the running mean's own tensors: nothing is copied when the mean moves on, and what a checkpoint
restores the teacher has, too. Weights that the mean lacks are the student's; segmenting needs none of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from frugalseg.networks import MultiTaskNetwork

Module = TypeVar("Module", bound=nn.Module)


class Teacher:
    """Segments with the mean weights.

    Args:
        student: The network.
        mean: The running mean of its weights, by name; updated in place.
    """

    def __init__(self, student: MultiTaskNetwork, mean: Mapping[str, Tensor]) -> None:
        self.network = likeness(student, mean)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Return logits (n, R x K, x, y, z) of images (n, C, x, y, z)."""
        return self.network.segment(image)


def likeness(module: Module, weights: Mapping[str, Tensor], prefix: str = "") -> Module:
    """Return a module of the same form in evaluation mode, whose parameters are these tensors, or else its own.

    Args:
        module: Its model; not changed.
        weights: Tensors by the parameters' names below `prefix`.
        prefix: Name of the module and a dot, or nothing.
    """
    twin = copy.copy(module)
    own = {name: value for name, value in module._parameters.items() if value is not None}
    twin._parameters = {**module._parameters} | {
        name: nn.Parameter(weights.get(prefix + name, value).detach(), requires_grad=False)
        for name, value in own.items()
    }
    twin._modules = {
        name: None if child is None else likeness(child, weights, f"{prefix}{name}.")
        for name, child in module._modules.items()
    }
    twin.training = False
    return twin
