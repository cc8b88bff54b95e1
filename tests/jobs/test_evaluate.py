"""What is scored of two label maps: all of it, though masks are made of the box alone in which anything is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from frugalseg.data.readers import read_label
from frugalseg.data.scheme import LabelScheme
from frugalseg.evaluation import score_case
from frugalseg.jobs import evaluate as evaluation
from frugalseg.jobs.evaluate import evaluate_case
from tests.data.datasets import write_nifti

SHAPE = (14, 12, 10)
AFFINE = np.diag([1.0, 2.0, 0.5, 1.0])
SCHEME = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 2, "rare": 5}, "ignore": 255})
REGIONS = LabelScheme.from_json(
    {"labels": {"0": "background", "1": "a", "2": "b"}, "regions": {"whole": [1, 2], "core": [2]}}
)


def drawn(seed: int, values: tuple[int, ...]) -> NDArray[np.int16]:
    """A blob of each value in the middle of the image."""
    label = np.zeros(SHAPE, np.int16)
    generator = np.random.default_rng(seed)
    label[4:11, 3:9, 2:7] = generator.choice([0, *values], size=(7, 6, 5))
    return label


@pytest.mark.parametrize("annotated", [None, ("a",)])
@pytest.mark.parametrize("truth", [(1, 2), (1, 2, 255), ()])
@pytest.mark.parametrize("guess", [(1, 2, 5), (2,), (), None])
def test_the_box_scores_as_the_whole_image(
    tmp_path: Path, truth: tuple[int, ...], guess: tuple[int, ...] | None, annotated: tuple[str, ...] | None
) -> None:
    write_nifti(tmp_path / "t.nii.gz", drawn(1, truth), AFFINE)
    prediction = None if guess is None else tmp_path / "p.nii.gz"
    if prediction is not None and guess is not None:
        write_nifti(prediction, drawn(2, guess), AFFINE)
    found = evaluate_case("c", tmp_path / "t.nii.gz", prediction, SCHEME, 1.0, annotated)
    grid, label, _ = read_label(tmp_path / "t.nii.gz", SCHEME.allowed)
    masks = {name: np.asarray(SCHEME.mask(label, name)) for name in SCHEME.structures}
    theirs = None
    if guess is not None:
        values = drawn(2, guess)
        theirs = {name: np.asarray(SCHEME.mask(values, name)) for name in SCHEME.structures}
    whole = score_case("c", masks, theirs, grid, 1.0, annotated, SCHEME.ignored(label))
    assert found == list(whole)
    if guess is None and truth:
        assert found[0].hd95_mm == pytest.approx(
            (14.0**2 + 24.0**2 + 5.0**2) ** 0.5
        )  # of the image, not of the box


def test_regions_are_scored_in_the_box_too(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t.nii.gz", drawn(1, (1, 2)))
    write_nifti(tmp_path / "p.nii.gz", drawn(2, (1, 2)))
    found = evaluate_case("c", tmp_path / "t.nii.gz", tmp_path / "p.nii.gz", REGIONS, 1.0)
    assert [row.voxels_truth for row in found] == [
        int((drawn(1, (1, 2)) > 0).sum()),
        int((drawn(1, (1, 2)) == 2).sum()),
        int((drawn(1, (1, 2)) > 0).sum()),
    ]


def test_masks_are_made_of_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def scored(name: str, masks: dict[str, NDArray[np.bool_]], *_: object) -> list[object]:
        seen.extend(mask.shape for mask in masks.values())
        return []

    monkeypatch.setattr(evaluation, "score_case", scored)
    write_nifti(tmp_path / "t.nii.gz", drawn(1, (1,)))
    evaluate_case("c", tmp_path / "t.nii.gz", tmp_path / "t.nii.gz", REGIONS, 1.0)
    assert set(seen) == {(7, 6, 5)}
