"""The JSON files of a run and of predictions, mutated and sealed again; the first byte says which."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.data.budget import Split
    from frugalseg.errors import UserError
    from frugalseg.files import hash_file, read_json_object
    from frugalseg.formats import seal
    from frugalseg.jobs.info import info, render
    from frugalseg.jobs.predicted import read_record as read_predictions
    from frugalseg.jobs.record import read_plan, read_record

from tests.faults.corpus.scene import Scene, build

FILES = ("run.json", "plan.json", "split.json", "predictions.json")
WORDS = [
    "\\n",
    *[
        "format_version",
        "spent",
        "from",
        "to",
        "seconds",
        "peak_bytes",
        "best",
        "step",
        "dice",
        "data",
        "folder",
        "name",
        "cases",
        "files",
        "machine",
        "crop",
        "strides",
        "kernels",
        "width",
        "steps",
        "labelled",
        "validation",
        "unlabelled",
        "rule",
        "labels_read",
        "null",
        "true",
        "-1",
        "1e9",
        "[]",
        "{}",
    ],
]
_clean: Scene | None = None


def clean() -> Scene:
    """Return a sound run, made once."""
    global _clean
    if _clean is None:
        _clean = build(Path(tempfile.mkdtemp(prefix="fuzz-run-")) / "clean")
    return _clean


def target(data: bytes, folder: Path) -> None:
    """Read the run's records in every way that a command does."""
    if not data:
        return
    run = folder / "run"
    if not run.exists():
        shutil.copytree(clean().run, run)
    name, content = FILES[data[0] % len(FILES)], data[1:]
    for file in FILES[:3]:
        (run / file).write_bytes(content if file == name else (clean().run / file).read_bytes())
    (folder / FILES[3]).write_bytes(content if name == FILES[3] else (clean().predictions / FILES[3]).read_bytes())
    sealed(run / "split.json")
    sealed(run / "run.json", {file: hash_file(run / file) for file in ("config.yaml", "plan.json", "split.json")})
    first: Exception | None = None
    for read in (
        lambda: render(info(run)),
        lambda: render(info(run, verify_files=True)),
        lambda: read_record(run),
        lambda: read_plan(run),
        lambda: Split.from_json(read_json_object(run / "split.json"), run / "split.json"),
        lambda: read_predictions(folder),
    ):
        try:
            read()
        except UserError as error:
            first = first or error
    if first is not None:
        raise first


def sealed(path: Path, files: dict[str, str] | None = None) -> None:
    """Seal a file that is a JSON object, as whoever changed it could."""
    try:
        facts = json.loads(path.read_bytes())
        if isinstance(facts, dict):
            if files is not None and "files" in facts:
                facts["files"] = files
            path.write_text(json.dumps(seal(facts)))
    except (ValueError, RecursionError):
        return


def seeds() -> Iterator[bytes]:
    """Yield the sound files."""
    for number, name in enumerate(FILES):
        folder = clean().predictions if number == 3 else clean().run
        yield bytes([number]) + (folder / name).read_bytes()


if __name__ == "__main__":
    start("records", target, seeds(), WORDS)
