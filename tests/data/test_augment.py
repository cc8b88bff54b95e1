"""Every operation of the augmentation alone: its switch, its range, and what it promises of the voxels."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage
from scipy.spatial.transform import Rotation

from frugalseg.data import augment
from frugalseg.data.augment import OFF, PRESETS, STRONG, AugmentSettings, Draw
from frugalseg.data.intensities import intensities
from frugalseg.data.moved import moved
from frugalseg.data.patches import Samples, SamplingSettings
from frugalseg.data.store import StoredCase, write_array

Spacing = tuple[float, float, float]
CUBE: Spacing = (1.0, 1.0, 1.0)
CHANNELS = 3
# Each switch, and the parameter of a draw that it sets.
SETS = {
    "mirror": "flips",
    "rotate": "matrix",
    "scale": "matrix",
    "noise": "noise",
    "blur": "blur",
    "shift": "shift",
    "gain": "gain",
    "contrast": "contrast",
    "low_resolution": "low_resolution",
    "gamma": "gamma",
    "inverted_gamma": "inverted_gamma",
    "channel_dropout": "dropped",
}


def only(**changes: Any) -> AugmentSettings:
    return AugmentSettings.model_validate({**OFF.model_dump(), **changes})


def drawn_from(chosen: AugmentSettings, seed: int = 0, spacing: Spacing = CUBE) -> Draw:
    return augment.draw(np.random.default_rng(seed), chosen, CHANNELS, spacing, (0, 1, 2))


NOTHING = drawn_from(OFF)


def voxels(seed: int = 0, shape: tuple[int, ...] = (CHANNELS, 9, 10, 11)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def per_channel(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def changed(one: Draw, other: Draw) -> set[str]:
    return {
        field.name
        for field in fields(Draw)
        if not np.array_equal(getattr(one, field.name), getattr(other, field.name))
    }


def test_the_strong_preset_is_nnu_nets() -> None:
    # nnUNetTrainerV2 of nnU-Net v1 and nnUNetTrainer of v2, in the order of their transforms.
    assert {name: getattr(STRONG, name) for name in type(STRONG).model_fields} == {
        "rotate": 0.2,
        "rotate_degrees": 30.0,
        "scale": 0.2,
        "scale_range": (0.7, 1.4),
        "noise": 0.1,
        "noise_variance": (0.0, 0.1),
        "blur": 0.2,
        "blur_sigma": (0.5, 1.0),
        "gain": 0.15,
        "gain_range": (0.75, 1.25),
        "contrast": 0.15,
        "contrast_range": (0.75, 1.25),
        "low_resolution": 0.25,
        "low_resolution_range": (0.5, 1.0),
        "inverted_gamma": 0.1,
        "gamma": 0.3,
        "gamma_range": (0.7, 1.5),
        "mirror": 0.5,
        "shift": 0.0,
        "shift_range": (-0.1, 0.1),
        "deform": 0.0,
        "deform_range": (0.0, 1.0),
        "channel_dropout": None,
    }


def test_the_published_preset_flips_shifts_and_scales_always_and_does_nothing_else() -> None:
    published = PRESETS["published"]
    assert {name for name in SETS if getattr(published, name)} == {"mirror", "shift", "scale"}
    assert (published.mirror, published.shift, published.scale) == (0.5, 1.0, 1.0)
    assert published.shift_range == (-0.1, 0.1)
    assert published.scale_range == (0.9, 1.1)
    assert AugmentSettings.model_validate(published.model_dump()) == published
    assert not any(getattr(PRESETS["none"], name) for name in SETS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mirror", -0.1),
        ("gamma", 1.1),
        ("rotate_degrees", 181),
        ("scale_range", (0, 1)),
        ("scale_range", (1.1, 0.9)),
        ("gain_range", (2, 1)),
        ("gamma_range", (-1, 1)),
        ("noise_variance", (-0.1, 0.1)),
        ("blur_sigma", (-1, 1)),
        ("low_resolution_range", (0, 0.5)),
        ("low_resolution_range", (0.5, 1.5)),
        ("shift_range", (0, float("inf"))),
    ],
)
def test_values_that_cannot_be(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        only(**{name: value})


def test_nothing_switched_on_draws_nothing_and_changes_no_bit() -> None:
    generator = np.random.default_rng(3)
    before = generator.bit_generator.state
    drawn = augment.draw(generator, OFF, CHANNELS, CUBE, (0, 1, 2))
    assert generator.bit_generator.state == before
    image = voxels()
    assert drawn.matrix is None
    assert augment.reach(drawn.matrix, (4, 5, 6)) == (4, 5, 6)
    assert augment.flip(intensities(image.copy(), drawn), drawn.flips).tobytes() == image.tobytes()


@pytest.mark.parametrize("switch", SETS)
def test_each_switch_sets_its_own_parameter_alone(switch: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(8):
        seen.update(changed(drawn_from(only(**{switch: 1.0}), seed), NOTHING))
    assert seen == {SETS[switch]: 8}


@given(seed=st.integers(0, 2**32), low=st.floats(0.05, 0.9), width=st.floats(0, 0.09))
@settings(max_examples=40, deadline=None)
def test_what_is_drawn_lies_in_the_ranges(seed: int, low: float, width: float) -> None:
    limits = (low, low + width)
    ranges = dict.fromkeys((n for n in AugmentSettings.model_fields if n.endswith("_range")), limits)
    everything = {**dict.fromkeys(SETS, 1.0), **ranges, "noise_variance": limits, "blur_sigma": limits}
    drawn = drawn_from(only(**everything, rotate_degrees=0), seed, (1.0, 2.0, 3.0))

    def within(values: Any, *also: float) -> bool:
        inside = [low - 1e-6 <= value <= low + width + 1e-6 or value in also for value in np.ravel(values)]
        return all(inside) and len(inside) > 0

    assert drawn.flips == (0, 1, 2)
    assert drawn.matrix is not None
    assert drawn.noise is not None
    assert np.allclose(drawn.matrix, np.eye(3) * drawn.matrix[0, 0])
    assert within(1 / drawn.matrix[0, 0])
    assert within(drawn.noise[0] ** 2)
    assert within(drawn.gain)
    assert within(drawn.blur, 0.0)
    assert within(drawn.low_resolution, 1.0)
    for values in (drawn.shift, drawn.contrast, drawn.gamma, drawn.inverted_gamma):
        assert values is not None
        assert values.shape == (CHANNELS,)
        assert within(values)


def test_switches_happen_as_often_as_they_say() -> None:
    count = 3000
    generator = np.random.default_rng(0)
    seen: Counter[str] = Counter()
    for _ in range(count):
        drawn = augment.draw(generator, STRONG, 2, CUBE, (0, 2))
        seen.update(changed(drawn, NOTHING) - {"flips", "blur", "low_resolution"})
        seen.update(f"flip {axis}" for axis in drawn.flips)
        seen.update(f"blur {channel}" for channel, sigma in enumerate(drawn.blur) if sigma > 0)
        seen.update(f"low {channel}" for channel, factor in enumerate(drawn.low_resolution) if factor < 1)
    wanted = {"flip 0": 0.5, "flip 2": 0.5, "matrix": 1 - 0.8 * 0.8, "noise": 0.1, "gain": 0.15, "contrast": 0.15}
    wanted |= {"gamma": 0.3, "inverted_gamma": 0.1, "blur 0": 0.1, "blur 1": 0.1, "low 0": 0.125, "low 1": 0.125}
    assert set(seen) == set(wanted)
    for name, chance in wanted.items():
        assert abs(seen[name] / count - chance) < 4.5 * np.sqrt(chance * (1 - chance) / count), name


def test_angles_lie_in_the_range_and_fill_it() -> None:
    spacing = (1.0, 1.5, 3.0)
    size = np.diag(spacing)
    found = []
    for seed in range(200):
        matrix = drawn_from(only(rotate=1, rotate_degrees=20), seed, spacing).matrix
        assert matrix is not None
        turn = size @ matrix @ np.linalg.inv(size)  # of steps in millimetres
        assert np.allclose(turn @ turn.T, np.eye(3))
        found.append(Rotation.from_matrix(turn).as_euler("XYZ", degrees=True))
    assert np.linalg.det(turn) > 0
    assert np.abs(found).max() <= 20 + 1e-9
    assert (np.max(found, axis=0) > 18).all()
    assert (np.min(found, axis=0) < -18).all()


@pytest.mark.parametrize("flat", [0, 1, 2])
def test_a_slice_is_turned_in_its_plane_only(flat: int) -> None:
    shape = [20, 20, 20]
    shape[flat] = 1
    crop = (shape[0], shape[1], shape[2])
    for seed in range(10):
        generator = np.random.default_rng(seed)
        drawn = augment.draw(generator, only(rotate=1, scale=1), CHANNELS, (1.0, 1.0, 1.0), (), (flat,))
        assert drawn.matrix is not None
        assert augment.reach(drawn.matrix, crop)[flat] == 1  # no neighbour of the slice is needed
        others = [axis for axis in range(3) if axis != flat]
        assert not drawn.matrix[flat, others].any()
        assert not drawn.matrix[others, flat].any()
        assert drawn.matrix[others[0], others[1]] != 0
        # A volume draws the same numbers, and uses all of them.
        free = augment.draw(np.random.default_rng(seed), only(rotate=1, scale=1), CHANNELS, (1.0, 1.0, 1.0), ())
        assert free.matrix is not None
        assert free.matrix[flat, others].all()


def test_the_sample_of_a_slice_shows_the_slice(tmp_path: Path) -> None:
    path = tmp_path / "a.b2nd"
    write_array(path, np.ones((1, 60, 60, 1), np.float16))
    case = StoredCase("a", path, None, None, (60, 60, 1), (1.0, 1.0, 5.0), (0.0,), "k")
    sampling = SamplingSettings(labelled=1, unlabelled=0)
    samples = Samples([case], 1, (20, 20, 1), 1, 2, sampling, only(rotate=1, rotate_degrees=20), (), 0)
    shares = [samples[number].inside.mean() for number in range(20)]
    assert min(shares) > 0.75  # corners of a turned crop may lie beyond the border
    assert np.mean(shares) > 0.9


def test_a_quarter_turn_by_hand_is_rot90() -> None:
    source = voxels(shape=(2, 7, 5, 3))
    turns = {(0, 1): [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], (1, 2): [[1, 0, 0], [0, 0, 1], [0, -1, 0]]}
    for axes, matrix in turns.items():
        wanted = np.rot90(source, 1, (axes[0] + 1, axes[1] + 1))
        x, y, z = wanted.shape[1:]
        assert augment.reach(np.array(matrix, float), (x, y, z)) == source.shape[1:]
        found = augment.resample(source, np.array(matrix, float), (x, y, z))
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_turns_millimetres(axis: int) -> None:
    # Linear interpolation gives a linear function of the place back, so the turned one is known exactly.
    spacing = np.array([0.7, 1.0, 2.5])
    angles = np.zeros(3)
    angles[axis] = 0.5
    matrix = augment._matrix(angles, 1.0, (0.7, 1.0, 2.5))
    assert matrix is not None
    crop = (5, 6, 7)
    source_shape = augment.reach(matrix, crop)
    slope = np.array([1.0, -2.0, 0.5])

    def places(shape: tuple[int, ...]) -> NDArray[np.float64]:
        axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    source = (places(source_shape) @ slope).astype(np.float32)[None]
    found = augment.resample(source, matrix, crop)[0]
    wanted = [places(crop) @ Rotation.from_rotvec(s * angles).as_matrix().T @ slope for s in (1, -1)]
    assert any(np.allclose(found, one, atol=1e-4) for one in wanted)


def test_scaling_by_two_shows_a_smooth_function_at_half_the_place() -> None:
    matrix = drawn_from(only(scale=1, scale_range=(2, 2)), spacing=(1.0, 1.0, 3.0)).matrix
    assert matrix is not None
    assert np.array_equal(matrix, np.eye(3) / 2)
    crop = (20, 21, 16)

    def smooth(shape: tuple[int, ...], step: float) -> NDArray[np.float64]:
        x, y, z = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * step for n in shape), indexing="ij")
        return np.asarray(np.sin(0.3 * x + 0.1) + np.cos(0.2 * y) * np.cos(0.25 * z))

    source = smooth(augment.reach(matrix, crop), 1.0).astype(np.float32)[None]
    found = augment.resample(source, matrix, crop)[0]
    # Error of linear interpolation: at most h ** 2 / 8 times the second derivative along each axis.
    assert np.abs(found - smooth(crop, 0.5)).max() < (0.3**2 + 0.2**2 + 0.25**2) / 8 + 1e-5
    assert np.abs(found - smooth(crop, 1.0)).max() > 0.5


@given(
    angles=st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    factor=st.floats(0.5, 2.0),
    spacing=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    crop=st.tuples(*[st.integers(1, 9)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_reach_is_large_enough_and_not_larger(
    angles: tuple[float, ...], factor: float, spacing: Spacing, crop: tuple[int, int, int]
) -> None:
    matrix = augment._matrix(np.array(angles), factor, spacing)
    sides = augment.reach(matrix, crop)
    assert all((side - own) % 2 == 0 for side, own in zip(sides, crop))
    if matrix is None:
        return
    corners = np.stack(np.meshgrid(*([-1, 1],) * 3), axis=-1).reshape(-1, 3) * (np.array(crop) - 1) / 2
    furthest = np.abs(corners @ matrix.T).max(axis=0)
    assert (furthest <= (np.array(sides) - 1) / 2 + 1e-9).all()
    assert (furthest > (np.array(sides) - 1) / 2 - 1 - 1e-9).all()  # two voxels fewer would not do
    if np.prod(sides) < 1e6:
        ones = augment.resample(np.ones((1, *sides), np.float32), matrix, crop)
        np.testing.assert_allclose(ones, 1, atol=1e-3)  # padding is 0 and would show


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 1), (1, 1, 1)])
def test_outside_the_source_is_zero(shape: tuple[int, int, int]) -> None:
    source = 1 + voxels(shape=(2, *shape)) ** 2
    crop = (shape[0] + 2, shape[1] + 4, shape[2] + 2)
    wanted = np.pad(source, [(0, 0), (1, 1), (2, 2), (1, 1)])
    np.testing.assert_allclose(augment.resample(source, np.eye(3), crop), wanted, atol=1e-4)


@pytest.mark.parametrize("flips", [(), (0,), (2,), (0, 1), (0, 1, 2)])
def test_flips_turn_their_axes_round_and_twice_is_nothing(flips: tuple[int, ...]) -> None:
    image = voxels()
    once = augment.flip(image, flips)
    x, y, z = (slice(None, None, -1 if axis in flips else 1) for axis in range(3))
    assert np.array_equal(once, image[:, x, y, z])
    assert np.array_equal(augment.flip(once, flips), image)


def test_shift_and_gain_are_a_sum_and_a_product() -> None:
    image = voxels()
    shifted = intensities(image.copy(), replace(NOTHING, shift=per_channel(0.1, -0.05, 0)))
    for channel, constant in enumerate((0.1, -0.05, 0)):
        assert np.array_equal(shifted[channel], image[channel] + np.float32(constant))
    gained = intensities(image.copy(), replace(NOTHING, gain=1.2))
    assert np.array_equal(gained, image * np.float32(1.2))


def test_noise_has_its_deviation_and_its_seed() -> None:
    image = voxels(shape=(2, 20, 20, 20))
    one = intensities(image.copy(), replace(NOTHING, noise=(0.3, 5))) - image
    again = intensities(image.copy(), replace(NOTHING, noise=(0.3, 5))) - image
    other = intensities(image.copy(), replace(NOTHING, noise=(0.3, 6))) - image
    assert np.array_equal(one, again)
    assert abs(one.std() - 0.3) < 0.3 * 4.5 / np.sqrt(2 * one.size)
    assert abs(one.mean()) < 0.3 * 4.5 / np.sqrt(one.size)
    for first, second in ((one, other), (one[:1], one[1:]), (one, image)):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4.5 / np.sqrt(first.size)


def test_blur_is_a_gaussian_of_its_channel_alone() -> None:
    image = np.zeros((2, 13, 13, 13), np.float32)
    image[:, 6, 6, 6] = 1
    blurred = intensities(image.copy(), replace(NOTHING, blur=(0.8, 0.0)))
    assert np.array_equal(blurred[1], image[1])
    line = np.exp(-0.5 * (np.arange(-2, 3) / 0.8) ** 2)  # 3 deviations: 2.4, so 2 voxels
    line = np.pad(line / line.sum(), 4)
    np.testing.assert_allclose(blurred[0], np.einsum("i,j,k->ijk", line, line, line), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"blur": (0.9, 0.9, 0.9)},
        {"low_resolution": (0.5, 0.7, 0.9)},
        {"contrast": per_channel(0.5, 1, 1.5)},
        {"gamma": per_channel(0.7, 1, 1.5)},
        {"inverted_gamma": per_channel(0.7, 1, 1.5)},
    ],
)
def test_constants_stay(change: dict[str, Any]) -> None:
    image = np.ones((3, 7, 8, 9), np.float32) * np.array([-2.5, 0, 0.3], np.float32)[:, None, None, None]
    found = intensities(image.copy(), replace(NOTHING, **change))
    np.testing.assert_allclose(found, image, atol=1e-5)


def test_contrast_by_hand() -> None:
    image = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1).repeat(2, axis=0)
    found = intensities(image, replace(NOTHING, contrast=per_channel(0.5, 2)))
    assert found[0].ravel().tolist() == [0.75, 1.25, 1.75, 2.25]  # about the mean, 1.5
    assert found[1].ravel().tolist() == [0, 0.5, 2.5, 3]  # clipped to the range before


def naive_gamma(channel: NDArray[np.float32], exponent: float) -> NDArray[np.float64]:
    values = channel.astype(np.float64)
    curved = ((values - values.min()) / (values.max() - values.min())) ** exponent
    return np.asarray((curved - curved.mean()) / curved.std() * values.std() + values.mean())


def test_gamma_is_the_curve_with_mean_and_deviation_kept() -> None:
    image = voxels(shape=(2, 6, 7, 8))
    exponents = (0.7, 1.5)
    found = intensities(image.copy(), replace(NOTHING, gamma=per_channel(*exponents)))
    inverted = intensities(image.copy(), replace(NOTHING, inverted_gamma=per_channel(*exponents)))
    for channel, exponent in enumerate(exponents):
        np.testing.assert_allclose(found[channel], naive_gamma(image[channel], exponent), atol=1e-4)
        np.testing.assert_allclose(inverted[channel], -naive_gamma(-image[channel], exponent), atol=1e-4)
        for curved in (found[channel], inverted[channel]):
            assert abs(curved.mean() - image[channel].mean()) < 1e-4
            assert abs(curved.std() - image[channel].std()) < 1e-4
            assert np.array_equal(np.argsort(curved.ravel()), np.argsort(image[channel].ravel()))
    # An exponent above 1 pulls the middle down: the bright side gets the long tail, and the dark one if inverted.
    skews = [float(((a - a.mean()) ** 3).mean()) for a in (image[1], found[1], inverted[1])]
    assert skews[2] < skews[0] < skews[1]


def test_gamma_of_one_is_nothing() -> None:
    image = voxels()
    found = intensities(image.copy(), replace(NOTHING, gamma=per_channel(1, 1, 1)))
    np.testing.assert_allclose(found, image, atol=1e-5)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_low_resolution_takes_nearest_voxels_and_joins_them_linearly(axis: int) -> None:
    profile = np.random.default_rng(1).normal(size=8).astype(np.float32)
    shape = [1, 1, 1, 1]
    shape[axis] = 8
    image = np.ascontiguousarray(np.broadcast_to(profile.reshape(shape), (2, 8, 8, 8)))
    found = intensities(image.copy(), replace(NOTHING, low_resolution=(0.5, 1.0)))
    assert np.array_equal(found[1], image[1])
    # Coarse voxel i is centred on fine place 2 i + 0.5; the nearest fine voxel, ties upwards, is 2 i + 1.
    line = np.interp((np.arange(8) + 0.5) / 2 - 0.5, np.arange(4), profile[1::2])
    wanted = np.broadcast_to(line.reshape(shape[1:]), (8, 8, 8))
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_the_same_draw_twice_gives_the_same_arrays() -> None:
    everything = only(**dict.fromkeys(SETS, 1.0))
    drawn, again = drawn_from(everything, 4), drawn_from(everything, 4)
    assert not changed(drawn, again)
    assert changed(drawn, drawn_from(everything, 5)) >= {"matrix", "noise", "gain", "gamma"}
    source = voxels(shape=(CHANNELS, *augment.reach(drawn.matrix, (6, 7, 8))))
    assert drawn.matrix is not None
    results = []
    for parameters in (drawn, drawn, again):
        crop = augment.resample(source.copy(), parameters.matrix, (6, 7, 8))  # type: ignore[arg-type]
        results.append(augment.flip(intensities(crop, parameters), parameters.flips))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_votes_for_labels_agree_with_the_nearest_neighbour_inside_structures() -> None:
    generator = np.random.default_rng(2)
    blobs = ndimage.gaussian_filter(generator.normal(size=(3, 32, 32, 32)), (0, 3, 3, 3))
    label = blobs.argmax(axis=0).astype(np.uint8)
    crop = (16, 16, 16)
    matrix = augment._matrix(np.array([0.4, -0.2, 0.3]), 0.9, (1.0, 1.0, 1.0))
    assert matrix is not None
    inside = np.ones((1, 32, 32, 32), np.bool_)
    image = label[None].astype(np.float32)
    _, found, still_inside = moved(
        image, label[None], inside, lambda box: augment.resample(box, matrix, crop), 1, 3
    )
    assert found is not None
    assert still_inside.all()
    offset = np.full(3, 15.5) - matrix @ np.full(3, 7.5)

    def nearest(array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(ndimage.affine_transform(array, matrix, offset, crop, order=0))

    deep = nearest((ndimage.maximum_filter(label, 3) == ndimage.minimum_filter(label, 3)).astype(np.uint8)) > 0
    assert 0.3 < deep.mean() < 0.9
    assert np.array_equal(found[0][deep], nearest(label)[deep])
    assert (found[0] == nearest(label)).mean() > 0.93
    assert set(np.unique(found)) == {0, 1, 2}
