"""Samples of cases that are known in part: weights, flags and the voxels that crops are centred on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalseg.data.augment import OFF, STRONG, AugmentSettings, resample
from frugalseg.data.manifest import Manifest, read_manifest
from frugalseg.data.moved import moved
from frugalseg.data.patches import Samples, SamplingSettings
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import StoredCase
from tests.data.datasets import SHAPE, change, write_data_set, write_nifti

LABELS = {"0": "background", "5": "left", "9": "right"}
REGIONS = {"both": [5, 9], "right": [9]}
IGNORE = 200


def write(folder: Path, **extra: Any) -> Manifest:
    """Write three labelled cases: two boxes of 3 x 3 x 3 voxels, and a slab that nothing is known of."""
    write_data_set(folder, labels=LABELS, **extra)
    for index in range(3):
        label = np.zeros(SHAPE, np.uint8)
        label[1:4, 2:5, 2:5], label[6:9, 7:10, 2:5] = 5, 9
        if "ignore" in extra:
            label[:, :, 6:] = IGNORE
        write_nifti(folder / "labelsTr" / f"case_{index:02d}.nii.gz", label)
    return read_manifest(folder)


def stored(manifest: Manifest, store: Path) -> list[StoredCase]:
    names = {case.name for case in manifest.labelled}
    return prepare(manifest, manifest.training, names, store, Preparation(), 1)


def samples(
    manifest: Manifest, cases: list[StoredCase], augmentation: AugmentSettings = OFF, **sampling: Any
) -> Samples:
    chosen = SamplingSettings.model_validate({"labelled": 1, "unlabelled": 1, **sampling})
    scheme = manifest.scheme
    return Samples(cases, 3, (10, 12, 8), scheme.groups, scheme.classes, chosen, augmentation, (0, 1, 2), seed=3)


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_voxels_weigh_nothing_and_are_no_target(tmp_path: Path, regions: bool) -> None:
    manifest = write(tmp_path / "d", ignore=IGNORE, **({"regions": REGIONS} if regions else {}))
    source = samples(manifest, stored(manifest, tmp_path / "s"))
    for number in range(0, 6, 2):
        sample = source[number]
        assert sample.weight.shape == (1, *SHAPE)
        assert sample.weight[:, :, :, :6].all()
        assert not sample.weight[:, :, :, 6:].any()
        assert sample.target.max() == manifest.scheme.classes - 1
        assert sample.annotated is None
    unlabelled = source[1]
    assert unlabelled.weight.sum() == unlabelled.target.sum() == 0


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_voxels_move_with_the_image(tmp_path: Path, regions: bool) -> None:
    """A slab, once ignored and once a structure: what is ignored goes where the structure goes."""
    manifest = write(tmp_path / "a", ignore=IGNORE, **({"regions": REGIONS} if regions else {}))
    named: dict[str, Any] = {"labels": {**LABELS, "200": "slab"}, "ignore": None}
    if regions:
        named |= {"regions": {**REGIONS, "slab": [200]}, "regions_class_order": [5, 9, 200]}
    write(tmp_path / "b", ignore=IGNORE)
    change(tmp_path / "b", **named)
    as_structure = read_manifest(tmp_path / "b")
    moving = OFF.model_copy(update={"mirror": 0.5, "rotate": 1.0, "scale": 1.0})
    source = samples(manifest, stored(manifest, tmp_path / "s"), moving, foreground=0.0)
    other = samples(as_structure, stored(as_structure, tmp_path / "s"), moving, foreground=0.0)
    share = []
    for number in range(0, 24, 2):
        sample, whole = source[number], other[number]
        slab = (whole.target[2] == 1) if regions else (whole.target[0] == 3)
        inside = whole.weight[0] > 0
        unknown = inside & (sample.weight[0] == 0)
        assert (unknown != (slab & inside)).mean() < 0.005
        known = sample.weight[0] > 0
        assert (sample.target[:2, known] != whole.target[: len(sample.target), known]).mean() < 0.005
        assert not sample.target[:, ~known].any()
        share.append(unknown.sum() / inside.sum())
    assert 0.1 < np.mean(share) < 0.4  # a quarter of the image


def test_votes_by_hand() -> None:
    """Four voxels around a point: a structure, background, and two that nothing is known of."""
    label = np.array([[1, 0], [255, 255]], np.uint8).reshape(1, 2, 2, 1)
    inside = np.ones((1, 2, 2, 1), np.bool_)
    # The new voxels lie at 0.45 and 0.55 of the way from the first to the second voxel, along both axes.
    nearer = np.diag([0.1, 0.1, 1.0])
    image = np.zeros((1, 2, 2, 1), np.float32)
    _, found, _ = moved(image, label, inside, lambda box: resample(box, nearer, (2, 2, 1)), 1, 3)
    assert found is not None
    # Ignored 0.45 of the first row, 0.55 of the second. Of the known the nearer one wins, though it is only 0.3025
    # of all: what is not known does not vote for the background.
    assert found[0, :, :, 0].tolist() == [[1, 0], [255, 255]]


def test_without_ignored_voxels_nothing_changes(tmp_path: Path) -> None:
    """The value is declared, but occurs in no label: the same samples to the last bit."""
    manifest = write(tmp_path / "d")
    plain = samples(manifest, stored(manifest, tmp_path / "s"), STRONG)
    change(tmp_path / "d", ignore=IGNORE)
    manifest = read_manifest(tmp_path / "d")
    declared = samples(manifest, stored(manifest, tmp_path / "s"), STRONG)
    for number in range(12):
        a, b = plain[number], declared[number]
        for one, two in ((a.image, b.image), (a.target, b.target), (a.weight, b.weight)):
            assert np.array_equal(one, two)


def test_a_region_that_was_not_annotated_weighs_nothing(tmp_path: Path) -> None:
    annotated = {"case_01": ["right"]}
    manifest = write(tmp_path / "d", regions=REGIONS, annotated_classes=annotated)
    source = samples(manifest, stored(manifest, tmp_path / "s"))
    seen = {}
    for number in range(6):
        sample = source[number]
        assert sample.weight.shape == (2, *SHAPE)  # all samples alike, so that they stack
        assert sample.annotated is None
        seen[source.cases[sample.case].name] = [bool(group.any()) for group in sample.weight]
    both, none = [True, True], [False, False]
    wanted = {"case_00": both, "case_01": [False, True], "case_02": both, "case_03": none, "case_04": none}
    assert seen == wanted


def test_an_exclusive_class_that_was_not_annotated_is_flagged(tmp_path: Path) -> None:
    manifest = write(tmp_path / "d", annotated_classes={"case_01": ["right"], "case_02": ["left"]})
    source = samples(manifest, stored(manifest, tmp_path / "s"))
    seen = {}
    for number in range(6):
        sample = source[number]
        assert sample.weight.shape == (1, *SHAPE)
        assert sample.annotated is not None
        seen[source.cases[sample.case].name] = sample.annotated.tolist()
    assert seen["case_00"] == [1, 1, 1]
    assert seen["case_01"] == [1, 0, 1]
    assert seen["case_02"] == [1, 1, 0]
    assert seen["case_03"] == seen["case_04"] == [1, 0, 0]


@pytest.mark.parametrize("regions", [False, True])
def test_crops_are_centred_on_annotated_structures_only(tmp_path: Path, regions: bool) -> None:
    extra = {"regions": REGIONS} if regions else {}
    manifest = write(tmp_path / "d", annotated_classes={f"case_{i:02d}": ["right"] for i in range(3)}, **extra)
    cases = stored(manifest, tmp_path / "s")
    sampling = SamplingSettings(labelled=1, unlabelled=0, foreground=1.0)
    scheme = manifest.scheme

    def hits(some: list[StoredCase]) -> set[bool]:
        source = Samples(some, 3, (2, 2, 2), scheme.groups, scheme.classes, sampling, OFF, (), 0)
        # The right box begins at voxel 6 of the first axis; a target of it there is class 2, or the second region.
        group, index = (1, 1) if regions else (0, 2)
        return {bool((source[number].target[group] == index).any()) for number in range(40)}

    assert hits(cases) == {True}
    assert hits([replace(case, annotated=None) for case in cases]) == {True, False}


def test_what_was_annotated_may_change_without_a_new_preparation(tmp_path: Path) -> None:
    before = stored(write(tmp_path / "d"), tmp_path / "s")
    files = sorted((tmp_path / "s").iterdir())
    change(tmp_path / "d", annotated_classes={"case_01": ["left"]})
    after = stored(read_manifest(tmp_path / "d"), tmp_path / "s")
    assert sorted((tmp_path / "s").iterdir()) == files
    assert [case.annotated for case in after] == [None, (True, False), None, None, None]
    assert [case.in_part for case in after] == [False, True, False, False, False]
    # A run records the keys: one that goes on with other annotations is another run.
    assert [a.key == b.key for a, b in zip(before, after, strict=True)] == [True, False, True, True, True]
