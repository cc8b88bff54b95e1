"""One case of several channel files, and cases of real data: what is legal raises nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from frugalseg.data.check import check, check_case
from frugalseg.data.manifest import Case, Manifest
from frugalseg.data.scheme import LabelScheme
from tests.data.datasets import make_case, write_nifti

REAL = Path(os.environ.get("FRUGALSEG_DATA") or Path(__file__).parents[3] / "shared" / "data")
SCHEME = LabelScheme.from_json({"labels": {"background": 0, "lesion": 1}})


def manifest_of(folder: Path, channels: tuple[str, ...], files: tuple[Path, ...], label: Path) -> Manifest:
    return Manifest(folder, "made", channels, SCHEME, (Case("a", files, label, "a"),), ())


def write_channels(folder: Path) -> Manifest:
    files = (folder / "a_0000.nii", folder / "a_0001.nii")
    for index, file in enumerate(files):
        write_nifti(file, make_case(index)[0])
    write_nifti(folder / "label.nii", make_case(0)[1])
    return manifest_of(folder, ("T1", "T2"), files, folder / "label.nii")


def test_channel_files_are_looked_at_one_by_one(tmp_path: Path) -> None:
    manifest = write_channels(tmp_path)
    (case,) = manifest.training
    row, found = check_case(manifest, case, "labelled")
    assert found == []
    assert (row.channels, len(row.content), len(set(row.content))) == (2, 2, 2)
    affine = np.eye(4)
    affine[2, 3] = 1.5
    write_nifti(case.images[1], np.full((10, 12, 8), 4, np.float32), affine)
    row, found = check_case(manifest, case, "labelled")
    assert [(finding.kind, finding.file) for finding in found] == [
        ("channel-grid", "a_0001.nii"),
        ("constant", "a_0001.nii"),
    ]
    assert "1.5 mm apart" in found[0].found
    assert "channel 1 (T2) is constant" in found[1].found
    assert row.voxels == {"lesion": 32}  # the label is looked at all the same
    write_nifti(case.images[1], np.stack([make_case(1)[0], make_case(2)[0]], axis=3))
    _, found = check_case(manifest, case, "labelled")
    assert [finding.kind for finding in found] == ["channels"]
    case.images[1].unlink()
    row, found = check_case(manifest, case, "labelled")
    assert [(finding.kind, finding.file) for finding in found] == [("unreadable", "a_0001.nii")]
    assert row.shape is None


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "kinds"), [("Task04_Hippocampus", []), ("Task01_BrainTumour_crops", ["border", "specks"])]
)
def test_no_false_alarm_on_real_data(name: str, kinds: list[str]) -> None:
    if not (REAL / name).exists():
        pytest.skip(f"{REAL / name} is not there")
    assert [finding.kind for finding in check(REAL / name).findings] == kinds


@pytest.mark.realdata
def test_no_false_alarm_on_a_whole_brain_with_lesions() -> None:
    folder = REAL / "ms_lesion" / "patient07"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    names = ("FLAIR", "T1", "T1POST", "T2")
    manifest = manifest_of(folder, names, tuple(folder / f"{n}.nii.gz" for n in names), folder / "label.nii.gz")
    row, found = check_case(manifest, manifest.training[0], "labelled")
    assert found == []
    assert row.voxels == {"lesion": 1300}
