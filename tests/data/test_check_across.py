"""What only shows over all cases: structures, outliers, patients; each once, and nothing of sound data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from frugalseg.data.check import CheckReport, check
from tests.data.datasets import SHAPE, change, make_case, write_data_set, write_nifti

TWO = {"0": "background", "1": "box", "2": "ball"}


def told(report: CheckReport) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.kind, finding.case) for finding in report.findings]


def with_ball(folder: Path, *cases: int) -> None:
    for index in cases:
        label = make_case(index)[1]
        label[3:6, 4:6, 2:4] = 2
        write_nifti(folder / "labelsTr" / f"case_{index:02d}.nii.gz", label)


def test_presence_of_structures(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labels=TWO)
    assert told(check(folder)) == [("error", "structure-absent", "")]
    with_ball(folder, 1)
    report = check(folder)
    assert told(report) == [("warning", "structure-rare", "")]
    assert report.findings[0].found == "'ball' occurs in only one of 3 labels"
    with_ball(folder, 0)
    report = check(folder)
    assert told(report) == [("note", "structure-missing", "")]
    assert report.findings[0].found == "'ball' is absent from 1 of 3 labels (case_02)"
    with_ball(folder, 2)
    assert told(check(folder)) == []


def test_one_label_alone_says_nothing_of_rarity(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labelled=1, labels=TWO)
    with_ball(folder, 0)
    assert told(check(folder)) == []


def test_a_spacing_that_stands_out_is_told_by_its_direction(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    file = folder / "imagesTr" / "case_03.nii.gz"
    for factor, kinds in ((1.99, []), (2.01, ["spacing-outlier"]), (0.49, ["spacing-outlier"])):
        write_nifti(file, make_case(3)[0], np.diag([1.0, 1.0, factor, 1.0]))
        report = check(folder)
        assert [finding.kind for finding in report.findings] == kinds
    assert report.findings[0].case == "case_03"
    assert report.findings[0].found == "its voxels measure 0.49 mm upwards, the median is 1 mm"


def test_an_extent_that_stands_out_is_a_note(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    image = np.random.default_rng(0).normal(100, 9, (10, 26, 8)).astype(np.float32)
    write_nifti(folder / "imagesTr" / "case_03.nii.gz", image)
    report = check(folder)
    assert told(report) == [("note", "size-outlier", "case_03")]
    assert report.findings[0].found == "its image measures 26 mm to the front, the median is 12 mm"


def test_axes_in_another_order_are_no_outliers(tmp_path: Path) -> None:
    """Thick slices are measured along the patient: a sagittal file among axial ones has the same spacing."""
    affine = np.diag([0.8, 0.8, 3.0, 1.0])
    folder = write_data_set(tmp_path, affine=affine)
    turned = affine[:, [2, 0, 1, 3]]
    write_nifti(folder / "imagesTr" / "case_03.nii.gz", np.moveaxis(make_case(3)[0], 2, 0), turned)
    assert told(check(folder)) == [("note", "orientations", "")]


def test_two_cases_have_no_outlier(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labelled=1, unlabelled=1, test=0)
    write_nifti(folder / "imagesTr" / "case_01.nii.gz", make_case(1)[0], np.diag([1.0, 1.0, 9.0, 1.0]))
    assert told(check(folder)) == []


def test_a_patient_in_two_roles(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, groups={"case_01": "p", "case_05": "p"})
    report = check(folder)
    assert told(report) == [("warning", "patient-roles", "")]
    assert report.findings[0].found == "patient 'p' is in training (case_01) and in test (case_05)"
    change(folder, groups={"case_01": "p", "case_02": "p"})
    assert told(check(folder)) == []
    change(folder, validation=["case_02"])
    assert check(folder).findings[0].found == "patient 'p' is in training (case_01) and in validation (case_02)"


def test_structures_at_the_border_and_specks_are_counted_over_the_labels(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    label = np.zeros(SHAPE, np.uint8)
    label[0:2, 3:7, 2:6] = 1
    write_nifti(folder / "labelsTr" / "case_01.nii.gz", label)
    report = check(folder)
    assert told(report) == [("note", "border", "")]
    assert "'box' in 1 of 3 labels (most: 16 voxels in case_01)" in report.findings[0].found
    label[:5], label[6:9:2, 1::2, 1::2] = 1, 1  # 480 voxels, and 2 x 6 x 4 single ones
    write_nifti(folder / "labelsTr" / "case_02.nii.gz", label)
    (finding,) = (finding for finding in check(folder).findings if finding.kind == "specks")
    assert "'box' in 1 of 3 labels (most: 48 specks in case_02)" in finding.found
