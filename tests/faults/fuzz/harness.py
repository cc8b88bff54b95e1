"""Fuzzing by hand, with atheris: bytes mutated towards code not seen yet must end well or in a line of ours.

atheris 3.0.0 works on Python 3.11, and in an environment of its own that sees the project's packages:

    python3.11 -m venv .fuzz-venv && .fuzz-venv/bin/pip install atheris==3.0.0
    PYTHONPATH=src:.:.venv/lib/python3.11/site-packages .fuzz-venv/bin/python -m tests.faults.fuzz.nifti \\
        -max_total_time=600 -rss_limit_mb=4096 -timeout=20 -max_len=20000

Each target is a module here: nifti, images, dataset, table, recipe, checkpoint, records. A run does not end with
the first finding: each place that an error came from is told once, with the bytes in fuzz-findings/TARGET-*; the
numbers of runs and findings are told every 20 seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from frugalseg.errors import UserError

FINDINGS = Path(os.environ.get("FUZZ_FINDINGS", "fuzz-findings"))
SLOW = 3.0  # seconds


class Fuzzing:
    """Counts what a target does with the bytes it is given.

    Args:
        name: Of the target.
        target: Reads the bytes in a folder of its own; only errors of ours may leave it.
    """

    def __init__(self, name: str, target: Callable[[bytes, Path], None]) -> None:
        self.name, self.target = name, target
        # In memory where there is such a disk: a file is written for each run.
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=memory if memory.is_dir() else None))
        self.runs = self.accepted = self.refused = 0
        self.found: set[str] = set()
        self.started = self.told = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Run the target once."""
        self.runs += 1
        began = time.monotonic()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                self.target(data, self.folder)
            self.accepted += 1
        except UserError as error:
            self.refused += 1
            line = str(error)
            if len(line.splitlines()) != 1 or not line.isprintable() or len(line) > 4000:
                self.note(f"a line that is none: {line[:200]!r}", "line", data)
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "frugalseg" in f.filename]
            place = f"{frames[-1].filename.rsplit('frugalseg/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
            self.note(f"{type(error).__name__} at {place}: {str(error)[:200]}", f"{type(error)} {place}", data)
        if (seconds := time.monotonic() - began) > SLOW:
            self.note(f"{seconds:.1f} s", f"slow {int(seconds)}", data)
        if time.monotonic() - self.told > 20:
            self.told = time.monotonic()
            self.tell()

    def note(self, text: str, key: str, data: bytes) -> None:
        """Tell a finding, the first time that it comes."""
        if key in self.found:
            return
        self.found.add(key)
        FINDINGS.mkdir(parents=True, exist_ok=True)
        path = FINDINGS / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        path.write_bytes(data)
        print(f"FOUND {text} ({path})", file=sys.stderr, flush=True)

    def tell(self) -> None:
        """Print the numbers so far."""
        seconds = time.monotonic() - self.started
        print(
            f"{self.name}: {self.runs} runs in {seconds:.0f} s, {self.accepted} accepted, {self.refused} refused, "
            f"{len(self.found)} findings",
            file=sys.stderr,
            flush=True,
        )


def start(
    name: str, target: Callable[[bytes, Path], None], seeds: Iterable[bytes], words: Iterable[str | bytes] = ()
) -> None:
    """Fuzz a target until libFuzzer's options (-max_total_time, -runs) end it. Takes the command line's.

    Args:
        name: Of the target.
        target: As for `Fuzzing`.
        seeds: Sound inputs to begin with.
        words: What mutations may put in.
    """
    import atheris

    fuzzing = Fuzzing(name, target)
    corpus = fuzzing.folder.with_name(fuzzing.folder.name + "-seeds")
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    dictionary = corpus.with_suffix(".dict")
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
    options = [f"-dict={dictionary}"] if dictionary.stat().st_size else []
    atheris.Setup([sys.argv[0], *sys.argv[1:], *options, str(corpus)], fuzzing)
    atheris.Fuzz()


def instrumented() -> contextlib.AbstractContextManager[object]:
    """Return the context in which a target imports what is to be watched."""
    import atheris

    context: contextlib.AbstractContextManager[object] = atheris.instrument_imports(
        include=["frugalseg"], enable_loader_override=False
    )
    return context


def _escaped(word: str | bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in (word if isinstance(word, bytes) else word.encode()))
