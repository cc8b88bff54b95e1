"""Versions and seals: a newer file is refused by name, a changed byte is told from a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frugalseg import __version__
from frugalseg.data.budget import Split
from frugalseg.data.store import Entry
from frugalseg.errors import DataError
from frugalseg.files import read_json_object, write_json
from frugalseg.formats import NewerFormat, read_sealed, require_version, seal
from frugalseg.jobs.predicted import read_record as read_predictions
from frugalseg.jobs.record import read_plan, read_record
from frugalseg.training.seal import verify


def write(path: Path, **facts: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts))
    return path


def test_every_byte_of_a_sealed_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    facts = {"format_version": 1, "a": [1, 2.5, "ü"], "b": {"c": None}}
    write_json(path, seal(facts))
    assert read_sealed(path, 1) == facts
    good = path.read_bytes()
    refused = 0
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bytes(bad))
        try:
            found = read_sealed(path, 1)
        except DataError:
            refused += 1
        else:
            assert found == facts  # white space
    assert refused > 0.8 * len(good)


def test_a_number_that_json_cannot_hold_is_damage_and_not_a_failure(tmp_path: Path) -> None:
    for text in (
        '{"format_version": 1, "a": NaN, "sha256": "x"}',
        '{"format_version": 1, "a": ' + "9" * 5000 + "}",
    ):
        (tmp_path / "f.json").write_text(text)
        with pytest.raises(DataError):
            read_sealed(tmp_path / "f.json", 1)


@pytest.mark.parametrize("version", [None, 0, -1, "1", True, 1.0])
def test_no_version_is_damage(version: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no format version") as caught:
        require_version({"format_version": version}, 1, tmp_path)
    assert not isinstance(caught.value, NewerFormat)


READERS: dict[str, Callable[[Path], Any]] = {
    "run.json": lambda folder: read_record(folder),
    "plan.json": lambda folder: read_plan(folder),
    "split.json": lambda folder: Split.from_json(read_json_object(folder / "split.json"), folder / "split.json"),
    "state.json": lambda folder: verify(folder),
    "predictions.json": lambda folder: read_predictions(folder),
    "case.0123456789abcdef.json": lambda folder: Entry(folder, "case", "0123456789abcdef").read(),
}


@pytest.mark.parametrize("name", READERS)
def test_a_newer_file_is_refused_with_both_versions_and_what_to_do(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, format_version=7, sha256={}, files={})
    with pytest.raises(NewerFormat) as caught:
        READERS[name](tmp_path)
    line = str(caught.value)
    assert name in line
    assert "format 7" in line
    assert "up to 1" in line
    assert __version__ in line
    assert "update frugalseg" in line
