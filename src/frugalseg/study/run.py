"""A study from end to end: the design, its cells one after another or on Ray, the table, figures and page.

The same command again goes on: finished cells are not run again, a failed one is tried again, one under way goes on
from its checkpoint. What a study was begun with stands in STUDY/study.json and is held to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg import __version__
from frugalseg.config import Config, load_config
from frugalseg.data.budget import make_split
from frugalseg.data.manifest import Manifest, read_manifest, require_files
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, hash_value, write_json
from frugalseg.formats import read_sealed, seal
from frugalseg.jobs.evaluate import truth_hash
from frugalseg.jobs.record import hashed
from frugalseg.jobs.show import bar, say
from frugalseg.study.cell import Outcome, Task, run_cell
from frugalseg.study.design import Design, require_comparable
from frugalseg.study.estimate import Estimate, Timer, estimate, measure_step
from frugalseg.study.held import GROWING, meaning_of, require_floor, require_same
from frugalseg.study.invocation import command_line
from frugalseg.study.length import (
    Length,
    fitting_steps,
    length_settings,
    require_length,
    step_costs,
    steps_of,
    steps_of_added,
)
from frugalseg.study.table import write_cells
from frugalseg.training.lock import FolderLock

STUDY, STUDY_FORMAT = "study.json", 1
LOCK = ".lock"
Mapper = Callable[[Sequence[Task], Callable[[Outcome], None]], None]


@dataclass(frozen=True)
class StudyResult:
    """Where a study is, and how its cells ended."""

    folder: Path
    done: int
    failed: tuple[tuple[str, str], ...]


def study(
    data: Path,
    out: Path,
    design: Design,
    length: Length,
    overrides: Sequence[str] = (),
    store: Path | None = None,
    keep: bool = True,
    mapper: Mapper | None = None,
    timer: Timer = measure_step,
) -> StudyResult:
    """Run what is not finished of a study, and write its table, summary, figures and page.

    Args:
        data: A data set with labelled test cases, or without them a study of `train --folds`' kind is needed.
        out: The study's folder: new, or one that the same command began.
        design: Its cells.
        length: How long each run trains.
        overrides: Settings for all methods.
        store: Where prepared cases are kept.
        keep: Keep runs and predictions, or only their scores.
        mapper: What runs the tasks; by default this process, one after another.
        timer: What times the steps that fit into minutes: as many at a time as `mapper` runs tasks.

    Raises:
        UserError: The study cannot be run as it is designed, or the folder belongs to another one.
    """
    with ExitStack() as held:
        held.enter_context(FolderLock(out))
        facts, tasks = settle(data, out, design, length, overrides, store, keep, timer)
        outcomes = run_all(tasks, mapper or one_after_another)
    failed = tuple((item.folder.name, item.error) for item in outcomes if item.error is not None)
    done = [item.folder for item in outcomes if item.error is None]
    write_cells(out / "cells.csv", [(cell, out / "cells" / cell.name) for cell in design.cells
                                    if out / "cells" / cell.name in done])  # fmt: skip
    if done:
        from frugalseg.study.report import write_study_report

        write_study_report(out, design, facts, failed)
    for name, error in failed:
        say(f"{name}: failed: {error}")
    return StudyResult(out, len(done), failed)


def settle(
    data: Path,
    out: Path,
    design: Design,
    length: Length,
    overrides: Sequence[str],
    store: Path | None,
    keep: bool,
    timer: Timer = measure_step,
) -> tuple[dict[str, Any], list[Task]]:
    """Decide everything before the first run, hold it to what the folder was begun with, and return the tasks."""
    manifest = study_data(data)
    configs = load_configs(design, overrides)
    require_length(configs, length)
    require_floor(design, configs)
    facts: dict[str, Any] = {
        "format_version": STUDY_FORMAT,
        "frugalseg": __version__,
        "command": command_line(data, out, design, length.options, overrides, keep),
        "meaning": meaning_of(manifest),
        "data": {"folder": str(data.resolve()), "name": manifest.name, "licence": manifest.licence,
                 "test_cases": len(manifest.test), "test_sha256": truth_hash(data)},
        "methods": list(design.methods),
        "budgets": list(design.budgets),
        "seeds": list(design.seeds),
        "floor": design.floor,
        "ceiling": None if design.ceiling is None else design.ceiling.name,
        "primary": [[one.first, one.second, one.labels] for one in design.primary],
        "equal": length.equal,
        "asked": {"steps": length.steps, "minutes": length.minutes},
        "overrides": list(overrides),
        "precision": precision_of(configs),
        "differences": require_comparable(configs, length.equal),
        "label_sets": {str(seed): list(make_split(manifest, max(design.budgets), seed).labelled)
                       for seed in design.seeds},
    }  # fmt: skip
    before = read_sealed(out / STUDY, STUDY_FORMAT) if (out / STUDY).exists() else None
    facts["begun_with"] = {key: facts[key] for key in GROWING}
    if before is not None:
        require_same(facts, before, out)
        facts["begun_with"] = before.get("begun_with", {key: before[key] for key in GROWING})
        steps = {name: int(count) for name, count in before["steps"].items()}
        added = [name for name in design.recipes if name not in steps]
        steps |= steps_of_added(data, design, added, steps, length, overrides, store, timer)
    else:
        steps = steps_of(data, design, length, overrides, store, timer)
    facts["steps"] = steps
    if before is None or any(before.get(key) != value for key, value in facts.items()):
        write_json(out / STUDY, seal(facts))
    images = {case.name: [hash_file(file) for file in case.images] for case in (*manifest.training, *manifest.test)}
    labels: dict[str, str] = {}
    tasks = []
    for cell in design.cells:
        split = make_split(manifest, cell.labels, cell.seed)
        for case in manifest.labelled:
            if case.name in split.readable and case.name not in labels and case.label is not None:
                labels[case.name] = hash_file(case.label)
        settings = (
            *design.settings_of(cell.method, overrides),
            *length_settings(steps[cell.method]),
            f"training.precision={facts['precision']}",
        )
        config = load_config(design.recipes[cell.method], [*settings, f"training.seed={cell.seed}"])
        content = {
            "version": __version__,
            "config": hashed(config),
            "images": images,
            "labels": {name: labels[name] for name in split.labelled},
            "truth": facts["data"]["test_sha256"],
        }
        key, earlier = hash_value({**content, "meaning": facts["meaning"]}), hash_value(content)
        folder = out / "cells" / cell.name
        recipe = design.recipes[cell.method]
        tasks.append(Task(folder, key, data, store, recipe, cell.labels, cell.seed, settings, keep, earlier))
    return facts, tasks


def load_configs(design: Design, overrides: Sequence[str]) -> dict[str, Config]:
    """Return the configuration of every method, without a length of its own."""
    recipes = design.recipes.items()
    return {name: load_config(recipe, design.settings_of(name, overrides)) for name, recipe in recipes}


def study_data(data: Path) -> Manifest:
    """Return the data set, which must have labelled training cases and test cases.

    Raises:
        DataError: It has no test cases to score on, or files are missing.
    """
    manifest = read_manifest(data)
    require_files(manifest)
    if not manifest.test:
        raise DataError(
            'lists no test cases, which a study scores on; hold some labelled cases out as "test" (their labels in '
            "labelsTs), or use train --folds for a number without a test set",
            data,
        )
    return manifest


def plan(
    data: Path,
    design: Design,
    length: Length,
    overrides: Sequence[str],
    store: Path | None,
    keep: bool,
    timer: Timer = measure_step,
) -> Estimate:
    """Return what a study would take, from a few timed steps of each method; nothing is written but the store."""
    configs = load_configs(design, overrides)
    require_length(configs, length)
    require_floor(design, configs)
    require_comparable(configs, length.equal)
    manifest = study_data(data)
    costs = step_costs(data, design, overrides, store, timer)
    return estimate(design, costs, fitting_steps(costs, length), manifest, keep)


def run_all(tasks: Sequence[Task], mapper: Mapper) -> list[Outcome]:
    """Run the tasks, telling each one's end; return the outcomes in the order of the tasks."""
    found: dict[Path, Outcome] = {}
    begun = time.monotonic()
    with bar("cells", len(tasks)) as advance:

        def ended(outcome: Outcome) -> None:
            found[outcome.folder] = outcome
            advance()
            if not outcome.new:
                return
            score = f"Dice {outcome.dice:.3f}" if outcome.dice is not None else (outcome.error or "no score")
            say(
                f"[{len(found)}/{len(tasks)}] {outcome.folder.name}: {score}, {outcome.seconds / 60:.1f} min "
                f"({(time.monotonic() - begun) / 60:.1f} in all)"
            )

        mapper(tasks, ended)
    return [found[task.folder] for task in tasks]


def one_after_another(tasks: Sequence[Task], ended: Callable[[Outcome], None]) -> None:
    """Run the tasks in this process."""
    for task in tasks:
        ended(run_cell(task))


def precision_of(configs: dict[str, Config]) -> str:
    """Return the one precision of all runs.

    Raises:
        UserError: Two recipes fix different ones.
    """
    from frugalseg.training.plan import choose_device, choose_precision

    chosen = {}
    trained = {name: config for name, config in configs.items() if config.trained}
    for name, config in (trained or configs).items():
        device = choose_device(config.training.device)[0]
        chosen[name] = choose_precision(config.training.precision, device)[0]
    if len(set(chosen.values())) > 1:
        told = ", ".join(f"{name}: {value}" for name, value in chosen.items())
        raise UserError(f"differs between the methods ({told}); set one for all with --set", "training.precision")
    return next(iter(chosen.values()))
