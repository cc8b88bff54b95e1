"""`frugalseg pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    data: Annotated[Path, typer.Argument(help="Folder with dataset.json, a CSV of paths, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; must be new, or an old run with --resume.")],
    label_maps: Annotated[
        Path | None, typer.Option("--label-maps", help="Folder of label maps, where DATA is a folder of images.")
    ] = None,
    describe: Annotated[
        Path | None,
        typer.Option("--describe", help="JSON that says what labels and channels mean (CSV or folders)."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="A recipe with a part `pretrain` (see `frugalseg recipes`).")
    ] = "cpc-then-encdec",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of weights and samples.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Length in optimiser steps.")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Processes on each machine, one a GPU (1 by default).")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Machines; see docs/distributed.md.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe file instead of --method.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, e.g. pretrain.crops=4; repeatable.")
    ] = None,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="Use the test images, too; reports then say so.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    store: Annotated[Path | None, typer.Option(help="Where prepared cases are kept.")] = None,
) -> None:
    """Train on all images without a label; `train --init` then begins with the weights."""
    from frugalseg.data.source import DataSource
    from frugalseg.jobs.train import train as job

    overrides = list(settings or [])
    if steps is not None:
        overrides.append(f"pretrain.steps={steps}")
    if devices is not None:
        overrides.append(f"training.devices={devices}")
    if nodes is not None:
        overrides.append(f"training.nodes={nodes}")
    result = job(
        DataSource(data, label_maps, describe),
        out,
        method,
        seed=seed,
        recipe=recipe,
        overrides=overrides,
        resume=resume,
        store=store,
        transductive=transductive,
        pretraining=True,
    )
    if result.signal is not None:
        raise typer.Exit(128 + result.signal)
