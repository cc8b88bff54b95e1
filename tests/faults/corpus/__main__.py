"""Print every malformed input with the line that it ends in, as a table: python -m tests.faults.corpus."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.faults.corpus import command
from tests.faults.corpus.everything import LEGAL, MALFORMED
from tests.faults.corpus.registry import Malformed
from tests.faults.corpus.scene import Scene, build, commands, copy


def line(item: Malformed, clean: Scene, folder: Path) -> str:
    """Return what the command says, without the folder's own name."""
    scene = copy(clean, folder)
    more = item.break_(scene)
    done = command.run([*commands(scene)[item.command], *(more or ())])
    # What was said before it came to that is of the machine.
    lines = [line for line in done.lines if line.startswith(("Error", "Internal"))]
    return f"{done.status}: " + " / ".join(lines).replace(f"{folder}/", "")


def main() -> None:
    """Print the table."""
    print(f"# {len(MALFORMED)} malformed inputs, and what is said of them\n")
    print(f"Made by `python -m tests.faults.corpus`. {len(LEGAL)} further ones are legal and change no result:")
    print(", ".join(sorted(name.replace("_", " ") for name in LEGAL)) + ".\n")
    print("| what | command | status and line |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        clean = build(Path(name) / "clean")
        for number, item in enumerate(MALFORMED.values()):
            told = line(item, clean, Path(name) / str(number)).replace("|", "\\|")
            print(f"| {item.name.replace('_', ' ')} | {item.command} | {told} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
