"""Where a data set is: what a person names on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataSource:
    """A folder with dataset.json, a CSV of paths, or a folder of images with one of label maps.

    Attributes:
        path: The folder, or the CSV.
        label_maps: Folder of label maps named like the cases, where `path` is a folder of images.
        describe: JSON that says what labels and channels mean, for a CSV or folders; a CSV has one of its own name.
    """

    path: Path
    label_maps: Path | None = None
    describe: Path | None = None

    @property
    def is_table(self) -> bool:
        """Whether it is a CSV."""
        return self.path.suffix.lower() == ".csv" and not self.path.is_dir()

    @staticmethod
    def of(data: Path | DataSource) -> DataSource:
        """Take a path as the data set that lies there."""
        return data if isinstance(data, DataSource) else DataSource(data)
