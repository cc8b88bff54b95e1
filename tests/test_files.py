"""Files: a reader sees the old or the new one, whatever happens to the writer; unreadable text is a line."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from frugalseg.errors import DataError
from frugalseg.files import (
    hash_file,
    hash_value,
    read_json,
    read_json_object,
    read_text,
    sync_folder,
    write_atomic,
    write_json,
    write_text,
)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("old", ["old", None])
def test_a_writer_that_fails_half_way_changes_nothing(
    tmp_path: Path, error: BaseException, old: str | None
) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)

    def write(temporary: Path) -> None:
        temporary.write_text("ne")
        raise error

    with pytest.raises(DataError if isinstance(error, OSError) else type(error)) as caught:
        write_atomic(path, write)
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: cannot be written (No space left on device); nothing was changed"
    assert [item.name for item in tmp_path.iterdir()] == (["a.txt"] if old else [])
    assert old is None or path.read_text() == old


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text("old")
    numbers: list[int] = []

    def write(temporary: Path) -> None:
        assert temporary.parent == tmp_path  # a rename across file systems would be a copy
        assert temporary.name.endswith(".nii.gz")
        assert temporary.name.startswith(".")
        temporary.unlink()  # some writers make their own file
        temporary.write_text("new")
        numbers.append(temporary.stat().st_ino)
        assert path.read_text() == "old"

    write_atomic(path, write)
    assert path.read_text() == "new"
    assert path.stat().st_ino == numbers[0]  # renamed, not copied over the old one
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "ä\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "ä\n".encode()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_text(tmp_path / "folder", "x")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_new_files_have_the_permissions_of_the_users_mask(tmp_path: Path, mask: int) -> None:
    code = "import os, sys; os.umask(int(sys.argv[2])); import frugalseg.files as f; from pathlib import Path; "
    code += "f.write_text(Path(sys.argv[1]), 'x'); print(os.umask(0), f.NEW_FOLDER_MODE)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a"), str(mask)], capture_output=True, text=True, check=True
    )
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~mask
    assert [int(word) for word in done.stdout.split()] == [mask, 0o777 & ~mask]


def test_writing_does_not_touch_the_mask_that_other_threads_write_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(mask: int) -> int:
        raise AssertionError("the mask belongs to the whole process")

    monkeypatch.setattr(os, "umask", asked)
    write_text(tmp_path / "a", "x")


def test_readers_beside_writers_see_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, [0] * 2000)
    stop = threading.Event()

    def write(number: int) -> None:
        while not stop.is_set():
            write_json(path, [number] * 2000)

    writers = [threading.Thread(target=write, args=(number,)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(40):
            values = read_json(path)
            assert len(values) == 2000
            assert len(set(values)) == 1
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_readable_and_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "Größe", "values": [1, 0.5, None]})
    text = path.read_text(encoding="utf-8")
    assert "Größe" in text
    assert text.endswith("}\n")
    assert read_json_object(path) == {"name": "Größe", "values": [1, 0.5, None]}
    with pytest.raises(ValueError):
        write_json(path, {"x": float("nan")})
    assert path.read_text(encoding="utf-8") == text


def not_there(path: Path) -> None:
    pass


def a_folder(path: Path) -> None:
    path.mkdir()


def content(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_there, "does not exist"),
        (a_folder, "is a folder, a file was expected"),
        (content(b"ab\xff"), r"is not UTF-8 text \(byte 2\)"),
        (content(b""), "is not valid JSON: it is empty; restore it"),
        (content(b'{\n"a": 1,\n}'), "is not valid JSON: .* in line [23]"),
        (content(b"[" * 200_000), "is not valid JSON: nested too deeply"),
        (content(b"[1]"), "holds a JSON list, an object was expected"),
        (content(b" " * 2**20 + b"{}"), "has 1048578 bytes, more than the 1048576"),
    ],
)
def test_unreadable_files_are_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], message: str
) -> None:
    monkeypatch.setattr(read_text, "__defaults__", (2**20,))
    path = tmp_path / "a.json"
    make(path)
    with pytest.raises(DataError, match=f"a.json: {message}") as caught:
        read_json_object(path)
    assert "\n" not in str(caught.value)


def test_the_limit_is_for_what_is_over_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_text(tmp_path / "a", 5) == "12345"
    with pytest.raises(DataError, match="has 5 bytes, more than the 4"):
        read_text(tmp_path / "a", 4)


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataError):
            hash_file(path)
    assert hash_value({"a": 1, "b": [1, 2]}) == hash_value(json.loads('{"b": [1, 2], "a": 1}'))
    assert hash_value({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()
    assert (
        len({hash_value(v) for v in ({"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": [1]}, {"b": 1}, [1, 2], [2, 1])}) == 7
    )
    with pytest.raises(ValueError):
        hash_value(float("nan"))


def test_a_folder_can_be_flushed(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    with pytest.raises(OSError):
        sync_folder(tmp_path / "none")
