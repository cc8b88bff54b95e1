"""A process's peak memory is its own: not that of the one that began it, nor of what it did before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PARENT = """
import multiprocessing
from frugalseg.jobs.machine import forget_peak, peak_memory_bytes

MIB = 2**20

def child(pipe):
    begun = peak_memory_bytes()
    held = b"x" * (300 * MIB)
    whole = peak_memory_bytes()
    del held
    forget_peak()
    pipe.send([begun, whole, peak_memory_bytes()])

if __name__ == "__main__":
    held = b"x" * (900 * MIB)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=child, args=(theirs,))
    process.start()
    print(*(number // MIB for number in ours.recv()))
    process.join()
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can begin a peak anew")
def test_the_peak_of_one_thing_after_another(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=300)
    begun, whole, after = map(int, done.stdout.split())
    assert begun < 850, "the parent's 900 MiB"
    assert whole >= begun + 250
    assert after < whole - 250
