"""Votes are counted where there is something to decide, in blocks: the same as everywhere at once."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.data.warp import Box, Floats, Spacing, places_of, sample, within
from frugalseg.semisup import undecided
from frugalseg.semisup.atlas import Labelled, ballot, fused, shares_of
from frugalseg.semisup.fusion import Ballot, FusionSettings, steps_within, vote
from frugalseg.semisup.undecided import among_background, block_side, blocks, parts, voxels_in_boxes, widened

SIDES = (18, 13, 16)
ROWS = 2
SPACING: Spacing = (1.0, 1.0, 1.5)
CLASSES = 3


@cache
def cases() -> tuple[Floats, list[Labelled], list[Floats]]:
    """A target, labelled cases of other sides and spacings, and smooth displacements of several voxels."""
    generator = np.random.default_rng(0)
    target = generator.standard_normal((2, *SIDES)).astype(np.float32)
    known, fields = [], []
    for number, sides in enumerate(((18, 13, 16), (15, 16, 14), (20, 12, 17))):
        image = generator.standard_normal((2, *sides)).astype(np.float32)
        blob = ndimage.gaussian_filter(generator.standard_normal((ROWS, *sides)), (0, 2, 2, 2))
        label = np.digitize(blob / blob.std(), [1.5, 2.2]).astype(np.uint8)
        label[:, :, :, 9:] = 0  # a part of the image shows background alone
        label[0, 3, 4, 5] = 255
        known.append(Labelled(image, label, (1.0 + 0.1 * number, 1.0, 1.4)))
        noise = ndimage.gaussian_filter(generator.standard_normal((3, *SIDES)), (0, 3, 3, 3))
        fields.append((noise / np.abs(noise).max() * 4).astype(np.float32))
    return target, known, fields


def everywhere(target: Floats, known: list[Labelled], fields: list[Floats], settings: FusionSettings) -> Floats:
    """The vote about all voxels at once."""
    ballots = []
    for case, field in zip(known, fields, strict=True):
        places = places_of(field, case.spacing, SPACING)
        shares = shares_of(case.label, CLASSES)
        laid = sample(shares.reshape(-1, *case.label.shape[1:]), places) * within(places, case.label.shape[1:])
        ballots.append(Ballot(np.arange(2), sample(case.image, places), laid.reshape(-1, CLASSES, *SIDES)))
    return vote(target, steps_within(settings.search, SPACING, SIDES), ballots, settings)


@cache
def by_loops(search: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Where, in reach, all are sure of background or know nothing; where all know something; how many do."""
    _, known, fields = cases()
    knows = []
    open_ = np.zeros(SIDES, np.bool_)
    for case, field in zip(known, fields, strict=True):
        places = places_of(field, case.spacing, SPACING)
        knows.append(within(places, case.label.shape[1:]))
        open_ |= something_beside(case.label, places) & knows[-1]
    decided, inner = ~open_, np.all(knows, axis=0)
    for voxel in np.ndindex(SIDES):
        steps = steps_within(search, SPACING, SIDES)
        near = [tuple(np.clip(np.add(voxel, step), 0, np.array(SIDES) - 1)) for step in steps]
        decided[voxel] = not any(open_[one] for one in near)
        inner[voxel] = all(one[place] for one in knows for place in near)
    return decided, inner, np.sum(knows, axis=0)


@pytest.mark.parametrize("block", [5, 8, 64])
@pytest.mark.parametrize("settings", [FusionSettings(), FusionSettings(search=0, window=0.5)])
def test_it_equals_the_vote_about_all_voxels(
    block: int, settings: FusionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugalseg.semisup.atlas.block_side", lambda _: block)
    target, known, fields = cases()
    read: list[int] = []

    def field(number: int, box: Box) -> Floats:
        found = fields[number][:, *box]
        read.append(found[0].size)
        return found

    found = fused(target, SPACING, known, field, CLASSES, settings, threads=2).whole()
    assert max(read) <= (block + 2 * 4) ** 3
    decided, inner, knowing = by_loops(settings.search)
    assert 0.1 < decided.mean() < 0.9
    assert (decided & inner).any()
    assert (decided & ~inner).any()
    weighed = ~decided | inner
    wanted = everywhere(target, known, fields, settings)
    assert found[:, :, weighed] == pytest.approx(wanted[:, :, weighed], abs=2e-5)
    assert not found[:, 1:, decided].any()
    assert np.array_equal(found[:, 0, decided], np.stack([knowing[decided] >= 1.5] * ROWS))


def something_beside(label: NDArray[np.uint8], places: Floats) -> NDArray[np.bool_]:
    """Whether one of the eight neighbours of a place is something, in any row."""
    found = np.zeros(places.shape[1:], np.bool_)
    last = np.array(label.shape[1:]) - 1
    for voxel in np.ndindex(found.shape):
        low = np.floor(np.clip(places[(slice(None), *voxel)], 0, last)).astype(int)
        for corner in np.ndindex(2, 2, 2):
            found[voxel] |= bool((label[(slice(None), *np.minimum(low + corner, last))] != 0).any())
    return found


def test_neighbours_equal_a_loop() -> None:
    label = (np.random.default_rng(1).random((2, 6, 5, 7)) > 0.95).astype(np.uint8)
    places = np.random.default_rng(2).uniform(-2, 8, (3, 9, 8, 7)).astype(np.float32)
    found = among_background(label, places)
    assert np.array_equal(found, ~something_beside(label, places))
    assert 0 < found.mean() < 1
    grid = np.indices((6, 5, 7)).astype(np.float32)  # a place that is a voxel may see the next ones, but not less
    assert not (among_background(label, grid) & (label != 0).any(axis=0)).any()


def test_a_mask_is_widened_by_steps_into_it() -> None:
    mask = np.random.default_rng(4).random((6, 1, 7)) > 0.9
    steps = [(0, 0, 0), (2, 0, -1), (-1, 0, 0)]
    before = mask.copy()
    found = widened(mask, steps)
    for x, y, z in np.ndindex(mask.shape):
        ends = [(x + i, y + j, z + k) for i, j, k in steps if 0 <= x + i < 6 and 0 <= z + k < 7]
        assert found[x, y, z] == any(before[end] for end in ends)
    assert np.array_equal(mask, before), "the mask itself stays"


def test_parts_cover_the_mask_once_and_no_empty_block() -> None:
    mask = np.random.default_rng(3).random((10, 9, 5)) > 0.97
    times = np.zeros(mask.shape, int)
    for part in parts(mask, (2, 1, 0), 4):
        times[part.own] += 1
        assert mask[part.own].any()
        wide = np.zeros(mask.shape, int)
        wide[part.wide][part.within] = 1
        assert wide.sum() == wide[part.own].sum() == np.prod([side.stop - side.start for side in part.own])
        for own, around, far, side in zip(part.own, part.wide, (2, 1, 0), mask.shape, strict=True):
            assert (around.start, around.stop) == (max(0, own.start - far), min(side, own.stop + far))
    assert times[mask].all()
    assert times.max() == 1
    assert sum(mask[block].size for block in blocks((10, 9, 5), 4)) == mask.size


def test_nothing_but_background_is_no_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Floats:
        raise AssertionError("a vote was counted")

    monkeypatch.setattr("frugalseg.semisup.atlas.vote", never)
    target, known, fields = cases()
    empty = [Labelled(case.image, np.zeros_like(case.label), case.spacing) for case in known]
    votes = fused(target, SPACING, empty, lambda number, box: fields[number][:, *box], CLASSES, FusionSettings())
    found = votes.whole()
    assert not found[:, 1:].any()
    assert found[:, 0, 5:-5, 5:-5, 5:-5].all()


def test_the_boxes_around_structures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecided, "BLOCK", 5)
    label = np.zeros((2, 10, 5, 4), np.uint8)
    assert voxels_in_boxes(label) == 0
    label[0, 1, 1, 1] = label[1, 3, 2, 1] = 1  # a box of 3 x 2 x 1 in the first block
    label[0, 9, 4, 3] = 255
    assert voxels_in_boxes(label) == 6 + 1
    assert voxels_in_boxes(np.ones((1, 7, 6, 5), np.uint8)) == 7 * 6 * 5


def test_blocks_are_not_much_smaller_than_what_a_vote_looks_at() -> None:
    assert block_side((4, 4, 4)) == 64
    assert block_side((0, 61, 5)) == 244


@pytest.mark.parametrize("flat", [(slice(None), slice(5, 6), slice(None)), (slice(None), slice(None), slice(0, 1))])
def test_an_image_of_one_slice_is_voted_about_in_its_plane(flat: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalseg.semisup.atlas.block_side", lambda _: 6)
    target, known, fields = cases()
    thin = target[:, *flat]
    cut, still = [], []
    for case, field in zip(known, fields, strict=True):
        own: Box = tuple(part if part == slice(None) else slice(3, 4) for part in flat)  # type: ignore[assignment]
        cut.append(Labelled(case.image[:, *own], np.minimum(case.label[:, *own], 1), case.spacing))
        inside = field[:, *flat].copy()
        inside[[axis for axis, part in enumerate(flat) if part != slice(None)]] = 0
        still.append(inside)
    settings = FusionSettings(decay=1)
    found = fused(thin, SPACING, cut, lambda number, box: still[number][:, *box], CLASSES, settings).whole()
    steps = steps_within(settings.search, SPACING, thin.shape[1:])
    ballots = [ballot(case, places_of(field, case.spacing, SPACING), np.arange(2), CLASSES)
               for case, field in zip(cut, still, strict=True)]  # fmt: skip
    wanted = vote(thin, steps, ballots, settings)
    weighed = found[:, 0] != np.round(found[:, 0])
    assert weighed.any()
    assert np.moveaxis(found, 1, -1)[weighed] == pytest.approx(np.moveaxis(wanted, 1, -1)[weighed], abs=2e-5)
    assert (found[:, 1:].sum(axis=1)[~weighed] == wanted[:, 1:].sum(axis=1).round(4)[~weighed]).mean() > 0.95
