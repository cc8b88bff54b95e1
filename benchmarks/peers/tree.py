"""The memory of a program and all that it starts, looked at every few seconds (Linux)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

EVERY_SECONDS = 5.0  # twice a second takes 6 % of a core, of which a peer on one core would have been robbed


class TreeMemory:
    """Within the `with` block, follow the processes below one; `peak` is their largest sum, in bytes.

    What they share is counted once (proportional set size).
    """

    def __init__(self, root: int) -> None:
        self.root, self.peak = root, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> TreeMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            self.peak = max(self.peak, sum(proportional(number) for number in below(self.root)))


def below(root: int) -> set[int]:
    """Return a process and all below it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue  # it ended meanwhile
    found, new = {root}, {root}
    while new:
        new = {number for number, parent in parents.items() if parent in new} - found
        found |= new
    return found


def proportional(number: int) -> int:
    """Return what a process holds, in bytes, of shared pages its part; 0 if it ended."""
    try:
        for line in (Path("/proc") / str(number) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":  # a check: this process holds 200 MiB more than nothing
    with TreeMemory(os.getpid()) as memory:
        held = bytearray(os.urandom(1)) * (200 * 2**20)
        threading.Event().wait(3 * EVERY_SECONDS)
    assert len(held) <= memory.peak < 2 * len(held), memory.peak
    print(memory.peak)
