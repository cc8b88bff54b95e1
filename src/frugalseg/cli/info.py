"""`frugalseg info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def info(
    run: Annotated[Path, typer.Argument(help="Folder of a training run, or of folds.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every file against the hash that was written with it.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Print a model card (Markdown).")] = False,
    scores: Annotated[
        Path | None, typer.Option(help="With --card: folder of an evaluation, for the card's figures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a run is: method, steps done, labels read, checkpoints, time, machine."""
    import json

    from frugalseg.errors import UserError
    from frugalseg.jobs.ensemble_record import ENSEMBLE, damaged_folds, read_ensemble, render_folds
    from frugalseg.jobs.info import info as job
    from frugalseg.jobs.info import render

    if card and (run / ENSEMBLE).is_file():
        raise UserError("holds several models; a card is of one of them, such as its fold-0", run)
    if card:
        from frugalseg.jobs.card import card as model_card

        print(model_card(run, scores), end="")
        return
    if scores is not None:
        raise UserError("gives a card its figures; add --card", "--scores")
    if (run / ENSEMBLE).is_file():
        damaged = damaged_folds(run) if verify else []
        if damaged:
            print(json.dumps({"damaged": damaged}, indent=1) if as_json else "\n".join(damaged))
            raise typer.Exit(2)
        print(json.dumps(read_ensemble(run), indent=1) if as_json else render_folds(run))
        if verify and not as_json:
            print("files       every one has the hash that was written with it")
        return
    found = job(run, verify)
    print(json.dumps(found.to_json(), indent=1, ensure_ascii=False) if as_json else render(found))
    if not found.intact:
        raise typer.Exit(2)
