"""A folder's index of pictures: every case with its findings, the worst first; nothing from outside the folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from frugalseg import __version__
from frugalseg.files import write_text
from frugalseg.report.template import template

INDEX = "index.html"


@dataclass(frozen=True)
class OverlayEntry:
    """A case on the page: what is said of it, as (severity, line), and its pictures as (caption, file name)."""

    name: str
    role: str
    remarks: Sequence[tuple[str, str]] = ()
    pictures: Sequence[tuple[str, str]] = ()


def write_overlay_page(
    folder: Path, title: str, remarks: Sequence[tuple[str, str]], entries: Sequence[OverlayEntry]
) -> None:
    """Write `folder`/index.html: what is said of the data set, then the entries in their order.

    Raises:
        DataError: It cannot be written.
    """
    page = template("overlays.html").render(version=__version__, title=title, remarks=remarks, entries=entries)
    write_text(folder / INDEX, page)


def picture_name(case: str, taken: Collection[str], suffix: str = "") -> str:
    """Return a file name for a case's picture that every system takes, and that is not taken yet."""
    plain = re.sub(r"[^A-Za-z0-9.+_-]", "_", case)[:100] + suffix
    name, number = f"{plain}.png", 1
    while name.lower() in {other.lower() for other in taken}:
        name, number = f"{plain}-{number}.png", number + 1
    return name
