"""Whole runs on two processes: files, validation, stopping, going on, and a number that is none."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest

from frugalseg.config import load_config
from frugalseg.data.patches import SamplingSettings
from frugalseg.errors import UserError
from frugalseg.training.loader import require_enough
from tests.ddp.pool import Pool
from tests.ddp.work import Places, fit, spoilt_step

SETTINGS = ["training.average=0.9", "training.validate_every=2", "training.steps=3"]
EXACT = (
    "last/model.safetensors",
    "last/state.safetensors",
    "best/model.safetensors",
    "metrics.csv",
    "validation.csv",
)


def table(path: Path) -> list[list[float]]:
    with path.open(newline="") as file:
        return [[float(cell or "nan") for cell in row] for row in list(csv.reader(file))[1:]]


@pytest.fixture(scope="module")
def undisturbed(pool: Pool, places: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two"
    assert pool(fit, places, folder, 2, None, SETTINGS) == [(3, None)] * 2
    return folder


def test_logs_and_validation_are_those_of_one_process(undisturbed: Path, places: Places, tmp_path: Path) -> None:
    assert fit(places, tmp_path / "one", 1, None, SETTINGS) == (3, None)
    for name in ("metrics.csv", "validation.csv"):
        found, expected = table(undisturbed / name), table(tmp_path / "one" / name)
        assert len(found) == len(expected)
        for row, wanted in zip(found, expected, strict=True):
            assert row == pytest.approx(wanted, rel=1e-3, abs=1e-5, nan_ok=True)
    assert sorted(path.name for path in undisturbed.iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


def test_a_signal_to_one_process_stops_both_after_the_same_step_and_they_go_on_exactly(
    undisturbed: Path, pool: Pool, places: Places, tmp_path: Path
) -> None:
    assert pool(fit, places, tmp_path / "run", 2, 1, SETTINGS) == [(2, signal.SIGTERM)] * 2
    assert len(table(tmp_path / "run" / "metrics.csv")) == 2
    assert pool(fit, places, tmp_path / "run", 2, None, SETTINGS) == [(3, None)] * 2
    for name in EXACT:
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed / name).read_bytes(), name


def test_one_process_goes_on_with_the_run_of_two(
    undisturbed: Path, pool: Pool, places: Places, tmp_path: Path
) -> None:
    pool(fit, places, tmp_path / "run", 2, 1, SETTINGS)
    assert fit(places, tmp_path / "run", 1, None, SETTINGS) == (3, None)
    found, expected = table(tmp_path / "run" / "metrics.csv"), table(undisturbed / "metrics.csv")
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-3, abs=1e-5, nan_ok=True)


def test_a_number_that_is_none_in_one_process_ends_both_with_the_cases_of_both(pool: Pool, places: Places) -> None:
    one, two = pool(spoilt_step, places)
    assert one == two
    assert "is not a finite number at step 1" in one
    assert one.split("(cases ")[1].split(")")[0].count(",") == 3  # all four samples' cases


def test_more_processes_than_samples_are_refused() -> None:
    sampling = SamplingSettings(labelled=2, unlabelled=1)
    require_enough(sampling, 3)
    with pytest.raises(UserError, match="4 processes cannot share the 3 samples of a step"):
        require_enough(sampling, 4)


def test_devices_and_nodes_are_settings() -> None:
    assert load_config("encdec", ["training.devices=2"]).training.devices == 2
    assert load_config("encdec").training.nodes == 1
