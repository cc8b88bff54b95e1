"""The pages' templates, each read and compiled once."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def template(name: str, room: str = "report") -> Any:
    """Return a template of one of the program's rooms; what is filled in is escaped."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("frugalseg", room), autoescape=True).get_template(name)
