"""One side of a comparison, in a process of its own: set up once, then run whenever the other side has.

Started by `rounds`, told over standard input: "go" runs once and answers with the seconds; "stop" saves what the
last run returned and answers with the memory. The first run, which also warms up, is told apart.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def status_bytes(name: str) -> int:
    """Return a figure of this process from the operating system: VmRSS is memory now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def main(what: str, arguments: str, out: str) -> None:
    """Serve `what` ("module:function"), set up with keyword arguments given as JSON."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever libraries print does not end up among the answers
    module, function = what.split(":")
    run = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    begun = time.perf_counter()
    result: dict[str, Any] | None = run()
    first = time.perf_counter() - begun
    forget_peak()
    ready = status_bytes("VmRSS")
    print(json.dumps({"first": first}), file=answers, flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            break
        begun = time.perf_counter()
        result = run()
        print(json.dumps({"seconds": time.perf_counter() - begun}), file=answers, flush=True)
    np.savez(out, **(result or {}))
    facts = {"ready_bytes": ready, "peak_bytes": status_bytes("VmHWM")}
    print(json.dumps(facts), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
