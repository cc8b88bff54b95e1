"""What the machine has: memory, processor, versions."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugalseg import __version__


def memory_bytes(device: str) -> int:
    """Return the memory that can be used: the GPU's, or the smaller of the machine's and the control group's."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 2**30
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            pages = min(pages, int((Path("/sys/fs/cgroup") / name).read_text()))
        except (OSError, ValueError):
            continue
    return pages


def describe(device: str) -> dict[str, Any]:
    """Return versions and hardware, for a run's record."""
    return {
        "frugalseg": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.system(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def forget_peak() -> None:
    """Begin the peak of this process's memory anew at what it holds now, where the system can (Linux).

    For a process that does one thing after another, whose peaks are to be told apart.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """Return the largest resident memory of this process so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    # What a new process is told by `resource` includes the peak of the one that began it.
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def default_workers(processes: int = 1) -> int:
    """Return one loader process per two processors, none on two or fewer (they would take turns), 8 at most.

    Args:
        processes: How many training processes share the machine.
    """
    from frugalseg.jobs.resources import usable_cpus

    count = usable_cpus() // processes
    return 0 if count <= 2 else min(8, count // 2)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
