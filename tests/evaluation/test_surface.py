from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalseg.evaluation import surface_distances, surface_scores, surface_voxels
from frugalseg.evaluation.surface import REACH
from tests.evaluation import naive
from tests.evaluation.naive import Mask

SPACINGS = ((1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (0.7, 0.35, 2.1), (5.0, 0.4, 0.4))


def random_pair(seed: int, shape: tuple[int, ...], share: float) -> tuple[Mask, Mask]:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.random((2, *shape)) < share
    for mask in (truth, prediction):
        mask[tuple(rng.integers(0, shape))] = True
    return truth, prediction


def pairs() -> list[tuple[str, Mask, Mask]]:
    """Masks that touch borders, are far apart, single voxels, full, hollow, and of one slice."""
    shape = (8, 6, 7)
    single, corner, full = (np.zeros(shape, bool) for _ in range(3))
    single[4, 3, 2] = corner[7, 5, 6] = True
    full[:] = True
    x, y, z = np.indices(shape)
    ball: Mask = (x - 4) ** 2 + (y - 3) ** 2 + (z - 3.5) ** 2 < 8
    hollow = full.copy()
    hollow[2:6, 2:4, 2:5] = False
    thick = np.zeros(shape, bool)
    thick[:3, :, 1:] = True
    long = np.zeros((40, 3, 3), bool)
    long[0, 1, 1] = True
    flat = np.zeros((8, 8, 1), bool)
    flat[1:6, 2:7] = True
    return [
        ("single voxels", single, corner),
        ("single in full", single, full),
        ("full in full", full, full),
        ("ball and hollow", ball, hollow),
        ("at the border", thick, ball),
        ("corner and border", corner, thick),
        ("far apart", long, long[::-1]),
        ("one slice", flat, np.roll(flat, 2, axis=1)),
        *(
            (f"noise {share} {shape}", *random_pair(seed, shape, share))
            for share in (0.02, 0.3, 0.9)
            for seed, shape in enumerate(((6, 5, 7), (3, 9, 2), (12, 4, 4), (1, 6, 5)))
        ),
    ]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(
    ("name", "truth", "prediction"), pairs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_equals_loops_over_voxels(name: str, truth: Mask, prediction: Mask, spacing: tuple[float, ...]) -> None:
    forth = naive.directed(truth, prediction, spacing)
    back = naive.directed(prediction, truth, spacing)
    ours = surface_distances(truth, prediction, spacing)
    np.testing.assert_allclose(ours[0], forth, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(ours[1], back, rtol=1e-12, err_msg=name)
    tolerance = 1.05
    scores = surface_scores(truth, prediction, spacing, tolerance)
    assert scores.hd95_mm == pytest.approx(max(naive.percentile(forth, 95), naive.percentile(back, 95)), rel=1e-12)
    assert scores.hd95_pooled_mm == pytest.approx(naive.percentile(forth + back, 95), rel=1e-12)
    assert scores.hd100_mm == pytest.approx(max(forth + back), rel=1e-12)
    assert scores.assd_mm == pytest.approx(sum(forth + back) / len(forth + back), rel=1e-12)
    near = sum(distance <= tolerance + 1e-6 for distance in forth + back)
    assert scores.surface_dice == near / len(forth + back)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    share=st.floats(0.0, 1.0),
    spacing=st.tuples(*[st.floats(0.1, 8.0)] * 3),
)
def test_any_noise_equals_all_pairs(
    seed: int, shape: tuple[int, ...], share: float, spacing: tuple[float, ...]
) -> None:
    truth, prediction = random_pair(seed, shape, share)
    first, second = (np.argwhere(surface_voxels(mask)) * spacing for mask in (truth, prediction))
    apart = np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=2))
    ours = surface_distances(truth, prediction, spacing)
    np.testing.assert_allclose(ours[0], apart.min(axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours[1], apart.min(axis=0), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_surface_voxels(seed: int) -> None:
    mask, _ = random_pair(seed, (6, 5, 4), 0.8)
    assert [tuple(voxel) for voxel in np.argwhere(surface_voxels(mask)).tolist()] == naive.surface(mask)


def test_surface_voxels_are_the_published_edges() -> None:
    with np.load(Path(__file__).parents[1] / "goldens" / "preprocess.npz") as goldens:
        masks, edges = goldens["edges/nested"] > 0, goldens["edges/edge"] > 0
    for mask, edge in zip(masks, edges[1:], strict=True):
        np.testing.assert_array_equal(surface_voxels(mask), edge)


def test_beyond_the_image_is_outside() -> None:
    full = np.ones((5, 5, 5), bool)
    assert np.count_nonzero(surface_voxels(full)) == 125 - 27
    assert surface_voxels(np.ones((4, 4, 1), bool)).all()


def cube(start: int, stop: int, side: int = 20) -> Mask:
    mask = np.zeros((side, side, side), bool)
    mask[start:stop, 5:10, 5:10] = True
    return mask


def test_a_shifted_cube_by_hand() -> None:
    # A 5-cube (98 surface voxels) against itself moved by 2 voxels of 1.5 mm: the 25 voxels of the face left behind
    # are 3 mm away, and so are those of the new one.
    scores = surface_scores(cube(5, 10), cube(7, 12), (1.5, 1.0, 1.0), 2.9)
    assert scores.hd100_mm == 3.0
    assert scores.hd95_mm == 3.0
    # Behind that face a ring of 16 at 1.5 mm. The other end lies inside the moved cube: the middle of its 9 inner
    # voxels is 2 mm from the sides, the 8 others 1 mm.
    far, ring, middle, near = 25 * 3.0, 16 * 1.5, 2.0, 8 * 1.0
    assert scores.assd_mm == pytest.approx((far + ring + middle + near) / 98)
    assert scores.surface_dice == pytest.approx(1 - 25 / 98)


def test_two_voxels_by_hand() -> None:
    truth, prediction = np.zeros((2, 10, 10, 10), bool)
    truth[1, 2, 3] = prediction[4, 6, 3] = True
    scores = surface_scores(truth, prediction, (1.0, 1.0, 1.0), 4.9)
    assert (scores.hd95_mm, scores.hd100_mm, scores.assd_mm, scores.surface_dice) == (5.0, 5.0, 5.0, 0.0)
    assert surface_scores(truth, prediction, (1.0, 1.0, 1.0), 5.0).surface_dice == 1.0
    assert surface_scores(truth, prediction, (2.0, 2.0, 7.0), 5.0).hd95_mm == 10.0


def test_definitions_of_the_95th_percentile_differ() -> None:
    # 20 voxels in a row, the truth has the first alone: forth all 0, back 0 to 19.
    truth, prediction = np.zeros((2, 20, 1, 1), bool)
    truth[0], prediction[:] = True, True
    scores = surface_scores(truth, prediction, (1.0, 1.0, 1.0), 0.0)
    assert scores.hd95_mm == pytest.approx(18.05)  # 95 % of the way from the 1st to the 20th
    assert scores.hd95_pooled_mm == pytest.approx(18.0)  # the 20th of 21: 0, 0, 1, 2, ..., 19
    assert scores.hd100_mm == 19.0
    assert scores.assd_mm == pytest.approx(190 / 21)
    assert scores.surface_dice == pytest.approx(2 / 21)


def test_rounding_does_not_decide_at_the_tolerance() -> None:
    truth, prediction = np.zeros((2, 12, 3, 3), bool)
    truth[1, 1, 1] = True
    prediction[1 + 3, 1, 1] = True
    assert 3 * 0.1 > 0.3  # in binary
    assert surface_scores(truth, prediction, (0.1, 1.0, 1.0), 0.3).surface_dice == 1.0
    assert surface_scores(truth, prediction, (0.1, 1.0, 1.0), 0.2999).surface_dice == 0.0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.01, 0.95), factor=st.sampled_from((0.25, 0.5, 2.0, 16.0)))
def test_invariances(seed: int, share: float, factor: float) -> None:
    truth, prediction = random_pair(seed, (9, 6, 7), share)
    spacing, tolerance = (0.5, 1.25, 3.0), 1.25
    scores = surface_scores(truth, prediction, spacing, tolerance)

    def same(other: Any) -> None:
        for name, value in vars(scores).items():
            assert getattr(other, name) == pytest.approx(value, rel=1e-9, abs=1e-9), name

    same(surface_scores(prediction, truth, spacing, tolerance))
    same(surface_scores(truth[::-1, :, ::-1], prediction[::-1, :, ::-1], spacing, tolerance))
    same(surface_scores(truth.transpose(2, 0, 1), prediction.transpose(2, 0, 1), (3.0, 0.5, 1.25), tolerance))
    same(surface_scores(np.pad(truth, 6), np.pad(prediction, 6), spacing, tolerance))
    larger = surface_scores(truth, prediction, tuple(factor * length for length in spacing), factor * tolerance)
    assert larger.hd95_mm == pytest.approx(factor * scores.hd95_mm)
    assert larger.assd_mm == pytest.approx(factor * scores.assd_mm)
    assert larger.surface_dice == scores.surface_dice
    assert scores.assd_mm <= scores.hd100_mm
    assert max(scores.hd95_pooled_mm, scores.hd95_mm) <= scores.hd100_mm
    perfect = surface_scores(truth, truth, spacing, 0.0)
    assert (perfect.hd100_mm, perfect.assd_mm, perfect.surface_dice) == (0.0, 0.0, 1.0)


def test_distances_beyond_the_looked_up_offsets_are_exact() -> None:
    truth, prediction = np.zeros((2, 60, 8, 8), bool)
    truth[:2] = True
    for far in (REACH - 1, REACH, REACH + 1, 5 * REACH):
        prediction[:] = False
        prediction[1 + far] = True
        forth, back = surface_distances(truth, prediction, (1.0, 1.0, 1.0))
        assert back.min() == back.max() == far
        assert sorted(set(forth)) == [far, far + 1]


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_length(tolerance: float) -> None:
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match="tolerance"):
        surface_scores(mask, mask, (1.0, 1.0, 1.0), tolerance)


def test_empty_masks_have_no_distance() -> None:
    full = np.ones((3, 3, 3), bool)
    for truth, prediction in ((full, ~full), (~full, full), (~full, ~full)):
        with pytest.raises(ValueError, match="empty"):
            surface_scores(truth, prediction, (1.0, 1.0, 1.0), 1.0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)])
def test_spacing_is_checked(spacing: tuple[float, ...]) -> None:
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match="spacing"):
        surface_scores(mask, mask, spacing, 1.0)


def test_memory_order_does_not_matter() -> None:
    truth, prediction = random_pair(3, (8, 9, 10), 0.3)
    expected = surface_scores(truth, prediction, (1.0, 2.0, 3.0), 1.0)
    assert surface_scores(np.asfortranarray(truth), prediction, (1.0, 2.0, 3.0), 1.0) == expected
