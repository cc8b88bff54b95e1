"""What the tests of distributed runs share: the two processes, and a tiny data set in a store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from frugalseg.data.phantom import write_phantom
from tests.ddp.pool import Pool
from tests.ddp.work import Places, make_run


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("ddp")
    places = Places(folder / "data", folder / "store")
    write_phantom(places.data, cases=5, labelled=2, test=1, shape=(24, 24, 24), seed=1)
    make_run(places, folder / "none", "encdec", [])  # fills the store
    return places
