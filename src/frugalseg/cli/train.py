"""`frugalseg train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from frugalseg.cli.options import (
    Data,
    Describe,
    Devices,
    LabelMaps,
    Nodes,
    Recipe,
    Resume,
    RunFolderUnlessDry,
    Seed,
    Store,
)

QUICK = 10.0  # minutes
NOWHERE = ".frugalseg-dry-run"  # is not made: the disk that is looked at is that of the present folder


def train(
    data: Data,
    out: RunFolderUnlessDry = None,
    label_maps: LabelMaps = None,
    describe: Describe = None,
    method: Annotated[
        str,
        typer.Option(
            help="frugal, the best we know for few labels; encdec, vaeseg, boundseg, cpcseg, ssvaeseg, sscpcseg, "
            "and others (see `frugalseg recipes`)."
        ),
    ] = "frugal",
    labels: Annotated[int | None, typer.Option(help="How many labels the run may read; all by default.")] = None,
    seed: Seed = 0,
    label_seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**63 - 1, help="Seed of the choice of labels; --seed by default."),
    ] = None,
    labelled: Annotated[Path | None, typer.Option(help="File naming the labelled cases, one a line.")] = None,
    validation: Annotated[
        str,
        typer.Option(
            help="How many of the budget's labels choose the checkpoint instead of training, or 'listed' for the "
            'cases under "validation" in dataset.json. 0: the last checkpoint is the result.'
        ),
    ] = "0",
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train this many models inside the labelled cases instead of one, each scored on the cases it was "
            "not shown. One for each patient where there are 5 or fewer."
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="A finished run (`pretrain` or `train`) whose weights to begin with."),
    ] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="A finished run, or folder of folds, that teaches this one on the unlabelled volumes; repeatable."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length in optimiser steps.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length in minutes (by default 30 for frugal, 12 for others).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Ten minutes, for a first look.")] = False,
    devices: Devices = None,
    nodes: Nodes = None,
    recipe: Recipe = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, e.g. training.learning_rate=3e-4; repeatable.")
    ] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Only operations that give the same bits twice; see the docs.")
    ] = False,
    transductive: Annotated[
        bool,
        typer.Option("--transductive", help="Use the test images, too, as unlabelled ones; reports then say so."),
    ] = False,
    resume: Resume = False,
    store: Store = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say the plan and what it needs; nothing is written."),
    ] = False,
) -> None:
    """Train on a few labels; frugal, the default, uses the unlabelled volumes, too."""
    from frugalseg.data.budget import LISTED
    from frugalseg.data.source import DataSource
    from frugalseg.errors import UserError
    from frugalseg.jobs.train import train as job

    if out is None:
        if resume or not dry_run:
            raise UserError("say which folder the run is to be kept in, e.g. --out RUN", "--out")
        out = Path(NOWHERE)
    if validation != LISTED and not validation.isdecimal():
        raise UserError(f"{validation!r} is neither a number of cases nor {LISTED!r}", "--validation")

    overrides = list(settings or [])
    if quick:
        if steps is not None or minutes is not None:
            raise UserError("give --quick or a length, not both", "--quick")
        minutes = QUICK
    if steps is not None or minutes is not None:  # instead of whatever length the recipe has
        lengths = (("steps", steps), ("minutes", minutes))
        overrides += ["training.epochs=null", "training.schedule_unit=step"]
        overrides += [f"training.{name}={'null' if value is None else value}" for name, value in lengths]
    if devices is not None:
        overrides.append(f"training.devices={devices}")
    if nodes is not None:
        overrides.append(f"training.nodes={nodes}")
    if deterministic:
        overrides.append("training.deterministic=true")
    if folds is not None:
        if validation != "0" or dry_run:
            what = "--dry-run" if dry_run else "--validation"
            raise UserError(f"give --folds or {what}, not both", "--folds")
        if init is not None:
            raise UserError(
                "weights of --init may have seen the held-out images; use a recipe with a pre-training of its own, "
                "which each fold runs without them",
                "--folds",
            )
        if teacher:
            raise UserError(
                "a teacher has learnt from the labels that a fold is scored on; train without folds, or without it",
                "--folds",
            )
        from frugalseg.jobs.folds import train_folds

        source = DataSource(data, label_maps, describe)
        done = train_folds(
            source, out, folds, method, labels, seed, label_seed, labelled, recipe, overrides, resume, store,
            transductive,
        )  # fmt: skip
        if done.signal is not None:
            raise typer.Exit(128 + done.signal)
        return
    result = job(
        DataSource(data, label_maps, describe),
        out,
        method,
        labels,
        seed,
        label_seed,
        labelled,
        recipe,
        overrides,
        resume,
        store,
        validation if validation == LISTED else int(validation),
        transductive,
        dry_run,
        init=init,
        teachers=teacher or (),
    )
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)
