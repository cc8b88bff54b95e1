"""Registration finds a known deformation, is the same twice, and the fields mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.data.warp import THIN, Spacing, box_of, restored, warp
from frugalseg.semisup.registration import NotRegistered, RegistrationSettings, coarser, coarsest, register

SPACING: Spacing = (1.0, 1.5, 2.0)
SIDES = (28, 24, 20)


def blobs(sides: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).standard_normal(sides)
    image = ndimage.gaussian_filter(noise, 2.5)
    return np.asarray((image - image.mean()) / image.std(), np.float32)[None]


def test_warp_by_whole_voxels_and_by_half_of_one() -> None:
    image = blobs(SIDES)
    shift = np.zeros((3, *SIDES), np.float32)
    shift[1] = 2 * SPACING[1]
    moved = warp(image, shift, SPACING, SPACING)
    assert moved[:, :, :-2] == pytest.approx(image[:, :, 2:], abs=1e-5)
    assert moved[0, 3, -1, 4] == pytest.approx(image[0, 3, -1, 4], abs=1e-5)  # beyond the edge, the edge
    shift[:] = 0
    shift[2] = SPACING[2] / 2
    between = warp(image, shift, SPACING, SPACING)[..., :-1]
    assert between == pytest.approx((image[..., :-1] + image[..., 1:]) / 2, abs=1e-5)
    assert warp(image, np.zeros_like(shift), SPACING, SPACING) == pytest.approx(image, abs=1e-5)


@pytest.mark.parametrize("start", ["centre", "affine"])
def test_a_known_deformation_is_found(start: str) -> None:
    moving = blobs(SIDES)
    grid = np.stack(np.meshgrid(*(np.linspace(0, np.pi, side) for side in SIDES), indexing="ij"))
    true = (2.0 * np.sin(grid[[1, 2, 0]]) * np.sin(grid)).astype(np.float32)
    fixed = warp(moving, true, SPACING, SPACING)
    settings = RegistrationSettings.model_validate({"start": start, "iterations": 100})
    found = register(moving, fixed, SPACING, SPACING, settings)
    assert found.shape == (3, *SIDES)
    inner = (slice(None), *[slice(4, -4)] * 3)
    assert np.abs(found - true)[inner].mean() < 0.3 * np.abs(true)[inner].mean()
    before, after = (
        np.square(image - fixed)[inner].mean() for image in (moving, warp(moving, found, SPACING, SPACING))
    )
    assert after < 0.1 * before


def test_images_of_different_spacing() -> None:
    """The same anatomy on a grid of half the spacing: no voxel step of one is a step of the other."""
    fine = blobs(SIDES)
    coarse = np.ascontiguousarray(fine[:, ::2, ::2, ::2])
    double = (2 * SPACING[0], 2 * SPACING[1], 2 * SPACING[2])
    nothing = np.zeros((3, *coarse.shape[1:]), np.float32)
    assert warp(fine, nothing, SPACING, double) == pytest.approx(coarse, abs=1e-5)
    found = register(fine, coarse, SPACING, double, RegistrationSettings(iterations=20))
    assert np.square(warp(fine, found, SPACING, double) - coarse).mean() < 0.3 * np.square(coarse).mean()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flat_images(axis: int) -> None:
    sides = [24, 22, 20]
    sides[axis] = 1
    moving = blobs((24, 22, 20)).take([9], axis=axis + 1)
    fixed = np.roll(moving, 2, axis=(axis + 1) % 3 + 1)
    found = register(moving, fixed, SPACING, SPACING, RegistrationSettings())
    assert found.shape == (3, *sides)
    inner = (slice(None), *(slice(None) if side == 1 else slice(4, -4) for side in sides))
    after, before = (
        np.square(image - fixed)[inner].mean() for image in (warp(moving, found, SPACING, SPACING), moving)
    )
    assert after < 0.2 * before


@pytest.mark.parametrize("thick", [(8.0, 5.0), (5.0, 8.0), (3.0, 12.0)])
def test_one_slice_is_laid_onto_one_slice_however_thick_they_are(thick: tuple[float, float]) -> None:
    moving = blobs((24, 22, 1))
    fixed = np.roll(moving, 2, axis=1)
    found = register(moving, fixed, (1.0, 1.0, thick[0]), (1.0, 1.0, thick[1]), RegistrationSettings())
    assert not found[2].any()
    assert found[0, 4:-4].mean() < -1


@pytest.mark.parametrize(("here", "there"), [(2, 3), (3, 2), (2, 2), (3, 6)])
def test_thin_images_are_centred(here: int, there: int) -> None:
    whole = np.repeat(blobs((24, 22, 1)), 6, axis=3)
    found = register(whole[..., :here], whole[..., :there], SPACING, SPACING, RegistrationSettings(iterations=5))
    assert found[2].mean() == pytest.approx((here - there) / 2 * SPACING[2], abs=0.05)


def test_images_of_different_sides_are_centred() -> None:
    whole = blobs((32, 28, 24))
    part = np.ascontiguousarray(whole[:, 3:-3, 2:-2, 2:-2])
    found = register(whole, part, SPACING, SPACING, RegistrationSettings(iterations=20))
    assert found.shape == (3, 26, 24, 20)
    expected = np.array([3, 2, 2]) * np.array(SPACING)
    assert found.mean(axis=(1, 2, 3)) == pytest.approx(expected, abs=0.1)
    assert np.square(warp(whole, found, SPACING, SPACING) - part).mean() < 0.02


@pytest.mark.parametrize("sides", [(9, 8, 7), (6, 6, 6)])
def test_a_field_that_was_thinned_comes_back(sides: tuple[int, int, int]) -> None:
    slopes = np.random.default_rng(0).standard_normal((3, 3))
    line = np.einsum("ij,jxyz->ixyz", slopes, np.indices(sides)).astype(np.float32) + 40
    thin = line[:, ::THIN, ::THIN, ::THIN].astype(np.float16)
    back = restored(thin, box_of((0, 0, 0), sides))
    kept = (slice(None), *(slice(2 * len(range(0, side, 2)) - 1) for side in sides))
    assert back[kept] == pytest.approx(line[kept], abs=0.05)  # linear: exact but for half precision
    assert back.shape == (3, *sides)
    for first in np.ndindex(3, 2, 2):  # a part of it is read for a part
        box = box_of(first, (3, 4, 2))
        assert restored(thin, box) == pytest.approx(back[:, *box], abs=1e-4)


@pytest.mark.parametrize("voxels", [2**19, 4096])
def test_every_second_voxels_displacement_is_that_of_all(voxels: int) -> None:
    moving, fixed = blobs((24, 21, 19), 1), blobs((25, 20, 17), 2)
    settings = RegistrationSettings(iterations=5, voxels=voxels)
    whole = register(moving, fixed, SPACING, (1.1, 0.9, 1.3), settings)
    few = register(moving, fixed, SPACING, (1.1, 0.9, 1.3), settings, 2)
    assert few.shape == (3, 13, 10, 9)
    assert few == pytest.approx(whole[:, ::2, ::2, ::2], abs=1e-5)


def test_the_same_pair_gives_the_same_field() -> None:
    one, two = blobs(SIDES, 1), blobs(SIDES, 2)
    first, second = (register(one, two, SPACING, SPACING, RegistrationSettings(iterations=10)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("itk::ERROR: ImportImageContainer(0x1): Failed to allocate memory for image.", MemoryError),
        ("std::bad_alloc", MemoryError),
        ("itk::ERROR: All samples map outside moving image buffer.", NotRegistered),
    ],
)
def test_memory_that_ran_out_is_told_from_images_that_are_not_alike(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception]
) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError(said)

    monkeypatch.setattr("frugalseg.semisup.registration._demons", failing)
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    with pytest.raises(kind):
        register(image, image, (1, 1, 1), (1, 1, 1), RegistrationSettings())


def test_large_images_are_registered_on_a_coarser_grid_of_the_same_extent() -> None:
    """The deformation is smooth: found on an eighth of the voxels it is as good, and it lies where it did."""
    sides = (56, 48, 40)
    moving = blobs(sides, 3)
    for axis in range(3):
        moving = np.asarray(ndimage.gaussian_filter1d(moving, 2, axis=axis + 1), np.float32)
    moving = (moving - moving.mean()) / moving.std()
    grid = np.stack(np.meshgrid(*(np.linspace(0, np.pi, side) for side in sides), indexing="ij"))
    true = (4.0 * np.sin(grid[[1, 2, 0]]) * np.sin(grid)).astype(np.float32)
    fixed = warp(moving, true, SPACING, SPACING)
    inner = (slice(None), *[slice(6, -6)] * 3)
    left = {}
    for voxels in (2**19, 56 * 48 * 40 // 8):
        settings = RegistrationSettings(iterations=100, voxels=voxels)
        found = register(moving, fixed, SPACING, SPACING, settings)
        assert found.shape == (3, *sides)
        left[voxels] = np.abs(found - true)[inner].mean() / np.abs(true)[inner].mean()
    assert max(left.values()) < 0.25, left


def test_a_shift_of_a_large_image_reaches_its_corners() -> None:
    """No voxel lies beyond the coarse grid, where a field would be 0; images of one spacing and of another."""
    image = blobs((44, 40, 36), 4)
    image = np.asarray(ndimage.gaussian_filter(image[0], 2), np.float32)[None]
    image = (image - image.mean()) / image.std()
    for axis, spacing in ((0, SPACING), (2, (1.0, 1.0, 1.0))):
        moving = np.roll(image, 3, axis=axis + 1)
        settings = RegistrationSettings(iterations=100, voxels=4096)
        found = register(moving, image, spacing, spacing, settings)
        middle = found[axis, 10:-10, 10:-10, 10:-10]
        assert middle.mean() == pytest.approx(3 * spacing[axis], rel=0.25)
        edges = [found[axis, x, y, z] for x in (0, -1) for y in (0, -1) for z in (0, -1)]
        assert np.abs(np.array(edges)).min() > 0, "a corner was left where it was"


@pytest.mark.parametrize("sides", [(512, 512, 100), (240, 240, 155), (300, 1, 400), (64, 64, 64), (3, 2000, 2000)])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 5.0), (1.0, 1.0, 1.0)])
def test_the_coarser_grid(sides: tuple[int, int, int], spacing: Spacing) -> None:
    most = 2**19
    size = coarsest(sides, spacing, most)
    array = np.ones((1, 1, 1), np.float32)
    array = np.broadcast_to(array, sides)
    if np.prod(sides) <= most:
        assert size == 0
        assert np.array_equal(coarser(np.asarray(array), spacing, size)[0], array)
        assert coarser(np.asarray(array), spacing, size)[1:] == (spacing, (0.0, 0.0, 0.0))
        return
    found, other, place = coarser(np.asarray(array), spacing, size)
    assert most / 2 < found.size <= most
    assert np.allclose(found, 1)
    for old, new, step, own, first in zip(sides, found.shape, spacing, other, place, strict=True):
        assert new * own == pytest.approx(old * step), "another extent"
        assert first == pytest.approx((own - step) / 2)
        assert own >= step - 1e-9
        assert new == old if old <= 4 else True
    finest = min(own for own, new in zip(other, found.shape, strict=True) if new > 4)
    assert all(own < 1.3 * finest or new == old for own, new, old in zip(other, found.shape, sides, strict=True))
