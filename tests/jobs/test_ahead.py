"""One item is read ahead and one written behind; errors come in their turn, and nothing is lost."""

from __future__ import annotations

import threading

import pytest

from frugalseg.jobs.ahead import WriteBehind, read_ahead


@pytest.mark.parametrize("ahead", [True, False])
def test_items_come_in_order(ahead: bool) -> None:
    assert list(read_ahead(range(5), lambda n: n * n, ahead)) == [(n, n * n) for n in range(5)]
    assert list(read_ahead([], str, ahead)) == []


def test_the_next_one_is_read_while_one_is_worked_on_and_no_further() -> None:
    read: list[int] = []
    second = threading.Event()

    def note(number: int) -> int:
        read.append(number)
        if number == 1:
            second.set()
        return number

    for number, _ in read_ahead(range(4), note):
        if number == 0:
            assert second.wait(10)
            assert read == [0, 1]


def test_what_reading_raises_comes_in_its_turn() -> None:
    def fail(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    items = read_ahead(range(4), fail)
    assert [next(items), next(items)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="two"):
        next(items)


def test_writing_runs_beside_and_is_finished_at_the_end() -> None:
    go, written = threading.Event(), []

    def write() -> None:
        assert go.wait(10)
        written.append(1)

    with WriteBehind() as behind:
        behind.run(write)
        assert written == []
        go.set()
    assert written == [1]


def test_what_writing_raises_is_raised_by_the_next_or_at_the_end() -> None:
    def fail() -> None:
        raise OSError("full")

    with WriteBehind() as behind:
        behind.run(fail)
        with pytest.raises(OSError, match="full"):
            behind.run(lambda: None)
    with pytest.raises(OSError, match="full"), WriteBehind() as behind:
        behind.run(fail)


def test_what_was_begun_is_written_where_the_work_fails() -> None:
    written = []

    def work() -> None:
        with WriteBehind() as behind:
            behind.run(lambda: written.append(1))
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert written == [1]
