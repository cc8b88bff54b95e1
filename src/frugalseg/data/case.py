"""One case of a data set: its files and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One image, and its label map if it has one. `group` is the patient; by default the case itself.

    `images`: one file with all channels, or one file a channel in the data set's order.
    `annotated`: the structures that its label shows, where they are known; None: all of them.
    `missing`: numbers of the channels without a file; `images` then holds the files of the others.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    group: str
    annotated: tuple[str, ...] | None = None
    missing: tuple[int, ...] = ()

    @property
    def image(self) -> Path:
        """The file that gives the case its grid: the only one, or that of the first channel that there is."""
        return self.images[0]
