"""The study command: from what a person typed to a design, and from its end to what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frugalseg.errors import UserError
from frugalseg.files import read_text
from frugalseg.jobs.show import say
from frugalseg.study.design import make_design, parse_seeds
from frugalseg.study.estimate import Timer, measure_step
from frugalseg.study.length import Equal, Length
from frugalseg.study.on_ray import AUTO, at_a_time_on_ray
from frugalseg.study.run import STUDY, Mapper, plan, study, study_data


def run_study(
    data: Path,
    out: Path | None,
    methods: Sequence[str],
    labels: Sequence[str],
    label_seeds: str,
    steps: int | None,
    minutes: float | None,
    equal: Equal,
    primary: Sequence[str],
    floor: str | None,
    ceiling: bool,
    settings: Sequence[str],
    keep: bool,
    only_plan: bool,
    processes: int,
    ray: str | None,
    store: Path | None,
) -> int:
    """Run a study, or print what it would take; return how many of its runs failed.

    Raises:
        UserError: Wrong input; nothing was run.
    """
    manifest = study_data(data)
    available = len([case for case in manifest.labelled if case.name not in manifest.validation])
    design = make_design(methods, labels, parse_seeds(label_seeds), available, floor, ceiling, primary)
    length = Length(steps, minutes, equal)
    timer: Timer = measure_step
    if ray is not None and processes > 1:
        raise UserError("and --ray are two ways to run cells side by side; choose one", "--processes")
    begun = out is not None and (out / STUDY).exists()  # then its steps are known
    if ray not in (None, AUTO) and minutes is not None and not begun:
        raise UserError("on a cluster minutes are not those of this machine; give --steps", "--minutes")
    beside = processes if ray is None else at_a_time_on_ray()
    if beside > 1:
        from frugalseg.study.timed import timed_beside

        timer = timed_beside(min(beside, len(design.cells)))
    if only_plan:
        print(plan(data, design, length, settings, store, keep, timer).render())
        return 0
    if out is None:
        raise UserError("is needed: the folder of the study", "--out")
    mapper: Mapper | None = None
    if processes > 1:
        from frugalseg.study.side_by_side import side_by_side

        mapper = side_by_side(processes)
    if ray is not None:
        from frugalseg.study.on_ray import on_ray

        mapper = on_ray(ray)
    result = study(data, out, design, length, settings, store, keep, mapper, timer)
    if result.done:
        print(read_text(out / "summary.md"))
    say(f"{result.done} runs finished, {len(result.failed)} failed; {out / 'report.html'}")
    return len(result.failed)
