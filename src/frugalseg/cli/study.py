"""`frugalseg study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def study(
    data: Annotated[Path, typer.Argument(help="Data set with labelled test cases.")],
    methods: Annotated[str, typer.Option(help="Recipes by name or file, e.g. encdec,sscpcseg.")],
    labels: Annotated[str, typer.Option(help="Budgets, e.g. 3,6,12,24,all; the smaller within the larger.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the study; the same command goes on with it.")] = None,
    label_seeds: Annotated[str, typer.Option(help="Label sets: a number, or seeds such as 100-104 or 3,7.")] = "5",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps of every run; not needed for registration alone.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length by the clock: the steps that the slowest method takes in it.")
    ] = None,
    equal: Annotated[str, typer.Option(help="'steps', or 'time': each method's own steps in --minutes.")] = "steps",
    primary: Annotated[
        list[str] | None,
        typer.Option(help="A comparison declared beforehand, e.g. sscpcseg:encdec@6; repeatable."),
    ] = None,
    floor: Annotated[
        str, typer.Option(help="Method without unlabelled data in all figures, or 'none'.")
    ] = "encdec",
    ceiling: Annotated[bool, typer.Option(help="One run with all labels in every figure.")] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting for all methods, or METHOD:setting for one; repeatable."),
    ] = None,
    keep: Annotated[bool, typer.Option(help="Keep runs and predictions, not only their scores.")] = True,
    plan: Annotated[bool, typer.Option("--plan", help="Print runs, time and disk, and run nothing.")] = False,
    processes: Annotated[
        int, typer.Option(min=1, max=1024, help="Runs at a time, each in a process of its own, on this machine.")
    ] = 1,
    ray: Annotated[
        str | None, typer.Option(help="Run on Ray: 'auto' for this machine's cores, or a cluster's address.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Where prepared cases are kept.")] = None,
) -> None:
    """Compare methods over label budgets and label sets, with intervals, figures and a page."""
    from frugalseg.errors import UserError
    from frugalseg.jobs.show import say
    from frugalseg.study.cell import Interrupted
    from frugalseg.study.command import run_study

    if equal not in ("steps", "time"):
        raise UserError(f"{equal!r} is neither 'steps' nor 'time'", "--equal")
    if minutes is not None and not 0 < minutes < 1e6:
        raise UserError(f"{minutes:g} minutes are no length of training", "--minutes")
    try:
        failed = run_study(
            data,
            out,
            methods.split(","),
            labels.split(","),
            label_seeds,
            steps,
            minutes,
            "time" if equal == "time" else "steps",
            primary or [],
            None if floor == "none" else floor,
            ceiling,
            settings or [],
            keep,
            plan,
            processes,
            ray,
            store,
        )
    except Interrupted as stop:
        say(f"stopped by signal {stop.number}; the same command goes on")
        raise typer.Exit(128 + stop.number) from None
    if failed:
        raise typer.Exit(1)
