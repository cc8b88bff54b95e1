"""Two processes take the steps that one process takes, for every recipe and however the samples fall."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.config.load import load_config, recipe_names
from tests.ddp.pool import Pool
from tests.ddp.work import SCENARIOS, Arrays, Places, Steps, difference, largest, take_steps

# Others: same parts, or below.
METHODS = [
    name
    for name in recipe_names()
    if "-" not in name and load_config(name).trained and load_config(name).atlas is None
]
ROUNDING = 1e-4  # of the largest element; 3e-5 was seen with AVX2, and wrong denominators are off by tenths

FEW = 0.02  # seen: 0.004


def require_equal(alone: Steps, one: Steps, two: Steps) -> None:
    assert difference(one.weights, two.weights) == 0, "the processes have other weights"
    for first, second in zip(one.values, two.values, strict=True):
        assert first == pytest.approx(second, rel=0, abs=0, nan_ok=True), "the processes log other values"
    assert alone.gradients.keys() == one.gradients.keys()
    assert difference(alone.gradients, one.gradients) < ROUNDING * largest(alone.gradients)
    for expected, found in zip(alone.values, one.values, strict=True):
        assert list(expected) == list(found)
        # After the first step Adam has turned the rounding of gradients near 0 into steps (see below).
        assert found == pytest.approx(
            expected, rel=1e-4 if expected is alone.values[0] else 2e-3, abs=1e-6, nan_ok=True
        )
    # Adam turns the rounding of a gradient that is 0 (of a bias before a normalisation) into whole steps.
    certain = {name: np.abs(gradient) > 1e-5 for name, gradient in alone.gradients.items()}
    assert np.mean([mask.mean() for mask in certain.values()]) > 0.4
    # And a ReLU whose input is 0 but for rounding may be open in one and shut in the other, which moves a few.
    assert share_apart(alone.weights, one.weights, certain) < FEW
    if alone.average:
        assert share_apart(alone.average, one.average, certain) < FEW
    assert difference(alone.probabilities, one.probabilities) < 5e-4


def share_apart(some: Arrays, others: Arrays, certain: dict[str, NDArray[np.bool_]]) -> float:
    """Return which part of the certain elements differ by a tenth of a step and more; a fifth in no tensor."""
    apart = {
        name: np.abs(array - others[name])[certain[name]] >= 1e-4 for name, array in some.items() if name in certain
    }
    for name, mask in apart.items():
        assert mask.sum() <= max(2, 0.2 * mask.size), name
    return float(np.mean(np.concatenate(list(apart.values()))))


def compare(pool: Pool, places: Places, method: str, overrides: Sequence[str]) -> Steps:
    alone = take_steps(places, method, overrides, 1)
    one: Steps
    one, two = pool(take_steps, places, method, overrides, 2)
    require_equal(alone, one, two)
    for whole, first, second in zip(alone.labelled, one.labelled, two.labelled, strict=True):
        assert whole == [flag for pair in zip(first, [*second, None]) for flag in pair if flag is not None]
    return one


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_take_the_steps_of_one(pool: Pool, places: Places, method: str, scenario: str) -> None:
    found = compare(pool, places, method, SCENARIOS[scenario])
    assert bool(found.average) == ("running mean" in scenario)
    assert all(math.isfinite(value) for value in found.values[0].values())


def test_two_processes_supervise_the_same_levels(pool: Pool, places: Places) -> None:
    scenario = [*SCENARIOS[next(iter(SCENARIOS))], "auxiliary.deep.kind=deep_supervision"]
    found = compare(pool, places, "encdec", scenario)
    assert found.values[0]["deep.cross_entropy"] > 0


@pytest.mark.parametrize("scenario", list(SCENARIOS)[:2])
def test_two_processes_have_the_teacher_of_one(pool: Pool, places: Places, scenario: str) -> None:
    """Copy-paste mixes crops of the same process, so that its mixtures depend on the number of processes."""
    found = compare(pool, places, "mean-teacher", SCENARIOS[scenario])
    assert all(values["consistency.share"] > 0 for values in found.values)


def test_negatives_come_from_the_images_of_both_processes(pool: Pool, places: Places) -> None:
    overrides = ["sampling.labelled=2", "sampling.unlabelled=1", "auxiliary.cpc.negatives=5"]
    overrides += ["auxiliary.cpc.negatives_from=batch", "auxiliary.cpc.chunk=7"]
    compare(pool, places, "sscpcseg", overrides)


def test_the_scenarios_are_what_they_say(pool: Pool, places: Places) -> None:
    _, none, drawn = SCENARIOS.values()
    assert pool(take_steps, places, "sscpcseg", none, 2, 1)[1].labelled == [[False]]
    first, second = pool(take_steps, places, "encdec", drawn, 2)
    counts = {(sum(a), sum(b)) for a, b in zip(first.labelled, second.labelled)}
    assert any(a != b for a, b in counts), "the processes have the same number of labelled samples in every step"
    assert any(0 in pair for pair in counts), "no step leaves a process without a labelled sample"
