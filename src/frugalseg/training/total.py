"""The sum of all objectives: every named scalar is weighted here, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, Task
from frugalseg.objectives.base import outputs_of

SEGMENTATION = "segmentation"


@dataclass(frozen=True)
class Terms:
    """A step's losses: `totals` are the objectives' weighted sums, `scalars` the unweighted terms by name."""

    totals: dict[str, Tensor]
    scalars: dict[str, Tensor]


class Objectives:
    """The supervised loss and the auxiliary tasks, with their weights."""

    def __init__(
        self, segmentation: SegmentationLoss, tasks: Mapping[str, Task], weights: Mapping[str, float]
    ) -> None:
        self.segmentation = segmentation
        self.tasks = dict(tasks)
        self.weights = dict(weights)

    def __call__(self, out: Mapping[str, Tensor], batch: Batch) -> Terms:
        """Evaluate all objectives; the supervised one stands first."""
        named = self.segmentation(out["logits"], batch)
        scalars = {f"{SEGMENTATION}.{name}": value for name, value in named.items()}
        parts = [self.segmentation.weights[name] * value for name, value in named.items()]
        totals = {SEGMENTATION: torch.stack(parts).sum()}
        for name, task in self.tasks.items():
            losses = task.loss(outputs_of(name, out), batch)
            scalars.update({f"{name}.{key}": value for key, value in losses.items()})
            totals[name] = self.weights[name] * torch.stack(list(losses.values())).sum()
        return Terms(totals, scalars)

    def metrics(self, out: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the tasks' scalars that are logged only."""
        found = {}
        for name, task in self.tasks.items():
            values = task.metrics(outputs_of(name, out), batch)
            found.update({f"{name}.{key}": value for key, value in values.items()})
        return found

    @property
    def separable(self) -> bool:
        """Whether each objective can go backward by itself at no cost."""
        return all(task.own_graph for task in self.tasks.values())
