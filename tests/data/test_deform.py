"""Deformed crops, against a loop over voxels and by what they must do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.data.augment import OFF, AugmentSettings, draw
from frugalseg.data.deform import Deformation, deformed
from frugalseg.data.patches import Samples, SamplingSettings
from frugalseg.data.store import StoredCase, write_array
from frugalseg.data.warp import THIN, box_of, restored

Floats = NDArray[np.float32]
SHAPE, OTHER = (13, 15, 11), (12, 17, 10)
SPACING, OTHER_SPACING = (1.0, 1.2, 0.9), (1.1, 1.0, 1.0)
CROP = (6, 7, 5)


def thinned(field: Floats) -> NDArray[np.float16]:
    return field[:, ::THIN, ::THIN, ::THIN].astype(np.float16)


def smooth_field(seed: int, size: float) -> Floats:
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((3, *OTHER))
    field = np.stack([ndimage.gaussian_filter(one, 3) for one in noise])
    return np.asarray(size * field / np.abs(field).max(), np.float32)


def found(
    field: Floats, part: float, centre: tuple[float, ...], matrix: NDArray[np.float64] | None = None
) -> tuple[Any, list[tuple[int, ...]]]:
    thin = thinned(field)
    reads: list[tuple[int, ...]] = []

    def read(first: tuple[int, ...], sides: tuple[int, ...]) -> NDArray[Any]:
        reads.append(sides)
        assert min(first) >= 0
        box = tuple(slice(a, a + b) for a, b in zip(first, sides, strict=True))
        got = thin[:, *box]
        assert got.shape[1:] == tuple(sides)
        return got

    sides = (thin.shape[1], thin.shape[2], thin.shape[3])
    deformation = Deformation(Path("f"), OTHER, OTHER_SPACING)
    result = deformed((sides, read), deformation, SHAPE, SPACING, np.array(centre), matrix, CROP, part)
    return result, reads


@pytest.mark.parametrize("part", [0.0, 0.4, 1.0])
def test_places_equal_a_loop_over_voxels(part: float) -> None:
    field = smooth_field(0, 2.0)
    whole = restored(thinned(field), box_of((0, 0, 0), OTHER))
    matrix = np.array([[0.9, 0.2, 0.0], [-0.1, 1.1, 0.1], [0.05, 0.0, 0.95]])
    centre = np.array([6.0, 8.0, 5.0])
    result, reads = found(field, part, (6.0, 8.0, 5.0), matrix)
    here, there = np.array(SPACING), np.array(OTHER_SPACING)
    for voxel in np.ndindex(CROP):
        step = matrix @ (np.array(voxel) - (np.array(CROP) - 1) / 2) * here / there
        # The two images' centres lie on each other, in mm.
        other = (centre - (np.array(SHAPE) - 1) / 2) * here / there + (np.array(OTHER) - 1) / 2 + step
        at = [ndimage.map_coordinates(whole[axis], other[:, None], order=1, mode="nearest")[0] for axis in range(3)]
        laid = (other * there + np.array(at)) / here
        centred = (other - (np.array(OTHER) - 1) / 2) * there / here + (np.array(SHAPE) - 1) / 2
        wanted = centred + part * (laid - centred)
        assert result.places[(slice(None), *voxel)] == pytest.approx(wanted, abs=2e-2)  # the field is in halves
        inside = all(-0.5 <= p <= s - 0.5 for p, s in zip(wanted, SHAPE, strict=True))
        inside &= all(-0.5 <= p <= s - 0.5 for p, s in zip(other, OTHER, strict=True))
        assert bool(result.inside[voxel]) == inside
    assert np.prod(reads[0]) < np.prod(thinned(field).shape[1:]), "the whole field was read for a crop"


def test_a_crop_looks_up_what_the_whole_image_shows() -> None:
    result, _ = found(smooth_field(1, 3.0), 1.0, (3.0, 12.0, 9.0))
    image = np.random.default_rng(2).standard_normal((2, *SHAPE)).astype(np.float32)
    box = tuple(slice(a, a + b) for a, b in zip(result.start, result.sides, strict=True))
    seen = result.look_up(image[:, *box])
    for channel in range(2):
        wanted = ndimage.map_coordinates(image[channel], result.places, order=1, mode="nearest")
        assert seen[channel] == pytest.approx(wanted, abs=1e-4)


def test_no_part_of_a_displacement_is_the_image_itself() -> None:
    """The same grid, nothing of the displacement, whole voxels: a copy."""
    thin = thinned(np.full((3, *SHAPE), 5.0, np.float32))
    sides = (thin.shape[1], thin.shape[2], thin.shape[3])
    deformation = Deformation(Path("f"), SHAPE, SPACING)

    def read(first: tuple[int, ...], box: tuple[int, ...]) -> NDArray[Any]:
        return thin[:, *(slice(a, a + b) for a, b in zip(first, box, strict=True))]

    result = deformed((sides, read), deformation, SHAPE, SPACING, np.array([5.5, 6.0, 4.0]), None, CROP, 0.0)
    image = np.random.default_rng(3).standard_normal((1, *SHAPE)).astype(np.float32)
    box = tuple(slice(a, a + b) for a, b in zip(result.start, result.sides, strict=True))
    assert result.inside.all()
    assert result.look_up(image[:, *box]) == pytest.approx(image[:, 3:9, 3:10, 2:7], abs=1e-4)


def stored(folder: Path, deformed_case: bool) -> StoredCase:
    generator = np.random.default_rng(4)
    label = (ndimage.gaussian_filter(generator.standard_normal(SHAPE), 2) > 0).astype(np.uint8)[None]
    image = label.astype(np.float16) * 3
    for name, array in (("image", image), ("label", label), ("field", thinned(smooth_field(5, 3.0)))):
        write_array(folder / f"{name}.b2nd", array)
    case = StoredCase("a", folder / "image.b2nd", folder / "label.b2nd", None, SHAPE, SPACING, (0.0,), "k")
    way = Deformation(folder / "field.b2nd", OTHER, OTHER_SPACING)
    return replace(case, deformations=(way,)) if deformed_case else case


def samples(case: StoredCase, settings: AugmentSettings) -> Samples:
    return Samples([case], 1, CROP, 1, 2, SamplingSettings(labelled=1), settings, (), 0)


def test_image_and_label_are_deformed_alike(tmp_path: Path) -> None:
    settings = OFF.model_copy(update={"deform": 1.0, "deform_range": (1.0, 1.0)})
    plain, bent = samples(stored(tmp_path, False), settings), samples(stored(tmp_path, True), settings)
    differ = 0
    for number in range(20):
        one, two = bent[number], plain[number]
        differ += not np.array_equal(one.image, two.image)
        own = one.inside > 0
        # The image is three times the label: linear look-up and votes must agree away from the border's half.
        assert np.array_equal(one.image[own] > 1.5, one.target[own] == 1)
        assert not one.weight[~own].any()
        assert not one.image[~own].any()
        again = bent[number]
        assert np.array_equal(one.image, again.image)
        assert np.array_equal(one.target, again.target)
    assert differ > 15


def test_other_draws_stay_as_they_are() -> None:
    """The rest of a sample's parameters are those of a run without deformation, which happens as often as asked."""
    settings = AugmentSettings()
    bent = settings.model_copy(update={"deform": 0.5, "deform_range": (0.2, 0.7)})
    parts = []
    for number in range(100):
        one, two = (draw(np.random.default_rng(number), each, 1, SPACING, (0,)) for each in (settings, bent))
        assert one.deform is None
        assert str(replace(two, deform=None)) == str(one)
        parts += [two.deform] if two.deform is not None else []
    assert 35 < len(parts) < 65
    assert all(0 <= which < 1 and 0.2 <= part <= 0.7 for which, part in parts)
    assert max(which for which, _ in parts) > 0.9
