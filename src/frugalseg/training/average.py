"""A running mean of the weights, which predicts better than the last step's when steps are noisy.

Polyak and Juditsky 1992; the exponential form is that of Tarvainen and Valpola 2017 (mean teacher). Early on it
forgets faster, (1 + n) / (10 + n) of it stays in step n, where they keep 1 - 1 / (n + 1). It is updated after each
optimiser step and saved in every checkpoint, so a resumed run has the same one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of some of a network's weights.

    Args:
        network: Whose weights are averaged.
        names: Which of them (names of its state dictionary).
        decay: Share of the old mean that stays in each step, once the warm-up is over.
    """

    def __init__(self, network: nn.Module, names: Collection[str], decay: float) -> None:
        self.decay = decay
        own = network.state_dict()
        self._live = {name: own[name] for name in sorted(names)}
        self.weights = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step number `step` (from 1).

        Early on the mean forgets faster, (1 + step) / (10 + step), so that the random start leaves it.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), list(self._live.values()), 1 - decay)

    @contextmanager
    def in_place(self, network: nn.Module) -> Iterator[None]:
        """Within the `with` block `network` has the mean weights; after it, its own again."""
        own = {name: tensor.clone() for name, tensor in self._live.items()}
        network.load_state_dict(self.weights, strict=False)
        try:
            yield
        finally:
            network.load_state_dict(own, strict=False)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from a saved mean."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
