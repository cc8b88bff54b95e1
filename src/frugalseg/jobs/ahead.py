"""Reading the next case, and writing the one before, while one is computed: each by a thread of its own.

What takes their time (unpacking, packing, the disk) lets other threads run. One case is read ahead and one is
written behind, so memory is bounded whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Content], ahead: bool = True
) -> Iterator[tuple[Item, Content]]:
    """Yield each item with what `read` makes of it, while the next one is being read.

    What `read` raises is raised when the item's turn has come.

    Args:
        items: In order.
        read: Called with one item at a time.
        ahead: Whether to read ahead; otherwise each is read when its turn has come.
    """
    if not ahead:
        for item in items:
            yield item, read(item)
        return
    executor = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        waiting: tuple[Item, Future[Content]] | None = None
        for item in items:
            due = waiting
            waiting = item, executor.submit(read, item)
            if due is not None:
                content = due[1].result()
                yield due[0], content
                del content
        if waiting is not None:
            yield waiting[0], waiting[1].result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class WriteBehind:
    """Runs one job at a time in a thread: a further one waits for the one before, and raises what that raised.

    At the end of the `with` block the last one is waited for, also where the block fails.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="write-behind")
        self._last: Future[Any] | None = None

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._executor.shutdown(wait=True)

    def wait(self) -> None:
        """Wait for the job that runs, and raise what it raises."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def run(self, job: Callable[[], object]) -> None:
        """Start a job as soon as the one before is done."""
        self.wait()
        self._last = self._executor.submit(job)
