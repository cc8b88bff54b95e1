"""The mended copy of a whole data set: complete, checked, made beside the original, of which no byte changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from frugalseg.data.check import check
from frugalseg.data.manifest import read_manifest
from frugalseg.data.mend import MendSettings
from frugalseg.errors import UserError
from frugalseg.jobs.mend import mend, read_remap, render_mended
from tests.data.datasets import SHAPE, change, contents, make_case, write_data_set, write_nifti


def broken(folder: Path) -> Path:
    """A data set with a label to be mended, one that cannot be, an unreadable image, and a copy of a test image."""
    write_data_set(folder, labelled=4, groups={"case_01": "p"}, numTraining=6, validation=["case_01", "case_03"])
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 0.05, 5
    write_nifti(folder / "labelsTr" / "case_00.nii.gz", make_case(0)[1], near)
    write_nifti(folder / "labelsTr" / "case_01.nii.gz", make_case(1)[1], far)
    (folder / "imagesTr" / "case_04.nii.gz").write_bytes(b"no image")
    (folder / "imagesTr" / "new.nii.gz").write_bytes((folder / "imagesTs" / "case_06.nii.gz").read_bytes())
    (folder / "labelsTs" / "case_06.nii.gz").write_bytes(b"never opened")
    (folder / "README").write_text("whose data this is")
    (folder / "labelsTs" / "unlisted.nii").write_bytes(b"a label of the past")
    return folder


def test_the_copy_is_complete_and_the_original_untouched(tmp_path: Path) -> None:
    data, out = broken(tmp_path / "data"), tmp_path / "out"
    before = contents(data)
    result = mend(data, out, MendSettings())
    assert contents(data) == before
    status = {case.case.name: case.status for case in result.cases}
    assert status == {
        "case_00": "mended",
        "case_01": "left out",
        "case_02": "unchanged",
        "case_03": "unchanged",
        "case_04": "left out",
        "case_05": "unchanged",
        "case_06": "unchanged",
        "new": "left out",
    }
    assert not result.complete
    reasons = {case.case.name: case.reasons for case in result.cases if case.reasons}
    assert "5 mm apart" in reasons["case_01"][0]
    assert "holds the same voxels as the test image case_06" in reasons["new"][0]
    manifest = read_manifest(out)
    assert [case.name for case in manifest.training] == ["case_00", "case_02", "case_03", "case_05"]
    assert [case.name for case in manifest.labelled] == ["case_00", "case_02", "case_03"]
    assert manifest.validation == ("case_03",)
    content = json.loads((out / "dataset.json").read_text())
    assert content["numTraining"] == 3
    assert content["groups"] == {}
    assert not list(out.glob("*Tr/case_01*"))
    for name in ("labelsTs/case_06.nii.gz", "labelsTs/unlisted.nii", "imagesTs/case_06.nii.gz", "README"):
        assert (out / name).samefile(data / name)
    assert result.report is not None
    assert result.report.findings == check(out).findings == ()
    text = render_mended(result, out)
    assert "4 cases unchanged, 1 mended, 3 left out" in text
    assert "mended: case_00: labelsTr/case_00.nii.gz: label and its image lie 0.05 mm apart" in text


def test_the_record_and_the_pictures(tmp_path: Path) -> None:
    mend(broken(tmp_path / "data"), tmp_path / "out", MendSettings(limit=0.06))
    record = json.loads((tmp_path / "out" / "mended.json").read_text())
    assert record["settings"]["mend_limit_mm"] == 0.06
    assert sorted(record["cases"]) == ["case_00", "case_01", "case_04", "new"]
    (done,) = record["cases"]["case_00"]["changes"]
    assert (done["file"], done["unit"]) == ("labelsTr/case_00.nii.gz", "mm")
    assert len(done["before"]) == len(done["after"]) == 64
    assert record["unchanged"] == ["case_02", "case_03", "case_05", "case_06"]
    pictures = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert pictures == [
        "case_00-after.png",
        "case_00-before.png",
        "case_01-before.png",
        "index.html",
        "new-before.png",
    ]


def test_a_test_case_never_stays_out(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    image = make_case(5)[0]
    image[0, 0, 0] = np.nan
    write_nifti(data / "imagesTs" / "case_05.nii.gz", image)
    result = mend(data, tmp_path / "one", MendSettings())
    assert [case.status for case in result.cases if case.role == "test"] == ["unchanged"]
    assert result.complete
    assert (tmp_path / "one" / "imagesTs" / "case_05.nii.gz").samefile(data / "imagesTs" / "case_05.nii.gz")
    result = mend(data, tmp_path / "two", MendSettings(nan_to_zero=True))
    assert [case.status for case in result.cases if case.role == "test"] == ["mended"]
    assert (tmp_path / "two" / "labelsTs" / "case_05.nii.gz").samefile(data / "labelsTs" / "case_05.nii.gz")


def test_two_cases_with_one_label_file(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    training = [{"image": f"imagesTr/case_0{n}.nii.gz", "label": f"labelsTr/case_0{n}.nii.gz"} for n in range(3)]
    training[1]["label"] = training[0]["label"]
    change(data, training=training)
    (data / "imagesTr" / "case_01.nii.gz").write_bytes(b"no image")
    result = mend(data, tmp_path / "out", MendSettings())
    assert [case.case.name for case in result.cases if case.reasons] == ["case_01"]
    assert (tmp_path / "out" / "labelsTr" / "case_00.nii.gz").exists()


def test_without_a_training_case_there_is_nothing_to_check(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data", labelled=1, unlabelled=0)
    write_nifti(data / "labelsTr" / "case_00.nii.gz", np.full(SHAPE, 9, np.uint8))
    result = mend(data, tmp_path / "out", MendSettings(remap={7: 1}))
    assert result.report is None
    assert not result.complete
    assert "no label has the value 7" in render_mended(result, tmp_path / "out")


def test_places_that_are_refused(tmp_path: Path) -> None:
    data = write_data_set(tmp_path / "data")
    before = contents(tmp_path)
    full = tmp_path / "full"
    for out, told in ((data / "new", "lies in the data set"), (data, "lies in"), (tmp_path, "holds the data set")):
        with pytest.raises(UserError, match=told):
            mend(data, out, MendSettings())
    assert contents(tmp_path) == before
    full.mkdir()
    (full / "x").touch()
    with pytest.raises(UserError, match="not empty"):
        mend(data, full, MendSettings())
    (tmp_path / "link").symlink_to(data)
    with pytest.raises(UserError, match="lies in the data set"):
        mend(data, tmp_path / "link" / "new", MendSettings())


def test_pairs_of_values() -> None:
    assert read_remap(["255=1", "-3=0"]) == {255: 1, -3: 0}
    for words in (["255"], ["255=a"], ["1.5=1"], ["2=1", "2=0"]):
        with pytest.raises(UserError, match="--remap"):
            read_remap(words)


@pytest.mark.parametrize("listed", [False, True])
def test_a_copy_of_an_nnu_net_data_set_can_be_used(tmp_path: Path, listed: bool) -> None:
    """A broken image without a label is no labelled case less, and what lists cases by name loses its entry."""
    data, out = tmp_path / "data", tmp_path / "out"
    for number in range(4):
        image, label = make_case(number)
        labelled = number < 3
        folder = "imagesTr" if labelled else "imagesUn"
        write_nifti(data / folder / f"case_{number}_0000.nii.gz", image)
        if labelled:
            write_nifti(data / "labelsTr" / f"case_{number}.nii.gz", label)
    facts = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "box": 1}, "numTraining": 3,
             "file_ending": ".nii.gz"}  # fmt: skip
    gone = "case_2" if listed else "case_3"
    if listed:
        facts["dataset"] = {
            f"case_{number}": {
                "images": [f"imagesTr/case_{number}_0000.nii.gz"],
                "label": f"labelsTr/case_{number}.nii.gz",
            }
            for number in range(3)
        }
    (data / "dataset.json").write_text(json.dumps(facts))
    next(data.rglob(f"{gone}_0000.nii.gz")).write_bytes(b"no image")
    result = mend(data, out, MendSettings())
    assert [case.case.name for case in result.cases if case.status == "left out"] == [gone]
    manifest = read_manifest(out)
    assert len(manifest.labelled) == (2 if listed else 3)
    assert gone not in [case.name for case in manifest.training]
