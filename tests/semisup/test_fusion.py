"""Patches' votes, against loops over voxels and by what they must do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.semisup.fusion import (
    TRUNCATED,
    Ballot,
    FusionSettings,
    reach,
    smoothed,
    steps_within,
    vote,
)

Floats = NDArray[np.float32]
SIDES = (5, 4, 6)
CUBES = (1.0, 1.0, 1.0)


def ballots(images: Iterable[Floats], shares: Iterable[Floats]) -> Iterator[Ballot]:
    """Ballots of cases that have the target's channels."""
    for image, one in zip(images, shares, strict=True):
        yield Ballot(np.arange(len(image)), image, one)


def voted(target: Floats, images: Iterable[Floats], shares: Iterable[Floats], settings: FusionSettings) -> Floats:
    steps = steps_within(settings.search, CUBES, target.shape[1:])
    return vote(target, steps, ballots(images, shares), settings)


def window(sigma: float) -> Floats:
    """The Gaussian window as SciPy truncates and normalises it."""
    reach = int(TRUNCATED * sigma + 0.5)
    spike = np.zeros((2 * reach + 1,) * 3, np.float64)
    spike[reach, reach, reach] = 1
    return np.asarray(ndimage.gaussian_filter(spike, sigma, truncate=TRUNCATED))


@pytest.mark.parametrize("search", [0.0, 1.5])
def test_it_equals_a_loop_over_voxels_and_votes(search: float) -> None:
    generator = np.random.default_rng(0)
    target = generator.standard_normal((2, *SIDES)).astype(np.float32)
    images = [generator.standard_normal((2, *SIDES)).astype(np.float32) for _ in range(3)]
    labels = [
        generator.dirichlet([1, 1, 1], (1, *SIDES)).astype(np.float32).transpose(0, 4, 1, 2, 3) for _ in range(3)
    ]
    found = voted(target, images, labels, FusionSettings(window=0.5, search=search, decay=0.5))
    patch = window(0.5)
    reach = patch.shape[0] // 2
    last = np.array(SIDES) - 1
    steps = [np.array(s) - 1 for s in np.ndindex(3, 3, 3)] if search else [np.zeros(3, int)]
    steps = [s for s in steps if (s**2).sum() <= 2]
    for place in [(0, 0, 0), (2, 1, 3), (4, 3, 5), (1, 3, 0)]:
        apart, shares = [], []
        for image, label in zip(images, labels, strict=True):
            for step in steps:
                total = 0.0
                for offset in np.ndindex(patch.shape):
                    at = np.clip(np.add(place, offset) - reach, 0, last)  # differences go on beyond the edge
                    there = np.clip(at + step, 0, last)
                    total += float(patch[offset]) * float(np.square(image[:, *there] - target[:, *at]).mean())
                apart.append(total)
                shares.append(label[0, :, *np.clip(np.add(place, step), 0, last)])
        weights = np.exp(-(np.array(apart) - min(apart)) / 0.5)
        wanted = np.einsum("n,nk->k", weights / weights.sum(), np.array(shares)).tolist()
        assert found[(0, slice(None), *place)] == pytest.approx(wanted, abs=1e-4)
    assert found.sum(axis=1) == pytest.approx(np.ones((1, *SIDES)), abs=1e-5)


def fuse(target: Floats, images: list[Floats], labels: list[Floats]) -> Floats:
    return voted(target, images, labels, FusionSettings(search=0))


def yes_and_no() -> tuple[Floats, Floats]:
    yes, no = np.zeros((1, 2, *SIDES), np.float32), np.zeros((1, 2, *SIDES), np.float32)
    yes[:, 1], no[:, 0] = 1, 1
    return yes, no


def test_who_looks_alike_decides_and_all_alike_vote() -> None:
    target = np.zeros((1, *SIDES), np.float32)
    far = np.full_like(target, 10.0)
    yes, no = yes_and_no()
    assert fuse(target, [target, far], [yes, no]) == pytest.approx(yes, abs=1e-6)
    assert fuse(target, [far, target], [yes, no]) == pytest.approx(no, abs=1e-6)
    assert fuse(target, [far, far, far], [yes, yes, no])[0, 1] == pytest.approx(2 / 3 * yes[0, 1], abs=1e-6)


def test_the_order_of_the_cases_does_not_matter() -> None:
    generator = np.random.default_rng(1)
    images = [generator.standard_normal((1, *SIDES)).astype(np.float32) * scale for scale in (0.1, 3, 1)]
    labels = [
        generator.dirichlet([1, 1], (1, *SIDES)).astype(np.float32).transpose(0, 4, 1, 2, 3) for _ in range(3)
    ]
    target = images[0] + np.float32(0.2)
    one = voted(target, images, labels, FusionSettings())
    other = voted(target, images[::-1], labels[::-1], FusionSettings())
    assert one == pytest.approx(other, abs=1e-5)


def test_a_case_that_is_a_voxel_off_votes_as_if_it_lay_right() -> None:
    generator = np.random.default_rng(2)
    target = generator.standard_normal((1, 9, 9, 9)).astype(np.float32)
    label = (target > 0).astype(np.float32)
    shares = np.stack([1 - label, label], axis=1)
    off = [np.roll(array, (1, -1), (-3, -1)) for array in (target, shares)]
    inner = (0, slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
    settings = FusionSettings(decay=0.01)
    assert voted(target, [off[0]], [off[1]], settings)[inner] == pytest.approx(shares[inner], abs=0.02)
    still = settings.model_copy(update={"search": 0.0})
    assert np.abs(voted(target, [off[0]], [off[1]], still) - shares)[inner].mean() > 0.3


def test_steps_are_in_voxels_of_the_finest_axis() -> None:
    assert steps_within(0, CUBES, SIDES) == [(0, 0, 0)]
    assert len(steps_within(1, CUBES, SIDES)) == 7
    assert len(steps_within(1.5, CUBES, SIDES)) == 19
    assert len(steps_within(1.75, CUBES, SIDES)) == 27
    assert {z for _, _, z in steps_within(1.5, (1.0, 1.0, 5.0), SIDES)} == {0}
    assert len(steps_within(2, (0.5, 1.0, 1.0), SIDES)) == 9  # 2 either way along the fine axis, 1 along the others
    assert len(steps_within(1.5, (2.0, 2.0, 1.0), (5, 4, 1))) == 9, "an image of one slice is searched in its plane"


def test_who_knows_nothing_does_not_vote() -> None:
    target = np.zeros((1, *SIDES), np.float32)
    yes, _ = yes_and_no()
    nothing = np.zeros_like(yes)
    assert fuse(target, [target] * 2, [yes, nothing]) == pytest.approx(yes, abs=1e-6)
    assert not fuse(target, [target] * 3, [yes, nothing, nothing]).any()


def test_nobody_to_vote_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        voted(np.zeros((1, *SIDES), np.float32), [], [], FusionSettings())


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.2])
def test_smoothing_is_that_of_scipy(sigma: float) -> None:
    values = np.random.default_rng(0).standard_normal((9, 1, 14)).astype(np.float32)
    wanted = ndimage.gaussian_filter(values.astype(np.float64), sigma, mode="nearest", truncate=TRUNCATED)
    assert smoothed(values, sigma) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("settings", [FusionSettings(), FusionSettings(search=2, window=0.5)])
def test_nothing_beyond_its_reach_changes_a_vote(settings: FusionSettings) -> None:
    """And something just within it does: the reach is not too far, either."""
    generator = np.random.default_rng(3)
    sides, middle = (15, 15, 15), 7
    image, target = (generator.standard_normal((1, *sides)).astype(np.float32) for _ in range(2))
    shares = generator.dirichlet([1, 1], (1, *sides)).astype(np.float32).transpose(0, 4, 1, 2, 3)
    far = reach(steps_within(settings.search, CUBES, sides), settings.window)[0]
    before = voted(target, [image], [shares], settings)[..., middle, middle, middle]
    for beyond in (0, 1):
        other = image.copy()
        other[:, middle + far + beyond] += 1
        after = voted(target, [other], [shares], settings)[..., middle, middle, middle]
        assert np.array_equal(before, after) == bool(beyond)
