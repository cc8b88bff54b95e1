"""A training run with everything decided: its network, samples, loop, checkpoints and records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frugalseg.config import Config
from frugalseg.data.augment import AugmentSettings
from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.patches import Samples
from frugalseg.data.store import StoredCase
from frugalseg.errors import DataError
from frugalseg.jobs import build as building
from frugalseg.jobs.checkpoints import Checkpoints
from frugalseg.jobs.ending import close_sitting, is_closed, require_not_lost, say_finished, say_stopped
from frugalseg.jobs.initial import Initial
from frugalseg.jobs.machine import default_workers
from frugalseg.jobs.record import PRETRAIN, write_record
from frugalseg.jobs.recover import still_best, tidy
from frugalseg.jobs.resources import usable_cpus
from frugalseg.jobs.show import TrainingBar, announce, say, shown
from frugalseg.jobs.teacher_runs import TeacherRuns
from frugalseg.jobs.validate import Best, Validation
from frugalseg.networks import MultiTaskNetwork
from frugalseg.objectives.across import Share
from frugalseg.training.allocator import freed_memory_kept
from frugalseg.training.launch import make_fabric
from frugalseg.training.loader import batches
from frugalseg.training.log import CsvLog, Log
from frugalseg.training.loop import Loop
from frugalseg.training.plan import Plan
from frugalseg.training.processes import Processes
from frugalseg.training.seal import BEST, LAST
from frugalseg.training.state import TrainingState, read_checkpoint
from frugalseg.training.stop import StopRequest
from frugalseg.training.warm_up import warm_up

CHANNEL_DROPOUT = 0.1  # where cases may lack a channel


@dataclass(frozen=True)
class TrainResult:
    """Where a run is, how many of its steps are done, and the signal that stopped it, if one did."""

    run: Path
    step: int
    steps: int
    signal: int | None


class Run:
    """A run with everything decided but perhaps its length.

    Every process of a distributed run has one. The first process alone writes, speaks, and looks at the validation
    cases, while the others wait for it in the next step.

    Args:
        folder: Where it writes.
        config: Its configuration.
        plan: What was chosen from the data.
        manifest: The data set.
        split: Whose labels it reads.
        cases: The stored cases: labelled, unlabelled, then those for validation.
        processes: Who takes part; by default this process alone.
        initial: The weights to begin with, instead of random ones.
        teachers: Finished runs that taught, or nothing.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        plan: Plan,
        manifest: Manifest,
        split: Split,
        cases: Sequence[StoredCase],
        processes: Processes | None = None,
        initial: Initial | None = None,
        teachers: TeacherRuns | None = None,
    ) -> None:
        self.initial, self.teachers = initial, teachers
        self.folder, self.config, self.plan = folder, config, plan
        self.manifest, self.split = manifest, split
        count = len(split.labelled) + len(split.unlabelled)
        self.cases, held = list(cases[:count]), list(cases[count:])
        self.validation = Validation(held, config, plan, manifest.scheme) if held else None
        self.checkpoints = Checkpoints(folder, config, plan, manifest, split.transductive)
        self.best = Best()
        self.looked = 0
        self.processes = processes or Processes(make_fabric(plan.device, plan.precision))
        self.fabric = self.processes.fabric

    def network(self) -> MultiTaskNetwork:
        """Return the network with its first weights, a function of the seed."""
        torch.manual_seed(self.config.training.seed % 2**63)
        return building.build(self.config, self.plan, len(self.manifest.channels), self.manifest.scheme)

    def samples(self, network: MultiTaskNetwork) -> Samples:
        """Return the run's numbered samples."""
        scheme = self.manifest.scheme
        return Samples(
            self.cases,
            len(self.split.labelled),
            self.plan.crop,
            scheme.groups,
            scheme.classes,
            self.config.sampling,
            self.augmentation,
            self.plan.mirror_axes,
            self.config.training.seed,
            {name: task.target for name, task in building.tasks_of(network).items()},
            self.config.semisup is not None and self.config.semisup.needs_weak_view,
        )

    @property
    def augmentation(self) -> AugmentSettings:
        """What happens to the samples: channels are dropped if a case may lack one, or if that is set."""
        settings, preparation = self.config.augment, self.plan.preparation
        if settings.channel_dropout is not None or preparation is None or not preparation.zero_missing:
            return settings
        return settings.model_copy(update={"channel_dropout": CHANNEL_DROPOUT})

    def loop(self, network: MultiTaskNetwork) -> Loop:
        """Return the loop around a network, not yet started, without logs."""
        loop = building.make_loop(self.config, self.plan, self.manifest.scheme, network, self.fabric)
        loop.case_names = tuple(case.name for case in self.cases)
        loop.tell = say
        if self.processes.first:
            loop.save = lambda step: self.save(LAST, network, loop, step)
        return loop

    def save(self, name: str, network: MultiTaskNetwork, loop: Loop, step: int) -> None:
        """Write RUN/last or RUN/best."""
        self.checkpoints.save(name, network, loop, step, self.best, self.looked)

    def with_length(self) -> Plan:
        """Return the plan with the number of steps that fit the minutes, from a timed warm-up."""
        training = self.config.training
        minutes = training.minutes or training.usual_minutes
        seconds = self.seconds_a_step(self.network())
        steps = max(1, int(minutes * 60 / seconds))
        plan = self.plan.because("steps", f"{minutes:g} minutes at {seconds:.3g} s a step (timed)", steps=steps)
        return Plan.from_json(self.processes.tell(plan.to_json()))

    def seconds_a_step(self, network: MultiTaskNetwork, steps: int = 4) -> float:
        """Return what a step takes, from `steps` that change the network: it must not be trained afterwards."""
        cost = warm_up(self.loop(network), self.batches(network, 0, steps + 1, workers=0), steps)
        return cost.seconds(min(self.workers, usable_cpus()), self.plan.device == "cpu")

    @property
    def workers(self) -> int:
        """Loader processes: those that were asked for, or what the processors are enough for."""
        asked = self.config.training.workers
        return default_workers(self.config.training.devices) if asked is None else asked

    def batches(self, network: MultiTaskNetwork, first: int, stop: int, workers: int) -> Any:
        """Return the batches of steps `first` to `stop` - 1."""
        share = Share(self.fabric.global_rank, self.processes.world)
        return batches(self.samples(network), first, stop, workers, self.fabric.device, share)

    @property
    def checkpoint_rule(self) -> str:
        """Which checkpoint is the run's result, and which labels were read to choose it."""
        if self.validation is None:
            return "the last checkpoint; no label was read to choose it"
        names = ", ".join(self.split.validation)
        return f"the one with the best mean Dice on {names}, whose labels are part of the budget"

    def record(self) -> None:
        """Write what was decided, before the first step."""
        held = self.validation.cases if self.validation is not None else ()
        cases = [*self.cases, *held]
        rule = self.checkpoint_rule
        initial = None
        if self.initial is not None:
            initial = self.initial.to_json(self.initial.run.resolve() == (self.folder / PRETRAIN).resolve())
        teachers = None if self.teachers is None else self.teachers.to_json()
        write_record(self.folder, self.config, self.plan, self.split, self.manifest, cases, rule, initial, teachers)

    def fit(self) -> TrainResult:
        """Train from the last checkpoint, or from the start, to the end.

        Raises:
            DataError: No checkpoint is intact, or something cannot be written.
            TrainingError: A loss is not a number.
        """
        with self.processes.first_alone():  # to put back an older checkpoint moves folders: once, and not meanwhile
            if self.processes.first:
                tidy(self.folder)
            checkpoint = read_checkpoint(self.folder / LAST)
        first = checkpoint.step if checkpoint is not None else 0
        require_not_lost(self.folder, first)
        self.processes.require_same(first, "the last checkpoint")
        network = self.network()
        loop = self.loop(network)
        if checkpoint is not None:
            self.go_on(network, loop, checkpoint)
        elif self.initial is not None:
            say(self.initial.give(network, self.manifest.scheme))
            building.begin_again(self.config, network, loop)
        if self.is_finished(loop, first):
            say(f"{self.folder}: finished ({first} steps)")
            if self.processes.first and not is_closed(self.folder, first):
                self.finish(first, first, 0.0, None)
            return TrainResult(self.folder, first, self.plan.steps, None)
        if checkpoint is not None:
            say(f"going on from step {first}")
        announce(self.config, self.plan, self.split, self.processes.world)
        samples = self.batches(network, first, self.plan.steps, self.workers)
        started = time.monotonic()
        try:
            kept = freed_memory_kept() if self.plan.device == "cpu" else nullcontext()
            with kept, closing(samples):  # now: its workers would keep a process whose frames live on from ending
                step, signal = self.train(network, loop, samples, first)
        except OSError as error:
            raise DataError(
                f"its logs cannot be written ({error.strerror or error}); the last checkpoint is intact, make room "
                "and --resume",
                self.folder,
            ) from error
        if self.is_finished(loop, step):
            signal = None  # it came too late to stop anything
        signal = self.processes.tell(signal)
        if self.processes.first:
            self.finish(step, first, time.monotonic() - started, signal)
        return TrainResult(self.folder, step, self.plan.steps, signal)

    def train(self, network: MultiTaskNetwork, loop: Loop, samples: Any, first: int) -> tuple[int, int | None]:
        """Run the loop with its logs; return the steps taken in all, and the signal that stopped it if one did."""
        with ExitStack() as opened:
            stop = opened.enter_context(StopRequest())
            if self.processes.first:
                self.open_logs(opened, network, loop, first, stop)
            return loop.run(samples, first, stop), stop.signal

    def open_logs(
        self, opened: ExitStack, network: MultiTaskNetwork, loop: Loop, first: int, stop: StopRequest
    ) -> None:
        """Give the first process's loop its logs, its looks at the validation cases, and its bar."""
        loop.log = opened.enter_context(Log(self.folder, loop.columns(), first))
        if not loop.log.complete:
            say(
                f"{self.folder / 'metrics.csv'}: rows of steps before {first} are lost; the weights are not touched"
            )
        if self.validation is not None:
            looks = CsvLog(self.folder / "validation.csv", self.validation.columns, self.looked)
            opened.callback(looks.close)
            loop.validate = lambda step: self.validate(network, loop, looks, step, stop)
        if shown():
            loop.progress = opened.enter_context(TrainingBar(self.plan.steps, first, loop.structures))

    def go_on(self, network: MultiTaskNetwork, loop: Loop, checkpoint: TrainingState) -> None:
        """Take up the state of a checkpoint."""
        self.best, self.looked = self.checkpoints.take_up(checkpoint, network, loop)
        if self.validation is not None and self.processes.first:
            self.best = still_best(self.folder / BEST, self.best)

    def validate(self, network: MultiTaskNetwork, loop: Loop, looks: CsvLog, step: int, stop: StopRequest) -> bool:
        """Score the validation cases and keep the checkpoint if it is the best one so far.

        Returns:
            False if a request to stop cut it off; nothing is written then.
        """
        assert self.validation is not None
        with loop.average.in_place(network) if loop.average is not None else nullcontext():
            scores = self.validation.look(network, lambda: stop.signal is not None)
        if scores is None:
            return False
        looks.write(step, scores)
        looks.flush()
        self.looked = step
        if scores["dice"] > self.best.dice:
            self.best = Best(step, scores["dice"])
            self.save(BEST, network, loop, step)
        return True

    def is_finished(self, loop: Loop, step: int) -> bool:
        """Whether nothing is left to do: every step is taken, and the last look, if there are looks."""
        return step >= self.plan.steps and not (self.validation is not None and loop.look_due(step))

    def finish(self, step: int, first: int, seconds: float, signal: int | None) -> None:
        """Record time and memory, and say how it ended."""
        best = self.best if self.validation else None
        close_sitting(self.folder, first, step, seconds, self.processes.world, best)
        if signal is not None:
            say_stopped(signal, step, self.plan.steps)
        else:
            say_finished(self.folder, step, seconds, best, len(self.split.validation))
