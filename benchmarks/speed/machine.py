"""What the machine is and can do: its name, the packages' versions, and the two limits, measured."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "frugalseg", "torch", "numpy", "scipy", "blosc2", "monai", "torchio", "MedPy", "surface-distance", "nnunetv2",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return processor, cores, memory, Python and the versions of the packages that are there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "python": platform.python_version(),
        "packages": found,
    }


def limits() -> dict[str, float]:
    """Return the machine's limits: 10^9 multiply-adds a second in fp32 and bf16, and 10^9 bytes a second copied.

    The best of several large matrix products and convolutions, and of several large copies (read and written bytes
    both count), with as many threads as there are cores.
    """
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2048, 2048).to(kind), torch.randn(2048, 2048).to(kind)
        found[f"matrix_{name}_gmac"] = 2048**3 / best(lambda a=a, b=b: a @ b) / 1e9
        x = torch.randn(1, 64, 48, 48, 48).to(kind).to(memory_format=torch.channels_last_3d)
        weight = torch.randn(64, 64, 3, 3, 3).to(kind).to(memory_format=torch.channels_last_3d)
        operations = 48**3 * 64 * 64 * 27
        found[f"convolution_{name}_gmac"] = (
            operations / best(lambda x=x, w=weight: torch.conv3d(x, w, padding=1)) / 1e9
        )
    source, target = torch.ones(2**27, dtype=torch.float32), torch.empty(2**27, dtype=torch.float32)
    found["copy_gbyte"] = 2 * source.nbytes / best(lambda: target.copy_(source)) / 1e9
    return {name: round(value, 1) for name, value in found.items()}


def best(work: Callable[[], object], repeats: int = 7) -> float:
    """Return the shortest of several runs, in seconds, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)
