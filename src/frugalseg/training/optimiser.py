"""Optimisers and learning-rate schedules, as functions of the step alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from frugalseg.training.settings import TrainingSettings


class PublishedAdam(torch.optim.Adam):
    """Adam whose decay is W <- (1 - d) W in each step, not scaled by the learning rate, on every parameter.

    The published code's rule. AdamW with weight decay d / lr equals it in the first step only, because AdamW's
    term shrinks with the schedule.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, decay: float) -> None:
        super().__init__(parameters, lr=lr)
        self.decay = decay

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Decay, then take Adam's step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - self.decay)
        loss: float | None = super().step(closure)
        return loss


def make_optimiser(settings: TrainingSettings, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser. AdamW leaves norms and biases without decay, as is usual; `published` does not."""
    if settings.optimiser == "published":
        return PublishedAdam(network.parameters(), settings.learning_rate, settings.weight_decay)
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # One pass over the weights instead of a dozen.
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `steps`."""
    warmup = settings.warmup * steps
    rise = min(1.0, (step + 1) / warmup) if warmup >= 1 else 1.0
    if settings.schedule_unit == "epoch" and settings.epochs is not None:
        step = step * settings.epochs // steps * steps // settings.epochs  # the first step of its epoch
    done = min(1.0, step / steps)  # beyond the end it stays 0: a power of a negative number is complex
    fall = {
        "poly": (1 - done) ** 0.9,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "constant": 1.0,
    }[settings.schedule]
    return float(settings.learning_rate * rise * fall)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def flat_gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return a copy of the parameters' gradients as one vector; absent ones count as 0."""
    parts = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters]
    return torch.cat(parts)
