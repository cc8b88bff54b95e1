"""Train a model: from a data set and a recipe to a run folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frugalseg.config import Config, load_config
from frugalseg.config.load import parse_yaml, save_config
from frugalseg.data.budget import Split, make_split, read_names
from frugalseg.data.manifest import Manifest, read_manifest, require_files
from frugalseg.data.patches import Samples
from frugalseg.data.store import StoredCase
from frugalseg.errors import ConfigError, UserError
from frugalseg.files import hash_value, read_json_object, read_text, write_json, write_text
from frugalseg.jobs import build as building
from frugalseg.jobs.machine import describe, memory_bytes, peak_memory_bytes
from frugalseg.jobs.prepare import prepared
from frugalseg.jobs.show import TrainingBar, say
from frugalseg.networks import MultiTaskNetwork
from frugalseg.objectives import SegmentationLoss
from frugalseg.report import write_report
from frugalseg.training.loader import batches
from frugalseg.training.log import Log
from frugalseg.training.loop import Loop, make_fabric, warm_up
from frugalseg.training.optimiser import make_optimiser
from frugalseg.training.plan import Plan, make_plan
from frugalseg.training.settings import DEFAULT_MINUTES
from frugalseg.training.state import LAST, previous, read_checkpoint, save_checkpoint
from frugalseg.training.stop import StopRequest
from frugalseg.training.total import Objectives

CHECKPOINT_RULE = "the last checkpoint; no label was read to choose it"


@dataclass(frozen=True)
class TrainResult:
    """Where a run is, how many of its steps are done, and the signal that stopped it, if one did."""

    run: Path
    step: int
    steps: int
    signal: int | None


def train(
    data: Path,
    out: Path,
    method: str = "sscpcseg",
    labels: int | None = None,
    seed: int = 0,
    label_seed: int | None = None,
    labelled: Path | None = None,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    store: Path | None = None,
) -> TrainResult:
    """Train a model.

    Args:
        data: Folder with dataset.json.
        out: The run's folder; must not exist or be empty, unless `resume`.
        method: Name of a shipped recipe.
        labels: How many labels the run may read; by default all of them.
        seed: Seed of weights and samples.
        label_seed: Seed of the choice of labelled cases; by default `seed`.
        labelled: File that names the labelled cases, one a line, instead of a number.
        recipe: A recipe file instead of a shipped one.
        overrides: Settings such as "training.steps=500".
        resume: Go on with the run in `out`; starts it if it has no checkpoint, returns at once if it is finished.
        store: Where prepared cases are kept.

    Raises:
        UserError: Wrong input; nothing that existed is changed.
        TrainingError: The loss became infinite or not a number.
    """
    config = load_config(recipe or method, [f"training.seed={seed}", *overrides])
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not resume)):
        raise UserError("exists and is not empty; choose another --out, or --resume to go on with that run", out)
    manifest = read_manifest(data)
    require_files(manifest)
    named = read_names(labelled) if labelled is not None else None
    if named is not None and labels is not None:
        raise UserError("give --labels or --labelled, not both", "--labels")
    split = make_split(manifest, labels, config.training.seed if label_seed is None else label_seed, named)
    begun = resume and (out / "plan.json").exists()
    if begun:
        require_same_run(out, config, split)
    cases = order(prepared(manifest, split.readable, store, config.preprocess), split)
    if begun:
        plan = Plan.from_json(read_json_object(out / "plan.json"))
        config, _ = building.with_chunks(config, plan, len(manifest.channels), memory_bytes(plan.device))
    else:
        config, plan = first_plan(config, manifest, cases, split)
    run = Run(out, config, plan, manifest, split, cases)
    if not begun:
        if plan.steps == 0:
            run = Run(out, config, run.with_length(), manifest, split, cases)
        run.record()
    return run.fit()


def order(cases: Sequence[StoredCase], split: Split) -> list[StoredCase]:
    """Return the labelled cases of the split in its order, then the unlabelled ones."""
    by_name = {case.name: case for case in cases}
    return [by_name[name] for name in (*split.labelled, *split.unlabelled)]


def first_plan(
    config: Config, manifest: Manifest, cases: Sequence[StoredCase], split: Split
) -> tuple[Config, Plan]:
    """Choose what the configuration leaves open. The length is 0 if it has to be measured."""
    if config.sampling.unlabelled and not split.unlabelled:
        raise UserError(
            "there is no unlabelled volume to train on; set sampling.unlabelled=0 or take fewer --labels",
            "sampling.unlabelled",
        )
    plan = make_plan(
        cases,
        manifest.scheme.structures,
        config.network,
        config.crop,
        config.mirror_axes,
        config.training.device,
        config.training.precision,
    )
    config, plan = building.with_chunks(config, plan, len(manifest.channels), memory_bytes(plan.device))
    if config.training.steps is not None:
        plan = plan.because("steps", "set", steps=config.training.steps)
    return config, plan


def require_same_run(out: Path, config: Config, split: Split) -> None:
    """Refuse to go on with a run under other settings or labels.

    Raises:
        ConfigError: Names the first setting that differs.
    """
    content = parse_yaml(read_text(out / "config.yaml"), out / "config.yaml")
    before = Config.model_validate(content).model_dump(mode="json")
    now = config.model_dump(mode="json")
    for key in now:
        if before[key] != now[key]:
            raise ConfigError(f"the run in this folder was started with another {key!r}; repeat its command", out)
    if Split.from_json(read_json_object(out / "split.json"), out / "split.json") != split:
        raise ConfigError("the run in this folder reads other labels; repeat its command", out)


class Run:
    """A run with everything decided but perhaps its length."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        plan: Plan,
        manifest: Manifest,
        split: Split,
        cases: Sequence[StoredCase],
    ) -> None:
        self.folder, self.config, self.plan = folder, config, plan
        self.manifest, self.split, self.cases = manifest, split, list(cases)
        self.fabric = make_fabric(plan.device, plan.precision)

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
            self.config.augment,
            self.plan.mirror_axes,
            self.config.training.seed,
            {name: task.target for name, task in building.tasks_of(network).items()},
        )

    def loop(self, network: MultiTaskNetwork, log: Log | None) -> Loop:
        """Return the loop around a network, not yet started."""
        scheme = self.manifest.scheme
        optimiser = make_optimiser(self.config.training, network)
        wrapped, optimiser = self.fabric.setup(network, optimiser)
        weights = {name: task.weight for name, task in self.config.auxiliary.items()}
        loss = SegmentationLoss(self.config.segmentation, scheme.groups, scheme.classes)
        return Loop(
            fabric=self.fabric,
            network=wrapped,
            encoder=network.encoder,
            objectives=Objectives(loss, building.tasks_of(network), weights),
            optimiser=optimiser,
            settings=self.config.training,
            steps=max(1, self.plan.steps),
            structures=scheme.structures,
            case_names=tuple(case.name for case in self.cases),
            log=log,
            save=lambda step: self.save(network, optimiser, step),
        )

    def save(self, network: MultiTaskNetwork, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Write RUN/last."""
        save_checkpoint(
            self.folder / LAST,
            network,
            building.deployed_weights(network),
            optimiser,
            step,
            building.model_facts(self.config, self.plan, self.manifest.channels, self.manifest.scheme),
            {"steps": self.plan.steps, "config_sha256": hash_value(self.config.model_dump(mode="json"))},
        )

    def with_length(self) -> Plan:
        """Return the plan with the number of steps that fit the minutes, from a timed warm-up."""
        minutes = self.config.training.minutes or DEFAULT_MINUTES
        network = self.network()
        seconds = warm_up(self.loop(network, None), self.batches(network, 0, 6, workers=0))
        steps = max(1, int(minutes * 60 / seconds))
        return self.plan.because("steps", f"{minutes:g} minutes at {seconds:.3g} s a step (timed)", steps=steps)

    def batches(self, network: MultiTaskNetwork, first: int, stop: int, workers: int) -> Any:
        """Return the batches of steps `first` to `stop` - 1."""
        return batches(self.samples(network), first, stop, workers, self.fabric.device)

    def record(self) -> None:
        """Write what was decided, before the first step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "config.yaml", save_config(self.config))
        write_json(self.folder / "split.json", self.split.to_json())
        facts = {
            "format_version": 1,
            "method": self.config.method,
            "seed": self.config.training.seed,
            "data": {
                "folder": str(self.manifest.folder.resolve()),
                "name": self.manifest.name,
                "licence": self.manifest.licence,
                "channels": list(self.manifest.channels),
                "sha256": hash_value([case.key for case in self.cases]),
            },
            "checkpoint_rule": CHECKPOINT_RULE,
            "machine": describe(self.plan.device),
        }
        write_json(self.folder / "run.json", facts)
        write_json(self.folder / "plan.json", self.plan.to_json())

    def fit(self) -> TrainResult:
        """Train from the last checkpoint, or from the start, to the end."""
        for stale in self.folder.glob(f".{LAST}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        network = self.network()
        checkpoint = read_checkpoint(self.folder / LAST)
        first = checkpoint.step if checkpoint is not None else 0
        if first >= self.plan.steps:
            say(f"{self.folder}: finished ({first} steps)")
            return TrainResult(self.folder, first, self.plan.steps, None)
        if checkpoint is not None:
            if "fallback" in checkpoint.facts:
                say(f"{checkpoint.facts['fallback']}; going on from {previous(self.folder / LAST)}")
            network.load_state_dict(checkpoint.model)
            say(f"going on from step {first}")
        settings = self.config.training
        self.announce()
        loop = self.loop(network, None)
        if checkpoint is not None:
            loop.optimiser.load_state_dict(checkpoint.optimiser)
        loop.log = Log(self.folder, loop.columns(), first)
        workers = default_workers() if settings.workers is None else settings.workers
        started = time.monotonic()
        with StopRequest() as stop:
            try:
                import sys

                if sys.stderr.isatty():
                    with TrainingBar(self.plan.steps, first, loop.structures) as shown:
                        loop.progress = shown
                        step = loop.run(self.batches(network, first, self.plan.steps, workers), first, stop)
                else:
                    step = loop.run(self.batches(network, first, self.plan.steps, workers), first, stop)
            finally:
                loop.log.close()
        self.finish(step, first, time.monotonic() - started, stop.signal)
        return TrainResult(self.folder, step, self.plan.steps, stop.signal)

    def announce(self) -> None:
        """Say what is about to be trained."""
        plan = self.plan
        crop = "x".join(map(str, plan.crop))
        say(
            f"{self.config.method}: {len(self.split.labelled)} labelled and {len(self.split.unlabelled)} "
            f"unlabelled volumes, crop {crop}, width {plan.width}, {plan.steps} steps, "
            f"{plan.precision} on {plan.device}"
        )
        for name in self.config.auxiliary:
            if name in plan.reasons:
                say(f"{name}: {plan.reasons[name]}")

    def finish(self, step: int, first: int, seconds: float, signal: int | None) -> None:
        """Record time and memory, and say how it ended."""
        facts = read_json_object(self.folder / "run.json")
        spent = facts.setdefault("spent", [])
        spent.append({"from": first, "to": step, "seconds": round(seconds, 1), "peak_bytes": peak_memory_bytes()})
        write_json(self.folder / "run.json", facts)
        write_report(self.folder / "report.html", self.folder, None)
        if signal is not None:
            say(f"stopped by signal {signal} after step {step} of {self.plan.steps}; --resume goes on")
        else:
            say(
                f"trained {step} steps in {seconds / 60:.1f} min, peak memory "
                f"{peak_memory_bytes() / 2**30:.2f} GiB; model in {self.folder / LAST}"
            )


def default_workers() -> int:
    """Return one loader process per two processors, none on two or fewer (they would take turns), 8 at most."""
    import os

    count = os.cpu_count() or 1
    return 0 if count <= 2 else min(8, count // 2)
