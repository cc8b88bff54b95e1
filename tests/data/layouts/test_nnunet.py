"""nnU-Net v2's raw layout: channels, labels, regions as lists; what does not fit is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from frugalseg.data.channels import read_channels
from frugalseg.data.lock import test_lock as lock_test
from frugalseg.data.manifest import read_manifest
from frugalseg.data.manifest import test_labels as labels_of_tests
from frugalseg.errors import DataError
from tests.data.datasets import change, make_case, write_data_set
from tests.data.layouts.sets import write_any, write_raw


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii", ".nii.gz"])
def test_cases_channels_and_labels(tmp_path: Path, ending: str) -> None:
    manifest = read_manifest(write_raw(tmp_path, ending=ending))
    assert manifest.channels == ("T1w", "FLAIR")
    assert [case.name for case in manifest.training] == ["case_00", "case_01", "case_02", "case_03"]
    assert [case.label is not None for case in manifest.training] == [True, True, True, False]
    assert [case.name for case in manifest.test] == ["case_04"]
    assert manifest.scheme.structures == ("box",)
    image = read_channels(manifest.training[1].images, manifest.channels, "the data set has")[1]
    expected = make_case(1)[0]
    assert np.array_equal(image, np.stack([expected, -expected]))
    assert "labelsTs" not in repr(manifest)
    assert labels_of_tests(tmp_path) == {"case_04": tmp_path / "labelsTs" / f"case_04{ending}"}


def test_images_of_imagesun_are_unlabelled(tmp_path: Path) -> None:
    folder = write_raw(tmp_path, test=0)
    for channel in range(2):
        write_any(folder / "imagesUn" / f"more_{channel:04d}.nrrd", make_case(9)[0])
    assert [case.name for case in read_manifest(folder).training if case.label is None] == ["case_03", "more"]


def test_explicit_paths(tmp_path: Path) -> None:
    folder = write_raw(tmp_path, test=0, numTraining=None)
    files = [f"imagesTr/case_00_{channel:04d}.nrrd" for channel in (1, 0)]
    change(folder, dataset={"mine": {"images": files, "label": "labelsTr/case_00.nrrd"}})
    manifest = read_manifest(folder)
    assert [case.name for case in manifest.labelled] == ["mine"]
    assert [file.name for file in manifest.labelled[0].images] == ["case_00_0001.nrrd", "case_00_0000.nrrd"]
    assert [case.name for case in manifest.training] == ["case_01", "case_02", "case_03", "mine"]
    wrong = [
        ({"mine": {"images": files[:1]}}, "gives 1 images for case 'mine', a file for each of T1w, FLAIR"),
        ({"../mine": {"images": files}}, "cannot name a case"),
        ({"mine": {"images": ["/etc/passwd", "b"]}}, "leaves the data folder"),
        ({"mine": {"images": files, "label": "../x.nrrd"}}, "leaves the data folder"),
        ({"mine": files}, 'needs "images"'),
        ([], "must be an object"),
    ]
    for listed, message in wrong:
        change(folder, dataset=listed)
        with pytest.raises(DataError, match=message):
            read_manifest(folder)


def test_regions_as_lists(tmp_path: Path) -> None:
    labels = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    folder = write_raw(tmp_path, labels=labels, regions_class_order=[1, 2, 3])
    scheme = read_manifest(folder).scheme
    assert scheme.structures == ("whole tumour", "core", "enhancing")
    assert scheme.regions == (("whole tumour", (1, 2, 3)), ("core", (2, 3)), ("enhancing", (3,)))
    assert scheme.values == (("background", 0), ("value 1", 1), ("value 2", 2), ("enhancing", 3))
    assert scheme.ignore == 4
    label = np.array([[[0, 1, 2, 3]]])
    assert np.array_equal(scheme.decode(scheme.encode(label)), label)
    change(folder, regions_class_order=[1, 2])
    with pytest.raises(DataError, match="one value for each of 3 regions"):
        read_manifest(folder)
    change(folder, regions_class_order=None, regions={"a": [1]})
    with pytest.raises(DataError, match="name them in one place"):
        read_manifest(folder)
    change(folder, regions=None, labels={"background": [0], "box": [1]})
    assert read_manifest(folder).scheme.exclusive
    change(folder, labels={"background": 0, "box": [1, "2"]})
    with pytest.raises(DataError, match="'box' must be a value or a list of values"):
        read_manifest(folder)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_manifest(folder)

    folder = write_raw(tmp_path)
    images, labels = folder / "imagesTr", folder / "labelsTr"
    (images / "case_01_0001.nrrd").rename(tmp_path / "away")
    lacking = read_manifest(folder).training[1]
    assert (lacking.name, lacking.missing, len(lacking.images)) == ("case_01", (1,), 1)
    (tmp_path / "away").rename(images / "case_01_0002.nrrd")
    refused(r"is channel 2, the last one is 1 \(FLAIR\)")
    (images / "case_01_0002.nrrd").rename(images / "case_01_0001.nrrd")
    shutil.copy(images / "case_01_0001.nrrd", images / "other.nrrd")
    refused("has no channel's number")
    (images / "other.nrrd").rename(images / "case_01_0001.nii")
    refused("ends otherwise than the \"file_ending\" '.nrrd'")
    (images / "case_01_0001.nii").unlink()
    (labels / "case_01.nrrd").rename(labels / "case_1.nrrd")
    refused("no image is called 'case_1'. Did you mean 'case_01'")
    (labels / "case_1.nrrd").unlink()
    refused('"numTraining" is 3, but 2 labelled cases were found, 4 with')
    change(folder, numTraining=4)
    assert len(read_manifest(folder).labelled) == 2
    change(folder, file_ending=".nifti")
    refused("one of .nii.gz, .nii, .nrrd, .mha was expected. Did you mean '.nii'")


def test_layouts_are_not_mixed(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for keys in ({"modality": {"0": "MRI"}}, {"training": [{"image": "imagesTr/case_00_0000.nrrd"}]}):
        content = json.loads((raw / "dataset.json").read_text())
        change(raw, **keys)
        with pytest.raises(DataError, match="is a mixture"):
            read_manifest(raw)
        (raw / "dataset.json").write_text(json.dumps(content))
    change(raw, file_ending=None)
    with pytest.raises(DataError, match='no "file_ending"'):
        read_manifest(raw)
    other = write_data_set(tmp_path / "decathlon")
    change(other, channel_names={"0": "MRI"})
    with pytest.raises(DataError, match="keep one of them"):
        read_manifest(other)
    change(other, modality=None)
    assert read_manifest(other).channels == ("MRI",)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("compressed", [True, False])
def test_copies_of_test_files_are_seen_whatever_their_header(tmp_path: Path, ending: str, compressed: bool) -> None:
    import SimpleITK as sitk

    folder = write_raw(tmp_path, ending=ending)
    lock_test(read_manifest(folder), ["case_00", "case_01", "case_02"])
    copy = sitk.ReadImage(str(folder / "labelsTs" / f"case_04{ending}"))
    sitk.WriteImage(copy, str(folder / "labelsTr" / f"case_02{ending}"), useCompression=compressed)
    lock_test(read_manifest(folder), ["case_00"])
    with pytest.raises(DataError, match="is a copy of the test label case_04"):
        lock_test(read_manifest(folder), ["case_00", "case_02"])
    (folder / "labelsTr" / f"case_02{ending}").unlink()
    (folder / "labelsTr" / f"case_02{ending}").symlink_to(folder / "labelsTs" / f"case_04{ending}")
    with pytest.raises(DataError, match="is the test label case_04"):
        read_manifest(folder)


def test_links_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    folder = write_raw(tmp_path / "data", test=0)
    (folder / "imagesTr").rename(tmp_path / "annex")
    (folder / "imagesTr").mkdir()
    for file in (tmp_path / "annex").iterdir():
        (folder / "imagesTr" / file.name).symlink_to(file)
    assert len(read_manifest(folder).training) == 4
    assert not read_manifest(folder).missing
