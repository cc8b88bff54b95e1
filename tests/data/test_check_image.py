"""The voxels of an image: what is odd is told, what is legal is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.check_image import content, image_remarks
from frugalseg.geometry import Grid, Reorder

SHAPE = (20, 24, 16)
NAMES = ("T1", "T2")


def noise(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(100, 9, SHAPE).astype(np.float32)


def kinds(*channels: NDArray[np.float32]) -> list[str]:
    return [remark.kind for remark in image_remarks(np.stack(channels), NAMES)]


def test_legal_images_raise_nothing() -> None:
    brain = np.where(np.indices(SHAPE).sum(axis=0) < 20, noise(), 0)
    byte = np.rint(noise()).astype(np.float32)
    hounsfield = np.where(np.indices(SHAPE)[0] > 4, noise(), -1024)
    for image in (noise(), brain, byte, -noise()):
        assert kinds(image.astype(np.float32), noise(1)) == []
    assert image_remarks(hounsfield.astype(np.float32)[None], [" ct"]) == []


def test_ct_that_is_not_named_so_is_told() -> None:
    hounsfield = np.where(np.indices(SHAPE)[0] > 4, noise(), -1024).astype(np.float32)
    assert kinds(hounsfield, noise()) == ["like-ct"]
    (remark,) = image_remarks(hounsfield[None], ["image"])
    assert "channel 0 (image) looks like CT (lowest value -1024" in remark.found
    assert "preprocess.normalise=ct" in remark.todo
    assert [one.kind for one in image_remarks(hounsfield[None], [])] == ["like-ct"]
    second = image_remarks(np.stack([noise(), hounsfield]), ["PET", "CTres"])[0]
    assert "channel 1 (CTres)" in second.found
    assert '{"1": "CT"}' in second.todo
    assert "preprocess.normalise=[zscore,ct]" in second.todo
    hounsfield[0, 0, 0] = np.nan
    assert [one.kind for one in image_remarks(hounsfield[None], ["image"])] == ["not-finite"]


def test_each_oddity_is_named() -> None:
    constant = np.full(SHAPE, 3, np.float32)
    assert kinds(noise(), constant) == ["constant"]
    assert "channel 1 (T2) is constant (3)" in image_remarks(np.stack([noise(), constant]), NAMES)[0].found
    assert "channel 1 (T2)" in image_remarks(constant[None], NAMES, first=1)[0].found
    speck = np.zeros(SHAPE, np.float32)
    speck[3, 3, 3:6] = [1, 2.5, 3]
    assert kinds(speck, noise()) == ["almost-empty"]
    assert "3 of 7680 voxels differ from its lowest value (0)" in image_remarks(speck[None], NAMES)[0].found
    mask = np.zeros(SHAPE, np.float32)
    mask[4:9, 4:9, 4:9], mask[9:12] = 1, 4
    assert kinds(mask) == ["image-like-label"]
    assert "its only values are 0, 1, 4" in image_remarks(mask[None], NAMES)[0].found


def test_few_values_are_legal_if_they_are_no_integers_or_not_so_few() -> None:
    assert kinds(np.rint(noise() / 5).astype(np.float32)) == []  # a dozen values
    assert kinds((np.digitize(noise(), [90, 110]) * 0.4).astype(np.float32)) == []


def test_not_finite_voxels_are_counted_over_the_channels() -> None:
    one, two = noise(), noise(1)
    one[0, 0, :3], two[1, 1, 1] = np.nan, -np.inf
    (remark,) = image_remarks(np.stack([one, two]), NAMES)
    assert (remark.severity, remark.kind) == ("error", "not-finite")
    assert "4 of 15360 voxels are NaN (3) or infinite (1)" in remark.found
    assert "--nan-to-zero" in remark.mend


def test_content_is_that_of_the_voxels_and_not_of_how_they_are_stored() -> None:
    image = np.rint(noise())
    grid = Grid(SHAPE, np.eye(4))
    known = content(grid, image)
    assert len(known) == 32
    turned = Reorder((2, 0, 1), (0, 2))
    other = content(turned.apply_grid(grid), turned.apply(image))
    assert other == known
    assert content(grid, image.astype(np.int32)) == known
    assert content(Grid(SHAPE, np.diag([2.0, 2.0, 3.0, 1.0])), image) == known
    zeros = np.where(image > 100, image, 0).astype(np.float32)
    assert content(grid, np.where(zeros == 0, np.float32(-0.0), zeros)) == content(grid, zeros)
    image[5, 5, 5] += 1
    assert content(grid, image) != known
    assert content(grid, image[::-1]) != content(grid, image)


@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_has_no_content_to_compare(value: int) -> None:
    assert content(Grid(SHAPE, np.eye(4)), np.full(SHAPE, value, np.int32)) == ""
