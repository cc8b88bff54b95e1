"""The sum of all objectives: every named scalar is weighted here, once.

total = sum of w_i s_i over the supervised loss's scalars, plus W times such a sum for each task, where s_i are what
the objectives return, w_i their own `weights`, and W is the task's `weight` in the configuration. With a teacher
such a sum on what it says comes in, times `weight` and the ramp of `semisup`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from frugalseg.objectives import Batch, SegmentationLoss, Task
from frugalseg.objectives.base import outputs_of
from frugalseg.objectives.consistency import CONSISTENCY, ConsistencyLoss

SEGMENTATION = "segmentation"


@dataclass(frozen=True)
class Terms:
    """A step's losses: `totals` are the objectives' weighted sums, `scalars` the unweighted terms by name."""

    totals: dict[str, Tensor]
    scalars: dict[str, Tensor]


class Objectives:
    """The supervised loss and the auxiliary tasks, with their weights."""

    def __init__(
        self,
        segmentation: SegmentationLoss,
        tasks: Mapping[str, Task],
        weights: Mapping[str, float],
        consistency: ConsistencyLoss | None = None,
    ) -> None:
        self.segmentation = segmentation
        self.consistency = consistency
        self.tasks = dict(tasks)
        self.weights = dict(weights)

    def __call__(self, out: Mapping[str, Tensor], batch: Batch) -> Terms:
        """Evaluate all objectives; the supervised one stands first."""
        named = self.segmentation(labelled_logits(out, batch), batch)
        scalars = {f"{SEGMENTATION}.{name}": value for name, value in named.items()}
        parts = [self.segmentation.weights[name] * value for name, value in named.items()]
        totals = {SEGMENTATION: torch.stack(parts).sum()}
        if self.consistency is not None and batch.pseudo is not None:
            named = self.consistency(out["logits"], batch)
            scalars.update({f"{CONSISTENCY}.{name}": value for name, value in named.items()})
            parts = [self.consistency.weights[name] * value for name, value in named.items()]
            totals[CONSISTENCY] = batch.pseudo.factor * torch.stack(parts).sum()
        for name, task in self.tasks.items():
            losses = task.loss(outputs_of(name, out), _own(name, batch))
            scalars.update({f"{name}.{key}": value for key, value in losses.items()})
            parts = [task.weights[key] * value for key, value in losses.items()]
            totals[name] = self.weights[name] * torch.stack(parts).sum()
        return Terms(totals, scalars)

    def metrics(self, out: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the tasks' scalars that are logged only."""
        found = {}
        if self.consistency is not None:
            found[f"{CONSISTENCY}.share"] = self.consistency.share(batch)
        for name, task in self.tasks.items():
            values = task.metrics(outputs_of(name, out), _own(name, batch))
            found.update({f"{name}.{key}": value for key, value in values.items()})
        return found

    @property
    def separable(self) -> bool:
        """Whether each objective can go backward by itself at no cost."""
        return self.consistency is None and all(task.own_graph for task in self.tasks.values())

    @property
    def several(self) -> bool:
        """Whether there is any objective beside the supervised one."""
        return self.consistency is not None or bool(self.tasks)


def labelled_logits(out: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Return the logits that the supervised loss looks at; those of samples that a teacher segments come after."""
    return out["logits"] if batch.pseudo is None else out["logits"][: batch.pseudo.labelled]


def _own(name: str, batch: Batch) -> Batch:
    """Return the batch as a task sees it: of the further targets only its own."""
    return replace(batch, extra=outputs_of(name, batch.extra))
