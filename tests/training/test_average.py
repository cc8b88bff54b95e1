"""The running mean of the weights."""

from __future__ import annotations

import torch
from torch import nn

from frugalseg.training.average import WeightAverage


def make() -> nn.Linear:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, 1.0)
    nn.init.constant_(layer.bias, 5.0)
    return layer


def test_two_steps_by_hand() -> None:
    layer = make()
    average = WeightAverage(layer, ["weight"], decay=0.5)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        average.update(1)  # the warm-up's decay (1 + 1) / (10 + 1) is the smaller one
        first = 1 * 2 / 11 + 2 * 9 / 11
        torch.testing.assert_close(average.weights["weight"], torch.tensor([[first]]))
        layer.weight.fill_(4.0)
        average.update(1000)
    torch.testing.assert_close(average.weights["weight"], torch.tensor([[0.5 * first + 0.5 * 4]]))


def test_in_place_and_back() -> None:
    layer = make()
    average = WeightAverage(layer, ["weight"], decay=0.9)
    with torch.no_grad():
        layer.weight.fill_(3.0)
    with average.in_place(layer):
        assert layer.weight.item() == 1.0
        assert layer.bias.item() == 5.0
    assert layer.weight.item() == 3.0
    assert average.weights["weight"].item() == 1.0


def test_going_on_from_a_saved_mean() -> None:
    layer = make()
    average = WeightAverage(layer, ["weight"], decay=0.9)
    average.load({"weight": torch.full((1, 1), 7.0)})
    with torch.no_grad():
        average.update(10**6)
    torch.testing.assert_close(average.weights["weight"], torch.full((1, 1), 0.9 * 7 + 0.1 * 1))
