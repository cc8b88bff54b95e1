"""How long every run of a study trains: steps that were asked for, or those that fit into minutes, timed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from frugalseg.config import Config, load_config
from frugalseg.errors import UserError
from frugalseg.jobs.show import say
from frugalseg.study.design import Design
from frugalseg.study.estimate import UNTRAINED, StepCost, Timer, measure_step

Equal = Literal["steps", "time"]


@dataclass(frozen=True)
class Length:
    """How long every run trains: `steps`, or what fits into `minutes`, measured once before the first run."""

    steps: int | None = None
    minutes: float | None = None
    equal: Equal = "steps"

    @property
    def options(self) -> list[str]:
        """The options of the command line that say it."""
        words: list[str] = []
        if self.steps is not None:
            words = ["--steps", str(self.steps)]
        elif self.minutes is not None:
            words = ["--minutes", f"{self.minutes:g}"]
        return [*words, "--equal", "time"] if self.equal == "time" else words


def require_length(configs: Mapping[str, Config], length: Length) -> None:
    """Refuse what does not say how long every run trains; where nothing is trained nothing need be said.

    Raises:
        UserError: Neither steps nor minutes were given, or both, or steps with equal time.
    """
    if length.steps is not None and length.minutes is not None:
        raise UserError("and --minutes are two lengths; choose one", "--steps")
    if length.steps is not None and length.equal == "time":
        raise UserError("--equal time needs --minutes, not --steps", "--equal")
    if length.steps is None and length.minutes is None:
        for name, config in configs.items():
            if config.trained:
                raise UserError(
                    f"{name} is trained: give --steps N, or --minutes M (of the slowest method; of each one with "
                    "--equal time)",
                    "--steps",
                )


def steps_of(
    data: Path,
    design: Design,
    length: Length,
    overrides: Sequence[str],
    store: Path | None,
    timer: Timer = measure_step,
) -> dict[str, int]:
    """Return each method's number of steps: the one asked for, or what fits into the minutes; 0 without either.

    At equal steps the minutes are those of the slowest method; at equal time each method takes what it can.
    """
    if length.steps is None and length.minutes is None:
        return dict.fromkeys(design.recipes, 0)
    if length.steps is not None:
        return {name: length.steps if trains(design, name, overrides) else 0 for name in design.recipes}
    return fitting_steps(step_costs(data, design, overrides, store, timer), length)


def trains(design: Design, method: str, overrides: Sequence[str]) -> bool:
    """Whether a method is trained at all."""
    return load_config(design.recipes[method], design.settings_of(method, overrides)).trained


def fitting_steps(costs: Mapping[str, StepCost], length: Length) -> dict[str, int]:
    """Return each method's number of steps, given what a step costs: all those of the slowest, or each its own.

    Raises:
        UserError: A pre-training alone takes longer than the minutes.
    """
    if length.steps is not None:
        return {name: 0 if cost is UNTRAINED else length.steps for name, cost in costs.items()}
    steps = {name: 0 if cost is UNTRAINED else cost.steps_in(length.minutes or 0) for name, cost in costs.items()}
    least = min((count for count in steps.values() if count), default=0)
    return steps if length.equal == "time" else {name: least if count else 0 for name, count in steps.items()}


def steps_of_added(
    data: Path,
    design: Design,
    added: Sequence[str],
    steps: Mapping[str, int],
    length: Length,
    overrides: Sequence[str],
    store: Path | None,
    timer: Timer = measure_step,
) -> dict[str, int]:
    """Return the steps of methods that were added to a begun study: the others', or their own at equal time."""
    if length.equal == "steps" and (known := max(steps.values(), default=0)):
        return {name: known if trains(design, name, overrides) else 0 for name in added}
    if length.steps is not None:  # until now nothing was trained
        return {name: length.steps if trains(design, name, overrides) else 0 for name in added}
    return fitting_steps(step_costs(data, design, overrides, store, timer, added), length) if added else {}


def step_costs(
    data: Path,
    design: Design,
    overrides: Sequence[str],
    store: Path | None,
    timer: Timer = measure_step,
    names: Sequence[str] | None = None,
) -> dict[str, StepCost]:
    """Return the measured cost of a step of every method, or of those named, at the smallest budget."""
    first = design.cells[0]
    found = {}
    for name, recipe in design.recipes.items():
        if names is not None and name not in names:
            continue
        settings = design.settings_of(name, overrides)
        found[name] = timer(data, recipe, first.labels, first.seed, settings, store)
        if found[name] is not UNTRAINED:
            say(f"{name}: {found[name].seconds:.3g} s a step (timed)")
    return found


def length_settings(steps: int) -> tuple[str, ...]:
    """Return the settings that give a run this many steps, whatever length its recipe has."""
    free = ("training.epochs=null", "training.schedule_unit=step", "training.minutes=null")
    return (*free, f"training.steps={max(1, steps)}")
