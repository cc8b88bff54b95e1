"""Every scalar is weighted once: its own weight within the task, the task's weight in the sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings, Task
from frugalseg.objectives.base import Named, Pseudo
from frugalseg.objectives.consistency import ConsistencyLoss
from frugalseg.training.total import Objectives

SIDES = (2, 2, 2)


class Echo(Task):
    """Returns what it is given, and the targets that it sees."""

    loss_names: ClassVar[tuple[str, ...]] = ("a", "b")

    def loss(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        return {"a": out["x"] + batch.extra["shift"], "b": out["y"]}

    def metrics(self, out: Named, batch: Batch) -> dict[str, Tensor]:
        return {"targets": torch.tensor(len(batch.extra))}


class Weighted(Echo):
    @property
    def weights(self) -> Mapping[str, float]:
        return {"b": 7.0, "a": 0.5}


def batch() -> Batch:
    zeros = torch.zeros(1, 1, *SIDES, dtype=torch.uint8)
    extra = {"one.shift": torch.tensor(0.0), "two.shift": torch.tensor(10.0), "one.other": torch.tensor(1.0)}
    return Batch(torch.zeros(1, 1, *SIDES), zeros, zeros, torch.zeros(1).long(), torch.zeros(1).long(), 1, extra)


def test_what_a_teacher_says_is_weighted_once() -> None:
    settings = SegmentationSettings(dice_weight=0.25)
    sums = Objectives(SegmentationLoss(settings, 1, 2), {}, {}, ConsistencyLoss(settings, 1, 2))
    truth = torch.zeros(1, 1, 2, *SIDES)
    truth[:, :, 1] = 1
    given = batch()
    given = replace(given, segmented=1, pseudo=Pseudo(truth, torch.ones(1, 1, *SIDES), factor=0.3, labelled=0))
    terms = sums({"logits": torch.zeros(1, 2, *SIDES)}, given)
    # p = 1/2 everywhere: cross-entropy log 2, Dice of the structure 2 (8/2) / (8/4 + 8) = 0.8, of the background 0.
    cross_entropy, dice = (float(terms.scalars[f"consistency.{name}"]) for name in ("cross_entropy", "dice"))
    assert cross_entropy == pytest.approx(math.log(2))
    assert dice == pytest.approx(1 - (0.8 + 0) / 2, abs=1e-4)
    assert float(terms.totals["consistency"]) == pytest.approx(0.3 * (0.25 * dice + 0.75 * cross_entropy))


def test_weights_by_hand_and_targets_by_task() -> None:
    tasks: dict[str, Task] = {"one": Echo(), "two": Weighted()}
    sums = Objectives(SegmentationLoss(SegmentationSettings(), 1, 2), tasks, {"one": 3.0, "two": 0.25})
    x, y = torch.tensor(2.0), torch.tensor(5.0)
    out = {"logits": torch.zeros(1, 2, *SIDES), "one.x": x, "one.y": y, "two.x": x, "two.y": y}
    terms = sums(out, batch())
    assert {name: float(value) for name, value in terms.totals.items()} == {
        "segmentation": 0.0,
        "one": 3 * (2 + 5),
        "two": 0.25 * (0.5 * (2 + 10) + 7 * 5),
    }
    assert {name: float(value) for name, value in terms.scalars.items() if name[0] in "ot"} == {
        "one.a": 2,
        "one.b": 5,
        "two.a": 12,
        "two.b": 5,
    }
    assert {name: int(value) for name, value in sums.metrics(out, batch()).items()} == {
        "one.targets": 2,
        "two.targets": 1,
    }
