"""The chunks of contrastive tasks, which become smaller where memory runs out, and stay so when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping

from frugalseg.jobs.build import tasks_of
from frugalseg.networks import MultiTaskNetwork
from frugalseg.objectives import ContrastivePredictiveCoding


def chunks_of(network: MultiTaskNetwork) -> dict[str, int | None]:
    """Return how many patches each contrastive task encodes at a time now; None: all."""
    tasks = tasks_of(network).items()
    return {name: task.chunk for name, task in tasks if isinstance(task, ContrastivePredictiveCoding)}


def take_chunks(network: MultiTaskNetwork, chunks: Mapping[str, int | None]) -> None:
    """Take over smaller chunks than those of the configuration, made because memory ran out before."""
    for name, task in tasks_of(network).items():
        size = chunks.get(name)
        if isinstance(task, ContrastivePredictiveCoding) and size is not None:
            task.chunk = min(size, task.chunk or size)
