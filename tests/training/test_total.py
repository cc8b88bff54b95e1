"""Every scalar is weighted once: its own weight within the task, the task's weight in the sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, SegmentationSettings, Task
from frugalseg.objectives.base import Named
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
