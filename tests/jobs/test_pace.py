"""The time of a step: arithmetic by hand, and a clock that ticks once a look."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import pytest
import torch

from frugalseg.jobs import pace
from frugalseg.jobs.footprint import ConvolutionCall, Footprint, bytes_moved
from frugalseg.jobs.pace import (
    MAP,
    PER_OPERATION,
    block,
    convolution_seconds,
    operations,
    seconds_per_byte,
    step_seconds,
)

CALL = ConvolutionCall(8, 16, (3, 3, 3), (2, 2, 2), 4, (4, 4, 4), torch.float32, True)


def ticking() -> Callable[[], float]:
    ticks = count()
    return lambda: float(next(ticks))


def test_multiply_adds_by_hand() -> None:
    assert operations(CALL) == 4 * 2**3 * 27 * 8 * 16
    assert operations(CALL._replace(forward=False)) == 2 * operations(CALL)
    assert operations(CALL._replace(sides=(5, 4, 4))) == operations(CALL) * 3 / 2


@pytest.mark.parametrize("forward", [True, False])
def test_a_convolution_is_scaled_to_its_own_voxels(forward: bool) -> None:
    """Two of four samples and 32 of 64 voxels along x are run: a fourth of the work takes one tick."""
    call = ConvolutionCall(1, 1, (1, 1, 1), (1, 1, 1), 4, (64, 32, 32), torch.float32, forward)
    assert convolution_seconds(call, ticking()) == 4.0


def test_the_rest_is_taken_to_run_as_fast_as_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {CALL: 2, CALL._replace(forward=False): 3, CALL._replace(sides=(2, 2, 2)): 1}
    total = sum(operations(call) * n for call, n in calls.items())
    timed = []

    def seconds(call: ConvolutionCall, clock: Callable[[], float]) -> float:
        timed.append(call)
        return 1e-9 * operations(call)

    monkeypatch.setattr(pace, "convolution_seconds", seconds)
    monkeypatch.setattr(pace, "seconds_per_byte", lambda clock: 1e-12)
    expected = total * 1e-9 + 5e9 * 1e-12 + 100 * PER_OPERATION
    step = Footprint(0, 0, 0, 0, calls, 5 * 10**9, 100)
    assert step_seconds(step) == pytest.approx(expected)
    assert CALL._replace(sides=(2, 2, 2)) not in timed
    # Without any time left one convolution is timed, the one that a step spends most on.
    timed.clear()
    assert step_seconds(step, budget=-1.0) == pytest.approx(expected)
    assert timed == [CALL._replace(forward=False)]


def test_a_byte_takes_its_share_of_a_block() -> None:
    assert seconds_per_byte(ticking()) == 1 / bytes_moved(block)


def test_the_bytes_of_a_piece_of_work_by_hand() -> None:
    """Ten floats are read twice and written once; making them is not counted, and nothing is computed."""

    def prepare() -> Callable[[], object]:
        x = torch.ones(10)
        return lambda: x + x

    assert bytes_moved(prepare) == 3 * 40


def test_a_block_reads_and_writes_its_maps_a_few_times() -> None:
    """Forward norm 2, activation 2, sum 3; backward 3, 3 and 3; and four changes of order, 2 each."""
    maps = bytes_moved(block) / (math.prod(MAP) * 4)
    assert 24 < maps < 24.1
