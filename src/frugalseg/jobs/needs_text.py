"""What is needed against what is there, in one line; and which of it does not suffice."""

from __future__ import annotations

from pathlib import Path

from frugalseg.errors import UserError
from frugalseg.jobs.needs import MIB, Need
from frugalseg.jobs.resources import Resources, resident_bytes

ROOM = 0.95  # of what is there may be taken


def shortage(need: Need, here: Resources, processes: int = 1) -> str | None:
    """Return which memory does not suffice, and by how much; None if all does."""
    if need.gpu and here.gpu is not None and need.gpu > ROOM * here.gpu:
        return f"{size(need.gpu)} of GPU memory, and {size(here.gpu)} are free"
    if processes * need.ram > ROOM * here.ram:
        held = resident_bytes()
        return f"{size(processes * need.ram + held)} of memory, and {size(here.ram + held)} can be used"
    return None


def needs_line(need: Need, here: Resources, disk: int, processes: int = 1) -> str:
    """Return the line that is printed before the work."""
    held = resident_bytes()
    parts = [f"{size(processes * (need.ram + held))} of {size(here.ram + held)} RAM"]
    if need.gpu and here.gpu is not None:
        parts.append(f"{size(need.gpu)} of {size(here.gpu)} GPU memory")
    parts.append(f"{size(need.disk)} of {size(disk)} disk")
    if need.seconds is not None:
        parts.append(f"about {duration(need.seconds)}")
    return "needs about " + ", ".join(parts)


def require_disk(need: Need, free: int, where: Path) -> None:
    """Refuse work that would fill the disk.

    Raises:
        UserError: Names how much is needed and free.
    """
    if need.disk > free:
        raise UserError(
            f"up to {size(need.disk)} are needed on this disk, and {size(free)} are free; make room, or choose "
            "another folder",
            where,
        )


def size(count: float) -> str:
    """Write a number of bytes for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / MIB))} MiB"


def duration(seconds: float) -> str:
    """Write a length of time for people."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
