"""Fuzz what reads files, by hand: only errors of ours may come out, in bounded time and memory.

In an environment of its own, which sees this project's packages (atheris is no dependency of ours):

    PYTHONPATH=src:. python -m tests.faults.fuzz TARGET CORPUS_FOLDER -max_total_time=600 -rss_limit_mb=4096

TARGET: nifti, nrrd, json, yaml, plan, manifest, table or checkpoint. CORPUS_FOLDER is filled with seeds at first.
What is found becomes an entry of `tests/faults/corpus` or a test beside the module.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["frugalseg", "nibabel", "yaml", "json"]):
    from tests.faults.fuzz.targets import SEEDS, TARGETS

from frugalseg.errors import UserError


def main() -> None:
    """Run one target until its time is over, or something else than an error of ours comes out."""
    name, corpus = sys.argv[1], Path(sys.argv[2])
    target = TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]()):
        (corpus / f"seed{number}").write_bytes(seed)
    folder = Path(tempfile.mkdtemp(prefix="frugalseg-fuzz-"))

    def once(data: bytes) -> None:
        try:
            target(data, folder)
        except UserError as error:
            if "\n" in str(error):
                raise RuntimeError("more than one line") from error

    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
