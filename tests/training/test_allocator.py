"""Freed memory stays with the process: its pages are not asked for again; results and peak are untouched."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from frugalseg.training.allocator import keep_freed_memory
done = keep_freed_memory() if sys.argv[1] == "keep" else None
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(12):
    torch.zeros(2**24).fill_(1)  # 64 MiB, freed at once; the first few find no place that is large and aligned
before = faults()
for _ in range(10):
    torch.zeros(2**24).fill_(1)
print(done, faults() - before)
"""
AFTER = """
from frugalseg.training.allocator import freed_memory_kept
import torch
def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))
before = resident()
with freed_memory_kept():
    for size in range(20, 28):
        torch.zeros(2**size).fill_(1)  # 4 to 512 MiB
    inside = resident()
print(inside - before, resident() - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is set")


def run(how: str, code: str = CODE, **variables: str) -> list[str]:
    environment = {"PYTHONPATH": "src", "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run([sys.executable, "-c", code, how], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@glibc
def test_a_freed_block_is_used_again_without_asking_the_system() -> None:
    kept, faults = run("keep")
    assert kept == "True"
    _, without = run("leave")
    assert int(without) > 200  # 64 MiB ten times, in pages of 4 KiB or, at the least, of 2 MiB
    assert 10 * int(faults) < int(without)


@glibc
def test_afterwards_it_goes_back_to_the_system() -> None:
    inside, after = map(int, run("keep", AFTER))
    assert inside > 500
    assert after < 100


@glibc
def test_an_allocator_that_a_user_chose_is_left_alone() -> None:
    assert run("keep", GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == "False"
