"""`frugalseg recipes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe.")] = None,
    copy: Annotated[Path | None, typer.Option(help="Write it to this file, to be changed.")] = None,
) -> None:
    """List the methods that are shipped, print one, or copy it to a file of your own."""
    from frugalseg.config.load import load_config, recipe_names, recipe_text, save_config
    from frugalseg.errors import UserError
    from frugalseg.files import write_text

    if name is None:
        for known in recipe_names():
            print(f"{known:12} {load_config(known).about}")
        return
    recipe_text(name)
    whole = save_config(load_config(name))
    if copy is None:
        print(whole, end="")
    elif copy.exists():
        raise UserError("exists already; choose another file", copy)
    else:
        write_text(copy, whole)
