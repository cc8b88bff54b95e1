"""Kill a micro-run again and again, at random moments, and hold what comes out against a run that was left alone.

Every run is a process of its own that kills itself with a real SIGKILL at a random event of a random kind
(tests/faults/killer.py: steps, looks, log rows, weights, renames, flushes, removals), or is killed from outside at
a random time. Killed runs are resumed, several times each, with 0 and 2 loader workers in turn.

    python -m benchmarks.torture --kills 50 --out benchmarks/results/torture.md
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from tests.faults.killer import Killer
from tests.faults.micro import STEPS, differences, micro_data, micro_run

from frugalseg.errors import UserError
from frugalseg.training.seal import find_intact

KILLS_A_RUN = 5


def child(work: Callable[[], None], log: Path) -> int:
    """Do something in a process of its own; return its process number."""
    process = os.fork()
    if process == 0:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        status = 1
        try:
            work()
            status = 0
        except UserError as error:
            print(f"refused: {error}", flush=True)
        finally:
            os._exit(status)
    return process


def ended(process: int) -> int:
    """Wait for a process; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    """Run the torture and print (or write) its tally."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    draw = random.Random(options.seed)
    started = time.monotonic()
    where: Counter[str] = Counter()
    broken: list[str] = []
    kills = runs = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = micro_data(folder / "data")
        log = folder / "log.txt"
        for workers in (0, 2):
            alone = folder / f"alone-{workers}"
            status, events = watched(Killer(), data, alone, folder / "store", workers, log)
            assert status == 0, log.read_text()
        kinds = Counter(event for event in events if ".b2nd" not in event and "phantom" not in event)
        while kills < options.kills:
            workers = (0, 2)[runs % 2]
            run = folder / f"run-{runs}"
            store = folder / "store" if runs % 4 else folder / f"store-{runs}"  # sometimes killed while preparing
            runs += 1
            for _ in range(KILLS_A_RUN):
                kind = attack(draw, kinds, data, run, store, workers, log)
                if kind is None:
                    break
                kills += 1
                where[kind] += 1
                if (run / "run.json").exists():
                    find_intact(run / "last")
            if ended(child(partial(go, data, run, store, workers), log)) != 0:
                broken.append(f"{run.name}: did not go on\n{log.read_text()[-2000:]}")
                continue
            apart = differences(folder / f"alone-{workers}", run)
            if apart:
                broken.append(f"{run.name} ({workers} workers): differs in {', '.join(apart)}")
    text = report(options.seed, kills, runs, where, broken, time.monotonic() - started)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    sys.exit(1 if broken else 0)


def go(data: Path, run: Path, store: Path, workers: int) -> None:
    """Start a run or go on with it, undisturbed."""
    micro_run(data, run, store, workers)


def watched(
    killer: Killer, data: Path, run: Path, store: Path, workers: int, log: Path, seconds: float | None = None
) -> tuple[int, list[str]]:
    """Start or resume a run under a killer, or kill it from outside after so many seconds.

    Returns:
        Its exit status, and the events that it came to.
    """
    reading, writing = os.pipe()

    def work() -> None:
        original = killer.event
        killer.process = os.getpid()

        def told(kind: str) -> None:
            if os.getpid() == killer.process:
                os.write(writing, f"{kind}\n".encode())
            original(kind)

        killer.event = told  # type: ignore[method-assign]
        killer.install()
        micro_run(data, run, store, workers)

    process = child(work, log)
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    status = ended(process)
    os.set_blocking(reading, False)  # orphaned loader workers hold the other end for some seconds
    try:
        events = os.read(reading, 2**16)
    except BlockingIOError:
        events = b""
    os.close(reading)
    return status, events.decode().splitlines()


def attack(
    draw: random.Random, kinds: Counter[str], data: Path, run: Path, store: Path, workers: int, log: Path
) -> str | None:
    """Start or resume a run and kill it; return where, or None if it ended before that."""
    if draw.random() < 0.2:
        status, events = watched(Killer(), data, run, store, workers, log, draw.uniform(0.0, 3.0))
        where = f"from outside, after: {(events or ['nothing'])[-1]}"
    else:
        kind = draw.choice(sorted(kinds))
        status, _ = watched(Killer(None, kind, draw.randint(1, kinds[kind])), data, run, store, workers, log)
        where = kind
    if status == 0:
        return None
    if status != -signal.SIGKILL:
        raise SystemExit(f"a run failed by itself:\n{log.read_text()[-3000:]}")
    return where


def report(seed: int, kills: int, runs: int, where: Counter[str], broken: list[str], seconds: float) -> str:
    """Return the tally as Markdown."""
    lines = [
        "# Killed at random moments",
        "",
        f"`python -m benchmarks.torture --seed {seed}`: {kills} SIGKILLs in {runs} runs of {STEPS} steps (up to "
        f"{KILLS_A_RUN} in one run; 0 and 2 loader workers in turn; a checkpoint after every step, a look at the "
        "validation case after every second one, a running mean of the weights).",
        "",
        f"**{runs - len(broken)} of {runs} runs ended bit for bit like the run that was left alone**: all of "
        "`last/` (weights, running mean, optimiser, its state.json) and `best/`, metrics.csv, validation.csv, "
        "config.yaml, plan.json, split.json.",
        "",
        f"{seconds:.0f} s on {platform.machine()}, torch {torch.__version__}, one thread, deterministic mode.",
        "",
        "| killed at | times |",
        "|---|---|",
        *(f"| {kind} | {count} |" for kind, count in sorted(where.items(), key=lambda item: (-item[1], item[0]))),
        "",
        *broken,
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
