"""Copies are found by their voxels, across roles and within a case, and told once for each pair."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from frugalseg.data.check import CheckReport, check
from frugalseg.geometry import Grid, Reorder
from tests.data.datasets import SHAPE, change, make_case, write_data_set, write_nifti

CHANNELS = {"0": "T1", "1": "T2"}


def told(report: CheckReport) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.kind, finding.case) for finding in report.findings]


def save_again(source: Path, target: Path) -> None:
    """Write the same voxels otherwise: as float64, axes turned, without compression."""
    image = nib.load(source)
    assert isinstance(image, nib.Nifti1Image)
    turn = Reorder((1, 2, 0), (0,))
    array = turn.apply(np.asarray(image.dataobj))
    affine = turn.apply_grid(Grid(SHAPE, np.asarray(image.affine))).affine
    write_nifti(target, np.ascontiguousarray(array).astype(np.float64), affine)


@pytest.mark.parametrize("again", [False, True])
def test_a_test_image_in_training_is_an_error(tmp_path: Path, again: bool) -> None:
    folder = write_data_set(tmp_path)
    source, target = folder / "imagesTs" / "case_05.nii.gz", folder / "imagesTr" / "new.nii"
    if again:
        save_again(source, target)
    else:
        target.write_bytes(gzip.decompress(source.read_bytes()))
    report = check(folder)
    assert ("error", "copy-of-test", "new") in told(report)
    assert [finding.kind for finding in report.findings].count("copy-of-test") == 1
    assert report.findings[0].file == "imagesTr/new.nii"
    assert report.findings[0].found == "holds the same voxels as the test image case_05"
    assert not report.can_train


def test_a_copy_within_training_is_a_warning_that_names_the_pair(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    save_again(folder / "imagesTr" / "case_01.nii.gz", folder / "imagesTr" / "case_99.nii")
    report = check(folder)
    assert told(report)[0] == ("warning", "copy", "case_99")
    assert report.findings[0].found == "holds the same voxels as case_01 (labelled)"
    assert report.can_train


def test_a_test_image_twice_is_a_warning(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, test=2)
    (folder / "imagesTs" / "case_06.nii.gz").write_bytes((folder / "imagesTs" / "case_05.nii.gz").read_bytes())
    assert told(check(folder)) == [("warning", "copy", "case_06")]


def test_a_shared_channel_is_found_and_counted(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, modality=CHANNELS)
    for index in range(6):
        part = "Ts" if index == 5 else "Tr"
        both = [make_case(index)[0], make_case(index + 100)[0]]
        if index == 4:
            both[1] = make_case(5)[0]  # the test image's first channel
        write_nifti(folder / f"images{part}" / f"case_{index:02d}.nii.gz", np.stack(both, axis=3))
    report = check(folder)
    assert told(report) == [("error", "copy-of-test", "case_04")]
    assert report.findings[0].found == "holds the same voxels as the test image case_05 in 1 of 2 channels"


def test_equal_channels_of_one_case_are_told_unless_they_are_constant(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labelled=1, unlabelled=1, test=0, modality=CHANNELS)
    image = make_case(0)[0]
    write_nifti(folder / "imagesTr" / "case_00.nii.gz", np.stack([image, image], axis=3))
    zeros = np.zeros(SHAPE, np.float32)
    write_nifti(folder / "imagesTr" / "case_01.nii.gz", np.stack([zeros, zeros], axis=3))
    report = check(folder)
    found = [finding for finding in report.findings if finding.kind != "constant"]
    assert [(finding.kind, finding.case) for finding in found] == [("same-channels", "case_00")]
    assert found[0].found == "channel 0 (T1) and channel 1 (T2) hold the same voxels"


def test_one_label_on_two_images_is_told_and_empty_ones_are_not(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    (folder / "labelsTr" / "case_02.nii.gz").write_bytes((folder / "labelsTr" / "case_00.nii.gz").read_bytes())
    report = check(folder)
    assert told(report) == [("warning", "same-label", "case_02")]
    assert report.findings[0].file == "labelsTr/case_02.nii.gz"
    for index in range(2):
        write_nifti(folder / "labelsTr" / f"case_{index:02d}.nii.gz", np.zeros(SHAPE, np.uint8))
    assert {kind for _, kind, _ in told(check(folder))} == {"label-empty", "structure-rare"}


def test_a_copied_test_label_is_found_next_to_a_copied_image(tmp_path: Path) -> None:
    """The lock stops at the first copy that it meets; the check names every one."""
    folder = write_data_set(tmp_path)
    (folder / "imagesTr" / "new.nii.gz").write_bytes((folder / "imagesTs" / "case_05.nii.gz").read_bytes())
    (folder / "labelsTr" / "case_01.nii.gz").write_bytes((folder / "labelsTs" / "case_05.nii.gz").read_bytes())
    found = [finding for finding in check(folder).findings if finding.kind == "copy-of-test"]
    assert sorted((finding.case, finding.file) for finding in found) == [
        ("case_01", "labelsTr/case_01.nii.gz"),
        ("new", "imagesTr/new.nii.gz"),
    ]


def test_an_image_of_the_test_folder_that_dataset_json_does_not_list(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    change(folder, test=[])
    (folder / "imagesTr" / "new.nii.gz").write_bytes((folder / "imagesTs" / "case_05.nii.gz").read_bytes())
    (finding,) = check(folder).findings
    assert (finding.kind, finding.case) == ("copy-of-test", "new")
    assert finding.harm
