"""The loop. There is one, for every method; what differs between methods is data, objectives and settings.

With several processes each has its share of a step's samples. Losses, metrics and gradients are those of the whole
step on every one of them (see `objectives.across`), so all take the same decisions; the first one writes.

Order within a step: samples, forward, losses, a backward pass (one an objective where gradients are compared), a
look at the numbers, clipping, the optimiser, the log, then perhaps a checkpoint: never in the middle. Nothing in
here draws a random number: samples, dropout and negatives are functions of the sample's number, so there is no
generator state to keep.

Where memory runs out before the optimiser's turn, the step is begun once more with tasks that need less
(docs/decisions/0011).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from frugalseg.errors import TrainingError
from frugalseg.objectives import Batch
from frugalseg.objectives.across import Share, all_rows, sharing
from frugalseg.objectives.consistency import CONSISTENCY
from frugalseg.objectives.segmentation import hard_dice
from frugalseg.semisup import Semisup, Teacher
from frugalseg.training.average import WeightAverage
from frugalseg.training.gradients import average, average_gradients
from frugalseg.training.log import Log
from frugalseg.training.memory import OutOfMemory, noticing_memory
from frugalseg.training.optimiser import flat_gradient, learning_rate, set_learning_rate
from frugalseg.training.settings import TrainingSettings
from frugalseg.training.stop import StopRequest
from frugalseg.training.total import SEGMENTATION, Objectives, labelled_logits

if TYPE_CHECKING:
    from lightning_fabric import Fabric

RATIO_EVERY = 50  # steps between two gradient ratios where one costs a backward pass: about 1 % of the time


class Progress(Protocol):
    """Shows how far training is."""

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Show the state after `step` steps."""


@dataclass
class Loop:
    """Everything a run of the loop needs.

    `save` writes a checkpoint of the given step. `validate` looks at the validation cases every `validate_every`
    steps and returns False if it was cut off by a request to stop; `looked` is the last step it was finished at. A
    checkpoint between a step and its look is possible: whoever goes on from it looks first.
    """

    fabric: Fabric
    network: nn.Module
    encoder: nn.Module
    objectives: Objectives
    optimiser: torch.optim.Optimizer
    settings: TrainingSettings
    steps: int
    structures: tuple[str, ...]
    case_names: tuple[str, ...]
    log: Log | None
    save: Callable[[int], None]
    average: WeightAverage | None = None
    semisup: Semisup | None = None
    teacher: Teacher | None = None
    validate: Callable[[int], bool] | None = None
    looked: int = 0
    progress: Progress | None = None
    tell: Callable[[str], None] = lambda line: None

    def run(self, batches: Iterable[Batch], first: int, stop: StopRequest) -> int:
        """Train from step `first` to the last or until asked to stop; return the number of steps taken in all.

        Raises:
            TrainingError: A loss or gradient is not finite; names step and cases. No checkpoint is written then.
            OutOfMemory: Memory ran out, and again with smaller chunks where there are some; likewise.
        """
        self.network.train()
        saved = time.monotonic()
        step = first
        if self._look(step, stop):
            self._save(step)
        self._agree(stop)
        if stop.signal is not None:  # that look is still due: no step may come before it
            return step
        begun = time.perf_counter()
        for batch in batches:
            waited = time.perf_counter() - begun
            values = self.step(step, batch)
            step += 1
            now = time.perf_counter()
            if self.log is not None:
                self.log.write(step, values, now - begun, waited)
            if self.progress is not None:
                self.progress.update(step, values)
            self._look(step, stop)
            self._agree(stop)
            due = time.monotonic() - saved >= self.settings.checkpoint_seconds
            if due or step == self.steps or stop.signal is not None:
                self._save(step)
                saved = time.monotonic()
            if stop.signal is not None:
                break
            begun = time.perf_counter()
        return step

    @property
    def share(self) -> Share:
        """Which of a step's samples this process has."""
        return Share(self.fabric.global_rank, self.fabric.world_size)

    def _agree(self, stop: StopRequest) -> None:
        """A signal to one process stops all of them after the same step."""
        if self.share.world > 1:
            number = torch.tensor(stop.signal or 0, device=self.fabric.device)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
            stop.signal = int(number) or None

    def look_due(self, step: int) -> bool:
        """Whether the validation cases, if there are any, are to be looked at after `step` and have not been."""
        due = step > 0 and (step % self.settings.validate_every == 0 or step == self.steps)
        return due and self.looked != step

    def _look(self, step: int, stop: StopRequest) -> bool:
        """Look at the validation cases if that is due; return whether that was done."""
        if self.validate is None or not self.look_due(step) or stop.signal is not None:
            return False
        done = self.validate(step)
        if done:
            self.looked = step
        self.network.train()
        return done

    def _save(self, step: int) -> None:
        """Write a checkpoint, after the rows that belong to it."""
        if self.log is not None:
            self.log.flush()
        self.save(step)

    def step(self, step: int, batch: Batch) -> dict[str, float]:
        """Take optimiser step number `step` (from 0) and return what is logged of it.

        Raises:
            TrainingError, OutOfMemory: As in `run`.
        """
        with sharing(self.share):
            rate = learning_rate(self.settings, step, self.steps)
            set_learning_rate(self.optimiser, rate)
            values = self._gradients_again(step, batch)
            with noticing_memory(step):
                self.optimiser.step()
                if self.average is not None:
                    self.average.update(step + 1)
            return {"learning_rate": rate, **values}

    def _gradients_again(self, step: int, batch: Batch) -> dict[str, float]:
        """Return `_gradients`, at the second attempt if memory runs out at the first.

        Nothing is left of a failed attempt: gradients are made anew, weights and optimiser have not been touched,
        and there is no generator whose state would have moved on. Several processes cannot try again: the others
        wait for this one in the middle of the step, with results of theirs in hand. Then the run ends.
        """
        try:
            with noticing_memory(step):
                return self._gradients(step, batch)
        except OutOfMemory as error:
            if self.share.world > 1:
                raise
            happened = error.happened
        # Out of the `except` block: the error's traceback holds the failed attempt's tensors.
        self.optimiser.zero_grad(set_to_none=True)
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        spared = {name: task.spare_memory(len(batch.image)) for name, task in self.objectives.tasks.items()}
        changes = [f"{name}: {change}" for name, change in spared.items() if change is not None]
        if not changes:
            raise OutOfMemory(happened)
        self.tell(f"memory {happened}; the step is taken once more, with less ({'; '.join(changes)})")
        with noticing_memory(step):
            return self._gradients(step, batch)

    def _gradients(self, step: int, batch: Batch) -> dict[str, float]:
        """Leave clipped gradients at the weights; return what is to be logged, measures on the crops added.

        The device is waited for once: all numbers are fetched together, after all that makes them was begun.
        """
        self.optimiser.zero_grad(set_to_none=True)
        measure = self.objectives.several and (self.objectives.separable or step % RATIO_EVERY == 0)
        if self.semisup is not None:
            batch = self._taught(step, batch)
        with ExitStack() as stack:
            if measure and self.share.world > 1:
                # The wrapper expects one backward pass for each forward pass; these gradients are averaged below.
                wrapped: Any = self.network
                stack.enter_context(self.fabric.no_backward_sync(wrapped))
            out = self.network(batch.image, batch.keys, batch.segmented)
            terms = self.objectives(out, batch)
            ratios = self._backward(terms.totals, measure)
        norm = self.fabric.clip_gradients(
            self.network,
            self.optimiser,
            max_norm=self.settings.clip or math.inf,
            error_if_nonfinite=False,
        )
        wanted = {"gradient_norm": norm if norm is not None else torch.tensor(math.nan), **terms.scalars}
        must_be_finite = list(wanted)
        wanted |= ratios | self._measures({name: tensor.detach() for name, tensor in out.items()}, batch)
        values = fetched(wanted)
        self._require_finite(step, batch, {name: values[name] for name in must_be_finite})
        return values

    def _taught(self, step: int, batch: Batch) -> Batch:
        """Return the batch with what the teacher says of it, in the precision of the student's forward pass."""
        assert self.semisup is not None
        assert self.teacher is not None
        with self.fabric.autocast():
            return self.semisup.prepare(batch, self.teacher, step, self.steps)

    def _measures(self, out: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the Dice of every structure on the crops, and what the tasks measure."""
        segmentation = self.objectives.segmentation
        logits = labelled_logits(out, batch)
        scores = hard_dice(logits, batch, segmentation.groups, segmentation.classes)
        measures = {f"dice.{name}": score for name, score in zip(self.structures, scores, strict=True)}
        return measures | dict(self.objectives.metrics(out, batch))

    def _backward(self, totals: Mapping[str, Tensor], measure: bool) -> dict[str, Tensor]:
        """Accumulate all gradients; return each task's gradient norm on the encoder over the supervised one's."""
        if not measure:
            self.fabric.backward(torch.stack(list(totals.values())).sum())
            return {}
        ratios: dict[str, Tensor] = {}
        parameters = list(self.encoder.parameters())
        before: Tensor | None = None
        reference = torch.zeros(())
        left = len(totals)
        for name, total in totals.items():
            left -= 1
            self.fabric.backward(total, retain_graph=left > 0)
            if left == 0:
                average_gradients(self.network.parameters(), self.share.world)
            now = flat_gradient(parameters)
            if left > 0:
                average([now], self.share.world)
            norm = (now if before is None else now - before).norm()
            if name == SEGMENTATION:
                reference = norm
            else:
                ratios[f"{name}.gradient_ratio"] = torch.where(reference > 0, norm / reference, math.nan)
            before = now
        return ratios

    def _require_finite(self, step: int, batch: Batch, values: Mapping[str, float]) -> None:
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            cases = all_rows(batch.cases.to(self.fabric.device))
            names = ", ".join(sorted({self.case_names[int(index)] for index in cases}))
            raise TrainingError(
                f"{', '.join(bad)} is not a finite number at step {step + 1} (cases {names}); look at these images "
                "with `frugalseg check`, or lower training.learning_rate, or set training.precision=fp32; "
                "the last checkpoint is intact",
                "training",
            )

    def columns(self) -> list[str]:
        """Return the names of what `step` returns, in order."""
        names = ["learning_rate", "gradient_norm"]
        names += [f"{SEGMENTATION}.{name}" for name in self.objectives.segmentation.weights]
        names += [f"dice.{name}" for name in self.structures]
        if self.objectives.consistency is not None:
            names += [f"{CONSISTENCY}.{name}" for name in (*self.objectives.consistency.weights, "share")]
            names.append(f"{CONSISTENCY}.gradient_ratio")
        for name, task in self.objectives.tasks.items():
            names += [f"{name}.{key}" for key in (*task.loss_names, *task.metric_names)]
            names.append(f"{name}.gradient_ratio")
        return names


def fetched(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Return scalars as numbers, with one wait for the device that most of them are on."""
    found: dict[str, float] = {}
    for device in {value.device for value in scalars.values()}:
        here = {name: value.detach() for name, value in scalars.items() if value.device == device}
        together = torch.stack([value.to(torch.float64).reshape(()) for value in here.values()]).cpu()
        found |= {name: float(value) for name, value in zip(here, together.unbind(), strict=True)}
    return {name: found[name] for name in scalars}
