"""Reading the golden values, and their parameters into our modules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "goldens"
FEATURES: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
LOSSES: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-6}
GRADIENTS: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-7}


class Goldens:
    """One file of golden values, by name."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as content:
            self.arrays: dict[str, NDArray[np.generic]] = {key: content[key] for key in content.files}

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[name]))

    def load(self, module: nn.Module, prefix: str, rename: dict[str, str] | None = None) -> None:
        """Fill every parameter of `module` from the values below `prefix`; none may be missing or left over."""
        state = {}
        for name in self.arrays:
            if name.startswith(prefix + "/"):
                key = name[len(prefix) + 1 :]
                for old, new in (rename or {}).items():
                    key = key.replace(old, new)
                state[key.replace("/", ".")] = self[name]
        module.load_state_dict(state, strict=True)


LEVELS = {f"block{i}/": f"levels/{i}/" for i in range(4)}
RESIDUALS = {f"res{j}/": f"res/{j}/" for j in range(8)}
ENCODER_NAMES = {**LEVELS, **RESIDUALS}
DECODER_NAMES = {f"block{i}/": f"levels/{2 - i}/" for i in range(3)}
