"""The store: partial reads equal the whole, damage of any file is seen, open handles are few and of one process."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from frugalseg.data import store
from frugalseg.data.store import ArrayCache, Entry, default_store, open_array, write_array
from frugalseg.errors import DataError


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    """Two channels of several chunks along one axis, and several blocks along another."""
    array = numbers(2, 70, 40, 9)
    path = tmp_path_factory.mktemp("arrays") / "large.b2nd"
    write_array(path, array)
    return path, array


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_partial_reads_equal_the_whole(large: tuple[Path, NDArray[np.float32]], data: st.DataObject) -> None:
    path, array = large
    box = []
    for side in array.shape:
        low = data.draw(st.integers(0, side - 1))
        box.append(slice(low, data.draw(st.integers(low + 1, side))))
    assert np.array_equal(open_array(path)[tuple(box)], array[tuple(box)])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 6), (1, 65, 33, 1), (7, 4), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int32])
def test_any_shape_comes_back(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    array: NDArray[Any] = (numbers(*shape) * 10).astype(np.int8).astype(dtype)
    write_array(tmp_path / "a.b2nd", array)
    found = np.asarray(open_array(tmp_path / "a.b2nd")[:])
    assert found.dtype == array.dtype
    assert np.array_equal(found.reshape(array.shape), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.b2nd"]


def test_a_view_with_steps_is_written_as_it_reads(tmp_path: Path) -> None:
    array = numbers(1, 6, 8, 4)[:, ::-1].transpose(0, 3, 1, 2)
    write_array(tmp_path / "a.b2nd", array)
    assert np.array_equal(open_array(tmp_path / "a.b2nd")[:], array)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 5000])
def test_what_is_no_array_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.b2nd").write_bytes(content)
    with pytest.raises(DataError, match="run prepare again") as caught:
        open_array(tmp_path / "a.b2nd")
    assert "\n" not in str(caught.value)
    assert "a.b2nd" in str(caught.value)


def test_a_missing_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.b2nd"):
        open_array(tmp_path / "nothing.b2nd")


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    made = Entry(tmp_path, "a.b", "0123456789abcdef0123")
    made.write({"one": numbers(1, 4, 5, 6), "two": numbers(7, 4)}, {"shape": [4, 5, 6], "name": "ä"})
    return made


def test_an_entry_gives_its_facts_back_and_its_files_carry_the_key(entry: Entry) -> None:
    facts = entry.read()
    assert facts is not None
    assert (facts["shape"], facts["name"], facts["format_version"]) == ([4, 5, 6], "ä", store.FORMAT_VERSION)
    stem = "a.b.0123456789abcdef"
    assert {path.name for path in entry.root.iterdir()} == {f"{stem}.json", f"{stem}.one.b2nd", f"{stem}.two.b2nd"}
    assert Entry(entry.root, "a.b", "1123456789abcdef0123").read() is None
    assert Entry(entry.root, "a", "0123456789abcdef0123").read() is None


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 4  # of an entry's JSON: in its last array's hash
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [remove, shorten, empty, flip_a_bit])
@pytest.mark.parametrize("kind", ["json", "one.b2nd", "two.b2nd"])
def test_a_damaged_entry_is_none(entry: Entry, kind: str, damage: Callable[[Path], None]) -> None:
    damage(next(path for path in entry.root.iterdir() if path.name.endswith(kind)))
    assert entry.read() is None


@pytest.mark.parametrize("text", ["[]", "{}", '{"sha256": []}', "\xff", '{"format_version": 1, "sha256": null}'])
def test_strange_facts_are_none(entry: Entry, text: str) -> None:
    entry.seal.write_bytes(text.encode("latin-1"))
    assert entry.read() is None


def test_nothing_is_sealed_if_an_array_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = store.write_array

    def failing(path: Path, array: NDArray[Any]) -> None:
        if "two" in path.name:
            raise DataError("cannot be written", path)
        original(path, array)

    monkeypatch.setattr(store, "write_array", failing)
    entry = Entry(tmp_path, "a", "0" * 20)
    with pytest.raises(DataError):
        entry.write({"one": numbers(1, 2, 2, 2), "two": numbers(1, 4)}, {})
    assert entry.read() is None
    assert not entry.seal.exists()


def test_the_cache_keeps_the_arrays_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opens(path: Path) -> object:
        opened.append(path.name)
        return object()

    monkeypatch.setattr(store, "open_array", opens)
    resource = pytest.importorskip("resource")
    for soft, wanted in ((256, 128), (64, 64), (1024, 512), (resource.RLIM_INFINITY, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert store.open_arrays_at_most() == wanted
    monkeypatch.setattr(store, "_OPEN_ARRAYS", 2)
    cache = ArrayCache()
    first = cache.open(tmp_path / "a")
    cache.open(tmp_path / "b")
    assert cache.open(tmp_path / "a") is first
    cache.open(tmp_path / "c")  # b is the one that was used longest ago
    assert cache.open(tmp_path / "a") is first
    cache.open(tmp_path / "b")
    assert opened == ["a", "b", "c", "b"]


def test_handles_do_not_cross_to_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_array(tmp_path / "a", numbers(1, 3, 3, 3))
    cache = ArrayCache()
    mine = cache.open(tmp_path / "a")
    sent = pickle.loads(pickle.dumps(cache))  # noqa: S301
    assert sent.open(tmp_path / "a") is not mine
    monkeypatch.setattr(os, "getpid", lambda: -2)
    assert cache.open(tmp_path / "a") is not mine


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path.home()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/else")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    wanted = {"linux": Path("/somewhere/else"), "darwin": home / "Library/Caches", "win32": home / "AppData/Local"}
    for platform, folder in wanted.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert default_store() == folder / "frugalseg" / "store"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_store() == home / ".cache" / "frugalseg" / "store"
