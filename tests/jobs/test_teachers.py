"""What a run with registration says before it begins is what it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalseg.config import load_config
from frugalseg.data.budget import make_split
from frugalseg.data.manifest import read_manifest
from frugalseg.jobs.atlas import registered
from frugalseg.jobs.first_plan import order
from frugalseg.jobs.prepare import chosen, prepared
from frugalseg.jobs.registering_pace import pair_seconds
from frugalseg.jobs.teachers import registering_line, registrations
from frugalseg.semisup.registration import RegistrationSettings
from tests.jobs.test_atlas import write_alike

DEFORMED = ["augment.deform=0.5", "atlas={}"]
VOTES = ["inference.registration=0.4", "atlas={}"]


@pytest.mark.parametrize(
    ("method", "settings", "shapes", "pairs"),
    [
        ("atlas-teacher", [], 24, 3 * 2 + 3 * 3),  # among the labelled, and onto the three others
        ("atlas-teacher", DEFORMED, 24, 3 * 5),
        ("encdec", DEFORMED, 24, 3 * 5),  # as all others
        ("encdec", DEFORMED, 1, 3 * 2),  # as one, which is among the labelled, on whom it is tried anyway
        ("encdec", DEFORMED, 3, 3 * 3),
        ("encdec", VOTES, 24, 3 * 2),
    ],
)
def test_the_registrations_that_are_announced_are_those_that_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, settings: list[str], shapes: int, pairs: int
) -> None:
    for module in ("teachers", "atlas"):
        monkeypatch.setattr(f"frugalseg.jobs.{module}.SHAPES", shapes)
    manifest, store = read_manifest(write_alike(tmp_path / "data", 6)), tmp_path / "store"
    config = load_config(method, [*settings, "atlas.registration.iterations=1", "atlas.least=0"])
    split = make_split(manifest, 3, 0)
    assert len(registrations(config, split)) == pairs
    preparation, _ = chosen(manifest, split.readable, config.preprocess)
    cases = order(prepared(manifest, split.readable, store, preparation), split)
    registered(config, manifest, split, cases, store)
    assert len(list(store.glob("*.field.b2nd"))) == pairs


def test_a_run_without_registration_announces_none(tmp_path: Path) -> None:
    manifest = read_manifest(write_alike(tmp_path / "data", 4))
    split = make_split(manifest, 2, 0)
    assert not registrations(load_config("encdec"), split)
    assert registering_line(load_config("encdec"), manifest, split, []) is None


def test_the_time_of_registering_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(write_alike(tmp_path / "data", 4))
    split = make_split(manifest, 2, 0)
    monkeypatch.setattr("frugalseg.jobs.teachers.workers_that_fit", lambda *_: 3)
    monkeypatch.setattr("frugalseg.jobs.teachers.pair_seconds", lambda *_: 90.0)
    line = registering_line(load_config("encdec", DEFORMED), manifest, split, [])
    wanted = (
        "before it: {} registrations of labelled volumes onto others, about 3 min on {} processors, less what the "
    )
    assert line == wanted.format(6, 3) + "store has of them"
    # Only two images have anything registered onto them, each by one processor.
    line = registering_line(load_config("encdec", VOTES), manifest, split, [])
    assert line == wanted.format(2, 2).replace("3 min", "2 min") + "store has of them"


def test_a_pairs_time_follows_from_its_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalseg.jobs.registering_pace.SIDE", 24)
    settings = RegistrationSettings(iterations=1, voxels=10_000)
    ticks = iter([0.0, 5.0] * 3)

    def seconds(*shapes: tuple[int, int, int]) -> float:
        return pair_seconds(settings, shapes, lambda: next(ticks))

    assert seconds((10, 10, 10)) == pytest.approx(5 * 1000 / 10_000)
    assert seconds((10, 10, 10), (20, 10, 10)) == pytest.approx(5 * 1500 / 10_000)
    assert seconds((100, 100, 10)) == pytest.approx(5 * (1 + 0.01 * 9))  # the field of the coarser grid is laid on
