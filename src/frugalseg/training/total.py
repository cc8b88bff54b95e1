"""The sum of all objectives: every named scalar is weighted here, once.

total = sum of w_i s_i over the supervised loss's scalars, plus W times such a sum for each task, where s_i are what
the objectives return, w_i their own `weights`, and W is the task's `weight` in the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
            losses = task.loss(outputs_of(name, out), _own(name, batch))
            scalars.update({f"{name}.{key}": value for key, value in losses.items()})
            parts = [task.weights[key] * value for key, value in losses.items()]
            totals[name] = self.weights[name] * torch.stack(parts).sum()
        return Terms(totals, scalars)

    def metrics(self, out: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the tasks' scalars that are logged only."""
        found = {}
        for name, task in self.tasks.items():
            values = task.metrics(outputs_of(name, out), _own(name, batch))
            found.update({f"{name}.{key}": value for key, value in values.items()})
        return found

    @property
    def separable(self) -> bool:
        """Whether each objective can go backward by itself at no cost."""
        return all(task.own_graph for task in self.tasks.values())


def _own(name: str, batch: Batch) -> Batch:
    """Return the batch as a task sees it: of the further targets only its own."""
    return replace(batch, extra=outputs_of(name, batch.extra))
