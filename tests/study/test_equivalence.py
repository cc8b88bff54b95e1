"""Label equivalence against hand-worked curves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from frugalseg.errors import DataError
from frugalseg.study.equivalence import crossing, increasing, label_equivalence


def flat(value: float, sets: int = 8, cases: int = 20, noise: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(round(1000 * value))
    return value + noise * generator.normal(size=(sets, cases))


def test_half_way_between_6_and_12_on_the_log_axis() -> None:
    found = label_equivalence(flat(0.85), {3: flat(0.7), 6: flat(0.8), 12: flat(0.9)})
    assert found.labels == pytest.approx(6 * 2**0.5)
    assert (found.low, found.high) == pytest.approx((found.labels, found.labels))
    assert found.describe() == "8.49 (8.49 to 8.49)"


def test_a_method_is_worth_its_own_labels() -> None:
    curve = {3: flat(0.7, noise=0.01), 6: flat(0.8, noise=0.01), 12: flat(0.9, noise=0.01)}
    found = label_equivalence(curve[6], curve)
    assert found.labels == pytest.approx(6)
    assert found.low <= 6 <= found.high


def test_smaller_is_better_for_distances() -> None:
    found = label_equivalence(flat(1.5), {3: flat(3.0), 6: flat(2.0), 12: flat(1.0)}, larger_is_better=False)
    assert found.labels == pytest.approx(6 * 2**0.5)


def test_beyond_the_curve() -> None:
    curve = {3: flat(0.7), 6: flat(0.8)}
    above, below = label_equivalence(flat(0.9), curve), label_equivalence(flat(0.6), curve)
    assert above.labels == above.high == math.inf
    assert above.describe() == "more than 6"
    assert (below.labels, below.high) == (0, 0)
    assert below.describe() == "fewer than 3"


def test_noise_widens_the_interval() -> None:
    curve = {3: flat(0.7, noise=0.05), 6: flat(0.8, noise=0.05), 12: flat(0.9, noise=0.05)}
    found = label_equivalence(flat(0.85, noise=0.05), curve)
    assert 6 < found.low < found.labels < found.high < 12


@pytest.mark.parametrize("sets", [3, 5])
def test_the_interval_of_few_label_sets_holds_what_is_true(sets: int) -> None:
    generator = np.random.default_rng(sets)
    true, held = {3: 0.80, 6: 0.83, 12: 0.86}, 0
    for _ in range(150):
        hard = generator.normal(0, 0.02, 40)  # cases are as hard under every label set

        def drawn(mean: float, hard: np.ndarray = hard) -> np.ndarray:
            luck = generator.normal(0, 0.01, (sets, 1))
            return np.asarray(mean + hard + luck + generator.normal(0, 0.01, (sets, 40)))

        found = label_equivalence(drawn(0.845), {n: drawn(mean) for n, mean in true.items()}, resamples=300)
        held += found.low <= 6 * 2**0.5 <= found.high
    assert held > 0.92 * 150  # 0.87 and 0.90 before deviations were widened


def test_pool_adjacent_violators_by_hand() -> None:
    assert increasing([1, 3, 2, 4]) == [1, 2.5, 2.5, 4]
    assert increasing([3, 2, 1]) == [2, 2, 2]
    assert increasing([1, 2, 3]) == [1, 2, 3]


def test_a_flat_stretch_gives_the_fewest_labels() -> None:
    assert crossing([3, 6, 12], [0.7, 0.8, 0.8], 0.8) == pytest.approx(6)
    assert crossing([3, 6, 12], [0.7, 0.7, 0.8], 0.7) == pytest.approx(3)


def test_what_is_needed() -> None:
    with pytest.raises(DataError, match="two budgets"):
        label_equivalence(flat(0.8), {3: flat(0.7)})
    with pytest.raises(DataError, match="same label sets"):
        label_equivalence(flat(0.8), {3: flat(0.7), 6: flat(0.8, sets=7)})


def test_resamples_without_a_scored_case_say_nothing() -> None:
    """Three of ten cases have the structure: one in 35 resamples draws none of them, and is no infinity."""
    some = np.full((1, 10), np.nan)
    some[0, :3] = 0
    curve = {3: some + 0.70, 6: some + 0.80, 12: some + 0.90}
    found = label_equivalence(some + 0.75, curve)
    assert (found.low, found.high) == pytest.approx((found.labels, found.labels))
