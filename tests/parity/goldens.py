"""Reading the golden values, and their parameters into our modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frugalseg.networks import published

FOLDER = Path(__file__).parents[1] / "goldens"
FEATURES: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
LOSSES: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
GRADIENTS: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-7}


class Goldens:
    """One file of golden values, by name."""

    def __init__(self, name: str) -> None:
        self.path = FOLDER / f"{name}.npz"
        self.arrays = published.read(self.path)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def load(self, module: nn.Module, prefix: str, head: nn.Module | None = None) -> None:
        """Fill every parameter of `module` (and `head`) from the values below `prefix`, none being left over."""
        wanted = published.named(module, prefix)
        if head is not None:
            wanted |= published.named(head, f"{prefix}/head")
        below = {name: array for name, array in self.arrays.items() if name.startswith(prefix + "/")}
        published.fill(wanted, below, self.path)


def count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def no_encoder(image: Tensor, keys: Tensor) -> list[Tensor]:
    """Stand in for the shared encoder where a branch must use the maps that it is given."""
    raise AssertionError("the branch encodes something of its own")
