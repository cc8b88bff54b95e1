"""Schedules end at 0; the published decay is what it says."""

from __future__ import annotations

import torch
from torch import nn

from frugalseg.training.optimiser import PublishedAdam, learning_rate, make_optimiser
from frugalseg.training.settings import TrainingSettings


def test_poly_by_hand_and_at_both_ends() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup=0.0)
    assert learning_rate(settings, 0, 100) == 1.0
    assert abs(learning_rate(settings, 50, 100) - 0.5**0.9) < 1e-12
    assert 0 < learning_rate(settings, 99, 100) < 0.02
    # The published schedule becomes a complex number here.
    assert learning_rate(settings, 150, 100) == 0.0


def test_warmup_rises_and_cosine_ends() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup=0.1, schedule="cosine")
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert rates[99] < 0.001


def test_published_decay_does_not_follow_the_learning_rate() -> None:
    for rate in (1e-1, 1e-9):
        weight = nn.Parameter(torch.tensor([2.0]))
        optimiser = PublishedAdam([weight], lr=rate, decay=0.25)
        weight.grad = torch.zeros(1)
        optimiser.step()
        assert float(weight.detach()) == 1.5


def test_adamw_spares_norms_and_biases() -> None:
    optimiser = make_optimiser(
        TrainingSettings(weight_decay=0.5), nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2))
    )
    decays = {group["weight_decay"]: len(group["params"]) for group in optimiser.param_groups}
    assert decays == {0.5: 1, 0.0: 3}
