"""What several commands are asked in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MAX_SEED = 2**63 - 1

Data = Annotated[Path, typer.Argument(help="Folder with dataset.json, a CSV of paths, or a folder of images.")]
LabelMaps = Annotated[
    Path | None, typer.Option("--label-maps", help="Folder of label maps, where DATA is a folder of images.")
]
Describe = Annotated[
    Path | None, typer.Option("--describe", help="JSON that says what labels and channels mean (CSV or folders).")
]
Store = Annotated[Path | None, typer.Option(help="Where prepared cases are kept.")]
RUN_FOLDER = "Folder of the run; must be new, or an old run with --resume."
RunFolder = Annotated[Path, typer.Option(help=RUN_FOLDER)]
RunFolderUnlessDry = Annotated[Path | None, typer.Option(help=f"{RUN_FOLDER} Only --dry-run does without.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of weights and samples.")]
Recipe = Annotated[Path | None, typer.Option(help="A recipe file instead of --method.")]
Devices = Annotated[int | None, typer.Option(min=1, help="Processes on each machine, one a GPU (1 by default).")]
Nodes = Annotated[int | None, typer.Option(min=1, help="Machines; see docs/distributed.md.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
KeepMade = Annotated[
    bool, typer.Option("--resume", help="Keep what was made in --out in the same way, and make what is missing.")
]
