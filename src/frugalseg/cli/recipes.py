"""`frugalseg recipes`: list, show, copy; and `split`, which lays out a published split of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

recipes = typer.Typer(
    rich_markup_mode=None, invoke_without_command=True, help="List, show or copy shipped recipes."
)


@recipes.callback()
def list_all(context: typer.Context) -> None:
    """List the shipped recipes (methods with all their settings); `show` and `copy` give one whole."""
    if context.invoked_subcommand is not None:
        return
    from frugalseg.config.load import load_config, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {load_config(name).about}")


@recipes.command()
def show(name: Annotated[str, typer.Argument(help="Name of a recipe.")]) -> None:
    """Print a recipe with every setting written out."""
    print(_whole(name), end="")


@recipes.command()
def copy(
    name: Annotated[str, typer.Argument(help="Name of a recipe.")],
    file: Annotated[Path, typer.Argument(help="File to write; must be new. `train --recipe FILE` uses it.")],
) -> None:
    """Write a recipe to a file, to be changed."""
    from frugalseg.errors import UserError
    from frugalseg.files import write_text

    text = _whole(name)
    if file.exists():
        raise UserError("exists already; choose another file", file)
    write_text(file, text)


@recipes.command()
def split(
    name: Annotated[str, typer.Argument(help="Name of a split: brats-iwasawa2020.")],
    data: Annotated[Path, typer.Argument(help="The data set as it was downloaded.")],
    out: Annotated[Path, typer.Argument(help="Folder for the data set laid out by the split; must be new.")],
) -> None:
    """Lay a data set out by a published split: training, validation and test cases, and lists of its budgets."""
    from frugalseg.jobs.split import split as job

    job(name, data, out)


def _whole(name: str) -> str:
    from frugalseg.config.load import load_config, recipe_text, save_config

    recipe_text(name)  # names only: a path is no recipe here
    return save_config(load_config(name))
