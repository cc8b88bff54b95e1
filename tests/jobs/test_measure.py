"""A run that is only timed: what takes time is there, what is not worth a look at the clock is not made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.config import load_config
from frugalseg.jobs.measure import undertaken
from tests.jobs.test_atlas import TINY, write_alike

# Turned crops differ at a volume's edge all the same: beyond it is nothing, or its last voxel if it is deformed.
ALWAYS = ["augment.deform=1", "augment.rotate=0", "augment.scale=0"]


def test_crops_are_deformed_and_nothing_is_registered(tmp_path: Path) -> None:
    data, store = write_alike(tmp_path / "data", 4), tmp_path / "store"
    run = undertaken(data, "frugal", 2, 0, TINY, store)
    assert run.config.atlas is None
    assert run.config.augment.deform == load_config("frugal").augment.deform > 0
    assert [len(case.deformations) for case in run.cases] == [1, 1, 0, 0]
    assert [path.name.split(".")[0] for path in store.glob("*.field.b2nd")] == ["nothing"]


def test_a_displacement_of_nothing_deforms_nothing(tmp_path: Path) -> None:
    data, store = write_alike(tmp_path / "data", 3), tmp_path / "store"
    run = undertaken(data, "frugal", 2, 0, [*TINY, *ALWAYS], store)
    bent = run.samples(run.network())
    run.cases = [replace(case, deformations=()) for case in run.cases]
    straight = run.samples(run.network())
    for number in range(12):
        ours, plain = bent[number], straight[number]
        assert ours.case == plain.case
        np.testing.assert_allclose(ours.image, plain.image, atol=1e-4)
        np.testing.assert_array_equal(ours.target, plain.target)


def test_registration_that_only_votes_or_teaches_leaves_no_trace(tmp_path: Path) -> None:
    data, store = write_alike(tmp_path / "data", 3), tmp_path / "store"
    run = undertaken(data, "frugal", 2, 0, [*TINY, "augment.deform=0"], store)
    assert run.config.atlas is None
    assert not any(case.deformations for case in run.cases)
    assert not list(store.glob("*.field.b2nd"))
