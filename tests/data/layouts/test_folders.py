"""A folder of images and one of label maps, as they are named on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frugalseg.data.manifest import DataSource, Manifest, read_manifest
from frugalseg.errors import DataError
from tests.data.datasets import make_case, write_data_set
from tests.data.layouts.sets import write_any, write_raw


def read(images: Path, labels: Path, describe: Path | None = None) -> Manifest:
    return read_manifest(DataSource(images, labels, describe))


def test_whole_images(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, test=0)
    manifest = read(folder / "imagesTr", folder / "labelsTr")
    assert [case.name for case in manifest.training] == [f"case_{index:02d}" for index in range(5)]
    assert len(manifest.labelled) == 3
    assert manifest.channels == ("image",)
    assert manifest.scheme.structures == ("foreground",)


def test_a_file_a_channel_and_a_description(tmp_path: Path) -> None:
    folder = write_raw(tmp_path, test=0)
    assert read(folder / "imagesTr", folder / "labelsTr").channels == ("channel 0", "channel 1")
    describe = tmp_path / "d.json"
    names = {"0": "T1w", "1": "FLAIR"}
    describe.write_text(json.dumps({"labels": {"background": 0, "box": 1}, "channel_names": names}))
    manifest = read(folder / "imagesTr", folder / "labelsTr", describe)
    assert manifest.channels == ("T1w", "FLAIR")
    assert [case.name for case in manifest.training] == ["case_00", "case_01", "case_02", "case_03"]
    assert manifest.scheme.structures == ("box",)
    (folder / "imagesTr" / "case_01_0000.nrrd").unlink()
    lacking = read(folder / "imagesTr", folder / "labelsTr", describe).training[1]
    assert (lacking.name, lacking.missing, len(lacking.images)) == ("case_01", (0,), 1)


def test_numbers_that_are_no_channels(tmp_path: Path) -> None:
    for index in (1, 2):
        image, label = make_case(index)
        write_any(tmp_path / "i" / f"h_{index:04d}.mha", image)
        write_any(tmp_path / "l" / f"h_{index:04d}.mha", label)
    assert len(read(tmp_path / "i", tmp_path / "l").labelled) == 2
    write_any(tmp_path / "i" / "h_0000.mha", make_case(0)[0])
    write_any(tmp_path / "l" / "h_0000.mha", make_case(0)[1])
    assert [case.name for case in read(tmp_path / "i", tmp_path / "l").labelled] == ["h_0000", "h_0001", "h_0002"]
    (tmp_path / "l" / "h_0000.mha").unlink()  # now they may be channels
    with pytest.raises(DataError, match="no image is called 'h_0001'"):
        read(tmp_path / "i", tmp_path / "l")
    describe = tmp_path / "d.json"
    describe.write_text(json.dumps({"labels": {"background": 0, "box": 1}, "channel_names": {"0": "MRI"}}))
    assert len(read(tmp_path / "i", tmp_path / "l", describe).training) == 3


def test_refused(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        read(tmp_path / "empty", folder / "labelsTr")
    with pytest.raises(DataError, match="is not a folder"):
        read(folder / "imagesTr", tmp_path / "none")
    with pytest.raises(DataError, match="take --label-maps away"):
        read(folder, folder / "labelsTr")
    with pytest.raises(DataError, match="take --describe away"):
        read_manifest(DataSource(folder, describe=folder / "dataset.json"))
    with pytest.raises(DataError, match="is the test image"):
        read(folder / "imagesTs", tmp_path / "empty")
    (folder / "labelsTr" / "case_00.nii.gz").rename(folder / "labelsTr" / "case_0.nii.gz")
    with pytest.raises(DataError, match="no image is called 'case_0'"):
        read(folder / "imagesTr", folder / "labelsTr")
