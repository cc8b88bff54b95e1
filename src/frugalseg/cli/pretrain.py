"""`frugalseg pretrain`."""

from __future__ import annotations

from typing import Annotated

import typer

from frugalseg.cli.options import Data, Describe, Devices, LabelMaps, Nodes, Recipe, Resume, RunFolder, Seed, Store


def pretrain(
    data: Data,
    out: RunFolder,
    label_maps: LabelMaps = None,
    describe: Describe = None,
    method: Annotated[
        str, typer.Option(help="A recipe with a part `pretrain` (see `frugalseg recipes`).")
    ] = "cpc-then-encdec",
    seed: Seed = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Length in optimiser steps.")] = None,
    devices: Devices = None,
    nodes: Nodes = None,
    recipe: Recipe = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, e.g. pretrain.crops=4; repeatable.")
    ] = None,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="Use the test images, too; reports then say so.")
    ] = False,
    resume: Resume = False,
    store: Store = None,
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
