"""What can be used here and now: memory, graphics memory, disk, processors. Limits of control groups count.

Everything is read from files below two folders, /proc and /sys/fs/cgroup, so that a test can make them up. Where a
file is not there (another system, another version of control groups) the question is answered without it.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, GROUPS, SHARED = Path("/proc"), Path("/sys/fs/cgroup"), Path("/dev/shm")
SHARE = "FRUGALSEG_SHARE"  # environment: how many processes of ours share the machine; each has its part of it
UNLIMITED = 2**60  # version 1 writes a number near 2 ** 63 where there is no limit


@dataclass(frozen=True)
class Resources:
    """What can be used, in bytes; `gpu` and `shared` (what loader workers pass batches through) may be unknown."""

    ram: int
    cpus: int
    gpu: int | None = None
    shared: int | None = None


def look(device: str) -> Resources:
    """Look at the machine; `device` is "cpu" or "cuda"."""
    gpu = None
    if device == "cuda":
        import torch

        gpu = int(torch.cuda.mem_get_info()[0]) // share()
    return Resources(free_memory(), usable_cpus(), gpu, free_disk(SHARED) // share() if SHARED.is_dir() else None)


def free_memory(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Return how many bytes this process may still take: the least of the machine's and every group's above it.

    A group's free memory is its limit, less what it uses, and what of that the kernel would give back (file pages).
    """
    free = [_group_free(folder) for folder in _folders("memory", proc, groups)]
    facts = _table(proc / "meminfo", unit=1024)
    if "MemAvailable" in facts:
        free.append(facts["MemAvailable"])
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    known = [value for value in free if value is not None]
    return (max(0, min(known)) if known else 8 * 2**30) // share()


def share() -> int:
    """Return how many processes of ours share the machine: those of a study's cells side by side."""
    told = os.environ.get(SHARE, "1")
    return max(1, int(told)) if told.isdecimal() else 1


def at_a_time(held: int) -> int:
    """Return how many cases to work on at a time: one a processor, 16 at most, fewer where half of the memory ends.

    Args:
        held: Bytes that one of them holds.
    """
    return max(1, min(usable_cpus(), 16, free_memory() // 2 // max(1, held)))


def usable_cpus(proc: Path = PROC, groups: Path = GROUPS, affinity: int | None = None) -> int:
    """Return how many processors this process may use: its affinity, or fewer by a quota (rounded up)."""
    if affinity is None:
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = affinity
    for folder in _folders("cpu", proc, groups):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]) > 0:
            count = min(count, math.ceil(int(words[0]) / int(words[1])))
    return max(1, count // share())


def free_disk(folder: Path) -> int:
    """Return the bytes that are free where `folder` is, or would be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def resident_bytes(proc: Path = PROC) -> int:
    """Return how much memory this process holds now; 0 where the system does not tell."""
    return _table(proc / "self" / "status", unit=1024).get("VmRSS", 0)


def _folders(controller: str, proc: Path, groups: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those above it, in whichever version there is.

    In a container the group's path may be the host's, which is not there; its own limits then lie at the top.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root = groups
        elif controller in controllers.split(","):
            root = groups / controller
            root = root if root.is_dir() else groups / controllers
        else:
            continue
        place = root / path.strip("/")
        while True:
            if place.is_dir():
                yield place
            if place == root or root not in place.parents:
                break
            place = place.parent


def _group_free(folder: Path) -> int | None:
    """Return what a group may still take, None where it has no limit."""
    if (limit := _number(folder / "memory.max")) is not None:
        used, prefix = _number(folder / "memory.current"), ""
    elif (limit := _number(folder / "memory.limit_in_bytes")) is not None:
        used, prefix = _number(folder / "memory.usage_in_bytes"), "total_"
    if limit is None or limit >= UNLIMITED:
        return None
    facts = _table(folder / "memory.stat")
    # Half of the pages that were used more than once: the kernel would give them up, at the price of reading again.
    back = facts.get(f"{prefix}inactive_file", 0) + facts.get(f"{prefix}active_file", 0) // 2
    back += facts.get("slab_reclaimable", 0)
    return limit - (used or 0) + min(back, used or 0)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None


def _table(path: Path, unit: int = 1) -> dict[str, int]:
    """Read lines of a name and a number, as in meminfo (with colons, in kB) and memory.stat."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", " ").split() for line in lines)
    return {pair[0]: int(pair[1]) * unit for pair in pairs if len(pair) >= 2 and pair[1].isdecimal()}
