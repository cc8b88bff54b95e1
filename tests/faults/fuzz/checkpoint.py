"""A run's checkpoint, one of whose files is mutated and sealed again: the hashes are no secret.

The first byte says which file. A state.json or model.json that is no JSON object goes in as it is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.fuzz.harness import instrumented, start

with instrumented():
    from frugalseg.files import hash_file
    from frugalseg.formats import seal
    from frugalseg.jobs.model import load_model
    from frugalseg.training.state import read_checkpoint

from tests.faults.corpus.scene import Scene, build

FILES = ("state.json", "model.json", "model.safetensors", "state.safetensors")
WORDS = [
    "format_version",
    "step",
    "sha256",
    "averaged",
    "optimiser_groups",
    "best",
    "looked",
    "config",
    "plan",
    "crop",
    "strides",
    "kernels",
    "width",
    "channels",
    "scheme",
    "labels",
    "network",
    "blocks",
    "dtype",
    "shape",
    "F32",
    "BF16",
    "data_offsets",
    "__metadata__",
    "null",
    "true",
    "-1",
    "1e9",
    "[]",
    "{}",
    "params",
    "lr",
]
_clean: Scene | None = None


def clean() -> Scene:
    """Return a sound run, made once."""
    global _clean
    if _clean is None:
        _clean = build(Path(tempfile.mkdtemp(prefix="fuzz-run-")) / "clean")
    return _clean


def target(data: bytes, folder: Path) -> None:
    """Open the model, and read what a run goes on from."""
    if not data:
        return
    last = folder / "run" / "last"
    if not last.exists():
        shutil.copytree(clean().run / "last", last)
    name, content = FILES[data[0] % len(FILES)], data[1:]
    for file in FILES:
        (last / file).write_bytes(content if file == name else (clean().run / "last" / file).read_bytes())
    try:
        facts = json.loads((last / "state.json").read_bytes())
        if isinstance(facts, dict) and isinstance(facts.get("sha256"), dict):
            facts["sha256"] |= {file: hash_file(last / file) for file in FILES[1:] if file in facts["sha256"]}
        if isinstance(facts, dict):
            (last / "state.json").write_text(json.dumps(seal(facts, "seal")))
    except (ValueError, RecursionError):
        pass
    first: Exception | None = None
    for read in (lambda: load_model(folder / "run", device="cpu"), lambda: read_checkpoint(last)):
        try:
            read()
        except Exception as error:
            first = first or error
    if first is not None:
        raise first


def seeds() -> Iterator[bytes]:
    """Yield the sound files, and model files of one small tensor."""
    for number, name in enumerate(FILES):
        content = (clean().run / "last" / name).read_bytes()
        yield bytes([number]) + content
    for number in (2, 3):
        head = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
        yield bytes([number]) + len(head).to_bytes(8, "little") + head + bytes(8)


if __name__ == "__main__":
    start("checkpoint", target, seeds(), WORDS)
