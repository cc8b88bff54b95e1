from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from frugalseg.data.phantom import (
    CHANNELS,
    PhantomCase,
    make_case,
    write_phantom,
)
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.threshold import threshold_baseline, threshold_oracle
from frugalseg.errors import UserError
from frugalseg.geometry import Grid, Reorder

SMALL = (40, 40, 32)


@pytest.fixture(scope="module")
def heads() -> list[PhantomCase]:
    return [make_case(0, index) for index in range(8)]


@pytest.fixture(scope="module")
def many() -> list[PhantomCase]:
    return [make_case(3, index, SMALL) for index in range(20)]


def standardised(case: PhantomCase) -> NDArray[np.float64]:
    """Return the brain's voxels as rows, a smoothed and standardised column for every channel."""
    brain = case.image[0] > 0
    smooth = [ndimage.gaussian_filter(scan.astype(np.float64), 1.0)[brain] for scan in case.image]
    return np.stack([(column - column.mean()) / column.std() for column in smooth], axis=1)


def dice(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def test_a_case_follows_from_seed_index_and_shape_alone() -> None:
    first = make_case(5, 2, SMALL)
    make_case(5, 3, SMALL)
    np.random.default_rng().random()
    again = make_case(5, 2, SMALL)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    for seed, index in ((5, 3), (6, 2), (2, 5)):
        other = make_case(seed, index, SMALL)
        assert (other.label != first.label).any()
        assert (other.image != first.image).any()


def test_the_anatomy_does_not_depend_on_the_shape() -> None:
    coarse, fine = make_case(0, 1, (32, 32, 24)).label > 0, make_case(0, 1, (64, 64, 48)).label > 0
    halved = fine.reshape(32, 2, 32, 2, 24, 2).mean(axis=(1, 3, 5)) >= 0.5
    assert dice(coarse, halved) > 0.9


def test_images_are_whole_numbers_and_zero_outside_of_the_brain(many: list[PhantomCase]) -> None:
    for image, label in many:
        assert image.shape == (4, *SMALL)
        assert image.dtype == np.float32
        assert label.shape == SMALL
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(image, np.rint(image))
        brain = image[0] > 0
        np.testing.assert_array_equal(image > 0, np.broadcast_to(brain, image.shape))
        assert image.min() == 0
        assert image.max() < 2**15
        assert 0.15 < brain.mean() < 0.4
        assert ndimage.label(brain)[1] == 1
        edges = [np.delete(brain, np.s_[1:-1], axis) for axis in range(3)]
        assert not any(edge.any() for edge in edges)
        assert not label[~brain].any()


def test_the_regions_nest_and_the_core_lies_in_edema(heads: list[PhantomCase]) -> None:
    facing_edema = []
    for _, label in heads:
        assert set(np.unique(label)) <= {0, 1, 2, 3}
        whole, core, enhancing = (np.count_nonzero(label >= value) for value in (1, 2, 3))
        assert whole > core > 0
        assert core >= enhancing
        assert ndimage.label(label > 0, np.ones((3, 3, 3)))[1] <= 10
        shell = ndimage.binary_dilation(label > 1) & (label < 2)
        facing_edema.append((label[shell] == 1).mean())
    assert np.mean(facing_edema) > 0.7


def test_one_case_in_five_has_no_enhancing_tumour_and_one_has_a_speck(many: list[PhantomCase]) -> None:
    for start in range(0, 20, 5):
        sizes = sorted(int((case.label == 3).sum()) for case in many[start : start + 5])
        assert sizes[0] == 0
        assert 0 < sizes[1] <= 40
    enhancing = [int((case.label == 3).sum()) for case in many]
    assert enhancing.count(0) == 4
    assert len({enhancing[start : start + 5].index(0) for start in range(0, 20, 5)}) > 1


def test_brightness_and_size_differ_from_case_to_case(many: list[PhantomCase]) -> None:
    for channel in range(4):
        typical = [np.median(case.image[channel][case.image[channel] > 0]) for case in many]
        assert max(typical) > 5 * min(typical)
    shares = [(case.label > 0).sum() / (case.image[0] > 0).sum() for case in many]
    assert min(shares) < 0.05
    assert max(shares) > 0.09
    assert max(shares) < 0.35


def test_the_contrasts_are_those_of_a_tumour(heads: list[PhantomCase]) -> None:
    means: dict[int, list[NDArray[np.float64]]] = {value: [] for value in (0, 1, 2, 3)}
    white = []
    for case in heads:
        values, label = standardised(case), case.label[case.image[0] > 0]
        white.append(np.percentile(values[label == 0, 1], 75))
        for value, rows in means.items():
            if (label == value).any():
                rows.append(values[label == value].mean(axis=0))
    healthy, edema, inert, enhancing = (
        dict(zip(CHANNELS, np.mean(means[v], axis=0), strict=True)) for v in (0, 1, 2, 3)
    )
    assert edema["FLAIR"] > healthy["FLAIR"] + 1
    assert edema["T2w"] > healthy["T2w"] + 0.3
    assert edema["T1w"] < np.mean(white) - 0.4
    assert inert["FLAIR"] < edema["FLAIR"] - 0.5
    assert inert["T1w"] < edema["T1w"] - 0.2
    assert enhancing["T1gd"] > edema["T1gd"] + 1
    assert enhancing["T1gd"] > healthy["T1gd"] + 0.5


def test_no_cut_through_one_channel_finds_the_tumour(heads: list[PhantomCase]) -> None:
    oracle = threshold_oracle(heads)
    assert [cut.channel for cut in oracle] == list(CHANNELS)
    assert max(cut.dice for cut in oracle) <= 0.6
    assert oracle[0].dice >= 0.3  # bad, but not noise: the scars are in FLAIR, and so is the tumour
    chosen = threshold_baseline(heads[:4], heads[4:])
    assert chosen.dice <= max(cut.dice for cut in threshold_oracle(heads[4:]))


def test_all_channels_together_find_it_better_than_one(heads: list[PhantomCase]) -> None:
    def features(case: PhantomCase) -> NDArray[np.float64]:
        values = standardised(case)
        pairs = [values[:, i] * values[:, j] for i in range(4) for j in range(i, 4)]
        return np.column_stack([np.ones(len(values)), values, *pairs])

    def truth(case: PhantomCase) -> NDArray[np.bool_]:
        return np.asarray(case.label[case.image[0] > 0] > 0)

    rows, target = np.concatenate([features(c) for c in heads[:4]]), np.concatenate([truth(c) for c in heads[:4]])
    weights = np.linalg.lstsq(rows, target.astype(np.float64), rcond=None)[0]
    together = np.mean([dice(features(case) @ weights > 0.35, truth(case)) for case in heads[4:]])
    alone = threshold_baseline(heads[:4], heads[4:]).dice
    assert together > alone + 0.08


def test_threshold_baseline_against_one_mask_after_another() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(3):
        image = rng.normal(100.0, 10.0, (4, 6, 5, 4)).astype(np.float32)
        label = (rng.random((6, 5, 4)) < 0.3).astype(np.uint8) * 2
        image[2][label > 0] -= 12.0
        image[:, 0] = 0
        pairs.append((image, label))

    def score(image: NDArray[np.float32], label: NDArray[np.uint8], channel: int, below: bool, cut: float) -> float:
        brain = image[channel] != 0
        values = image[channel][brain].astype(np.float64)
        level = values.mean() + cut * values.std()
        scan = image[channel].astype(np.float64)
        return dice(brain & ((scan <= level) if below else (scan > level)), label > 0)

    known, scored = pairs[:2], pairs[2:]
    cuts = np.linspace(-3.0, 5.0, 321)
    tried = [
        (float(np.mean([score(*pair, channel, below, cut) for pair in known])), channel, below, cut)
        for channel in range(4)
        for below in (False, True)
        for cut in cuts
    ]
    best = max(tried, key=lambda entry: entry[0])
    found = threshold_baseline(known, iter(scored))
    assert best[1:3] == (2, True)
    assert found[:2] == ("T1gd", "below")
    assert found.threshold == pytest.approx(best[3])
    assert found.dice == pytest.approx(score(*scored[0], 2, True, found.threshold), abs=1e-12)
    assert threshold_oracle(known)[2].dice == pytest.approx(best[0], abs=1e-12)


def test_threshold_baseline_needs_cases() -> None:
    with pytest.raises(UserError, match="at least one case"):
        threshold_baseline([], [])


@pytest.mark.parametrize(
    ("seed", "index", "shape"), [(-1, 0, SMALL), (0, -1, SMALL), (2**63, 0, SMALL), (0, 0, (64, 64, 23))]
)
def test_wrong_numbers_are_refused(seed: int, index: int, shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match="a phantom needs"):
        make_case(seed, index, shape)


def test_the_written_folder(tmp_path: Path) -> None:
    folder, seen = tmp_path / "new" / "phantom", list[int]()
    write_phantom(folder, cases=4, labelled=2, test=2, shape=SMALL, seed=7, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        ["dataset.json"]
        + [f"imagesTr/phantom_00{i}.nii.gz" for i in range(4)]
        + [f"labelsTr/phantom_00{i}.nii.gz" for i in range(2)]
        + [f"{part}/phantom_00{i}.nii.gz" for part in ("imagesTs", "labelsTs") for i in (4, 5)]
    )
    described = json.loads((folder / "dataset.json").read_text())
    assert described["training"] == [
        {"image": "./imagesTr/phantom_000.nii.gz", "label": "./labelsTr/phantom_000.nii.gz"},
        {"image": "./imagesTr/phantom_001.nii.gz", "label": "./labelsTr/phantom_001.nii.gz"},
        {"image": "./imagesTr/phantom_002.nii.gz"},
        {"image": "./imagesTr/phantom_003.nii.gz"},
    ]
    assert described["test"] == ["./imagesTs/phantom_004.nii.gz", "./imagesTs/phantom_005.nii.gz"]
    assert (described["numTraining"], described["numTest"]) == (4, 2)
    assert described["modality"] == {"0": "FLAIR", "1": "T1w", "2": "T1gd", "3": "T2w"}
    assert "made-up data" in described["licence"]
    scheme = LabelScheme.from_json(described)
    assert scheme.allowed == (0, 1, 2, 3)
    assert scheme.order == (1, 2, 3)
    assert scheme.structures == ("whole_tumour", "tumour_core", "enhancing")


def test_written_voxels_keep_their_place_in_every_orientation(tmp_path: Path) -> None:
    write_phantom(tmp_path, cases=5, labelled=5, test=0, shape=(40, 36, 32), seed=7)
    found = []
    centred = np.eye(4)
    centred[:3, 3] = [-19.5, -17.5, -15.5]
    for index in range(5):
        image = nib.load(tmp_path / f"imagesTr/phantom_00{index}.nii.gz")
        label = nib.load(tmp_path / f"labelsTr/phantom_00{index}.nii.gz")
        assert isinstance(image, nib.Nifti1Image)
        assert isinstance(label, nib.Nifti1Image)
        assert image.shape == (40, 36, 32, 4)
        assert image.affine is not None
        np.testing.assert_array_equal(image.affine, label.affine)
        grid = Grid((40, 36, 32), image.affine)
        found.append(grid.orientation)
        turn = Reorder.to_canonical(grid)
        assert turn.apply_grid(grid).difference(Grid((40, 36, 32), centred)) < 1e-6
        case = make_case(7, index, (40, 36, 32))
        scans = np.moveaxis(np.asarray(image.dataobj), -1, 0)
        np.testing.assert_array_equal(turn.apply(scans), case.image)
        np.testing.assert_array_equal(turn.apply(np.asarray(label.dataobj)), case.label)
    assert found == ["RAS", "LAS", "LPS", "RPI", "RAS"]


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_phantom(tmp_path / name, cases=1, labelled=1, test=1, shape=SMALL)
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="not an empty folder"):
            write_phantom(target, cases=1, labelled=1, test=0, shape=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(("cases", "labelled", "test"), [(2, 3, 0), (2, 0, 0), (2, 1, -1), (0, 0, 1)])
def test_counts_that_do_not_fit_are_refused(tmp_path: Path, cases: int, labelled: int, test: int) -> None:
    with pytest.raises(UserError, match="labelled <= cases"):
        write_phantom(tmp_path / "new", cases, labelled, test, SMALL)
    assert not (tmp_path / "new").exists()


def test_a_wrong_shape_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="24 voxels"):
        write_phantom(tmp_path / "new", 1, 1, 0, (8, 8, 8))
    assert not (tmp_path / "new").exists()
