"""What a study will take, from a few timed steps of each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg.config import load_config
from frugalseg.data.manifest import Manifest
from frugalseg.errors import UserError
from frugalseg.jobs.needs_text import size
from frugalseg.study.design import Design

_CHECKPOINTS = 2  # the last and the one before
_ADAM = 3  # weights and two moments
_STEPS_TIMED = 24  # for hours of training; four would be off by half where another job happens to wake
_PREDICTION_BYTES = 30_000  # a compressed label map, a little more on large images


@dataclass(frozen=True)
class StepCost:
    """Seconds of one training step, bytes of the model's weights, and seconds of a pre-training before it."""

    seconds: float
    weight_bytes: int
    before: float = 0.0

    def steps_in(self, minutes: float) -> int:
        """Return how many steps fit into so many minutes after the pre-training; at least one.

        Raises:
            UserError: The pre-training alone takes longer.
        """
        if self.before >= minutes * 60:
            raise UserError(
                f"{minutes:g} minutes are less than a pre-training of {self.before / 60:.1f} minutes takes; give "
                "more, or fewer pretrain.steps",
                "--minutes",
            )
        return max(1, int((minutes * 60 - self.before) / self.seconds))


UNTRAINED = StepCost(1e-9, 0)  # fits into any time


@dataclass(frozen=True)
class Estimate:
    """Hours of computing and bytes of disk, per method and in all; time to predict and evaluate is not in it."""

    cells: int
    steps: Mapping[str, int]
    seconds: Mapping[str, float]
    disk_bytes: int

    @property
    def hours(self) -> float:
        """Hours of training in all, one run after another."""
        return sum(self.seconds.values()) / 3600

    def render(self) -> str:
        """Return a table for people."""
        lines = [f"{'method':<24}{'steps':>9}{'hours':>9}"]
        lines += [f"{name:<24}{self.steps[name]:>9}{spent / 3600:>9.2f}" for name, spent in self.seconds.items()]
        lines.append(
            f"{self.cells} runs: {self.hours:.1f} hours of training one after another (predicting and scoring come "
            f"on top), about {size(self.disk_bytes)} of disk"
        )
        return "\n".join(lines)


def estimate(
    design: Design, costs: Mapping[str, StepCost], steps: Mapping[str, int], manifest: Manifest, keep: bool
) -> Estimate:
    """Return what the design's cells take."""
    seconds = dict.fromkeys(costs, 0.0)
    disk = 0
    for cell in design.cells:
        seconds[cell.method] += costs[cell.method].before + steps[cell.method] * costs[cell.method].seconds
        # A pre-training's own checkpoints lie beside those of the training.
        runs = 2 if costs[cell.method].before else 1
        own = (
            runs * _CHECKPOINTS * (1 + _ADAM) * costs[cell.method].weight_bytes
            + len(manifest.test) * _PREDICTION_BYTES
        )
        disk = disk + own if keep else max(disk, own)  # one run is there at a time, whatever stays of it
    return Estimate(len(design.cells), dict(steps), seconds, disk)


Timer = Callable[[Path, str | Path, int, int, Sequence[str], Path | None], StepCost]
"""What returns the cost of a step: `measure_step`, or what does so where several cells run at a time."""


def measure_step(
    data: Path,
    recipe: str | Path,
    labels: int,
    seed: int,
    overrides: Sequence[str],
    store: Path | None,
    begin: Callable[[], object] | None = None,
) -> StepCost:
    """Time a few training steps of a method on the data, after a warm-up. Nothing is written but prepared cases.

    Args:
        data: The data set.
        recipe: The method.
        labels: Size of the budget.
        seed: Of the label set.
        overrides: Settings.
        store: Where prepared cases are kept.
        begin: Called right before the steps.
    """
    from frugalseg.jobs.measure import undertaken

    if not load_config(recipe, overrides).trained:
        return UNTRAINED
    run = undertaken(data, recipe, labels, seed, overrides, store)
    network = run.network()
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    if begin is not None:
        begin()
    before = run.config.pretrain
    spent = 0.0
    if before is not None:
        first = undertaken(data, recipe, labels, seed, overrides, store, pretraining=True)
        spent = before.steps * first.seconds_a_step(first.network(), _STEPS_TIMED)
    return StepCost(run.seconds_a_step(network, _STEPS_TIMED), size, spent)
