"""The test lock: every way of getting test labels or images into training that we could think of, refused."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from frugalseg.data import lock, manifest, same_content
from frugalseg.data.budget import make_split, read_names
from frugalseg.data.manifest import Manifest, read_manifest
from frugalseg.errors import DataError
from tests.data.datasets import SHAPE, change, write_nifti

HOW = ["copied", "compressed again", "not compressed", "padded with zeros", "in blocks", "in two members"]
ALL = ("case_00", "case_01", "case_02")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """3 labelled, 1 unlabelled and 2 test cases, each with a label of its own."""
    folder = tmp_path / "data"
    generator = np.random.default_rng(0)
    for index in range(6):
        part = "Ts" if index > 3 else "Tr"
        name = f"case_{index:02d}.nii.gz"
        write_nifti(folder / f"images{part}" / name, generator.normal(100, 5, SHAPE).astype(np.float32))
        if index != 3:
            write_nifti(folder / f"labels{part}" / name, (generator.random(SHAPE) > 0.5).astype(np.uint8))
    entries = [{"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"} for name in ALL]
    content = {
        "name": "tiny",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "box"},
        "training": entries,
        "test": ["imagesTs/case_04.nii.gz", "imagesTs/case_05.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def entries(data: Path) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads((data / "dataset.json").read_text())["training"]
    return listed


def look(data: Path, readable: tuple[str, ...] = ALL) -> Manifest:
    found = read_manifest(data)
    lock.test_lock(found, readable)
    return found


def test_an_honest_data_set_passes(data: Path) -> None:
    assert len(look(data).training) == 4


def test_labelled_naming_a_test_case(data: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("case_00\ncase_04\n")
    with pytest.raises(DataError, match="'case_04' is a test case, whose label no run may read"):
        make_split(read_manifest(data), named=read_names(tmp_path / "names.txt"))


def test_a_training_entry_with_a_test_label(data: Path) -> None:
    change(data, training=[*entries(data)[:2], {**entries(data)[2], "label": "labelsTs/case_04.nii.gz"}])
    with pytest.raises(DataError, match=r"label of training case 'case_02' is the test label case_04.nii.gz"):
        read_manifest(data)


@pytest.mark.parametrize("path", ["imagesTs/case_04.nii.gz", "./imagesTs/../imagesTs/case_04.nii.gz"])
def test_a_training_entry_with_a_test_image(path: str, data: Path) -> None:
    change(data, training=[*entries(data), {"image": path}], test=["imagesTs/case_05.nii.gz"])
    with pytest.raises(DataError, match=r"test image case_04|leaves the data folder"):
        read_manifest(data)


def link(kind: str, source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    if kind == "symbolic":
        target.symlink_to(source)
    elif kind == "chain":
        (target.parent.parent / "between").symlink_to(source)
        target.symlink_to(target.parent.parent / "between")
    else:
        os.link(source, target)


@pytest.mark.parametrize("kind", ["symbolic", "chain", "hard"])
def test_a_link_to_a_test_label(kind: str, data: Path) -> None:
    link(kind, data / "labelsTs" / "case_05.nii.gz", data / "labelsTr" / "case_01.nii.gz")
    with pytest.raises(DataError, match=r"label of training case 'case_01' is the test label case_05"):
        read_manifest(data)


def test_a_link_to_a_test_label_that_is_not_there_yet(data: Path) -> None:
    link("symbolic", data / "labelsTs" / "later.nii.gz", data / "labelsTr" / "case_01.nii.gz")
    with pytest.raises(DataError, match="test label"):
        read_manifest(data)


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_to_a_test_image(kind: str, data: Path) -> None:
    link(kind, data / "imagesTs" / "case_05.nii.gz", data / "imagesTr" / "new.nii.gz")
    with pytest.raises(DataError, match=r"image of training case 'new' is the test image case_05"):
        read_manifest(data)


def test_a_linked_label_folder(data: Path) -> None:
    for name in ("case_04", "case_05"):
        shutil.copy(data / "imagesTr" / "case_00.nii.gz", data / "imagesTr" / f"{name}x.nii.gz")
        os.rename(data / "labelsTs" / f"{name}.nii.gz", data / "labelsTs" / f"{name}x.nii.gz")
    (data / "gold").symlink_to(data / "labelsTs", target_is_directory=True)
    change(data, training=[{"image": "imagesTr/case_04x.nii.gz", "label": "gold/case_04x.nii.gz"}])
    with pytest.raises(DataError, match="is the test label case_04x"):
        read_manifest(data)


def test_the_test_folders_of_another_data_set(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "labelsTr").symlink_to(data / "labelsTs", target_is_directory=True)
    shutil.copytree(data / "imagesTs", other / "imagesTr")
    pair = {"image": "imagesTr/case_04.nii.gz", "label": "labelsTr/case_04.nii.gz"}
    content = json.loads((data / "dataset.json").read_text())
    (other / "dataset.json").write_text(json.dumps({**content, "training": [pair], "test": []}))
    with pytest.raises(DataError, match="label of training case 'case_04' is the test label"):
        read_manifest(other)
    (other / "labelsTr").unlink()
    shutil.copytree(data / "labelsTs", other / "labelsTr")
    shutil.rmtree(other / "imagesTr")
    (other / "imagesTr").symlink_to(data / "imagesTs", target_is_directory=True)
    with pytest.raises(DataError, match="image of training case 'case_04' is the test image"):
        read_manifest(other)


@pytest.mark.parametrize("copied", [True, False])
def test_a_test_label_that_lies_elsewhere_and_is_named(copied: bool, data: Path) -> None:
    (data / "truth").mkdir()
    os.rename(data / "labelsTs" / "case_04.nii.gz", data / "truth" / "x.nii.gz")
    label = "truth/x.nii.gz"
    if copied:
        label = "labelsTr/y.nii.gz"
        shutil.copy(data / "truth" / "x.nii.gz", data / label)
    tests = [{"image": "imagesTs/case_04.nii.gz", "label": "truth/x.nii.gz"}, "imagesTs/case_05.nii.gz"]
    change(data, training=[*entries(data)[:2], {**entries(data)[2], "label": label}], test=tests)
    with pytest.raises(DataError, match=r"is (the test label|a copy of the test label) x\.nii\.gz"):
        look(data)


def recompress(source: Path, target: Path, how: str) -> None:
    content = gzip.decompress(source.read_bytes())
    if how == "copied":
        shutil.copy(source, target)
    elif how == "padded with zeros":
        target.write_bytes(source.read_bytes() + bytes(16))
    elif how == "in blocks":  # as bgzip does: several members, the last one empty
        half = len(content) // 2
        target.write_bytes(b"".join(gzip.compress(part) for part in (content[:half], content[half:], b"")))
    elif how == "in two members":
        target.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
    elif how == "compressed again":
        target.write_bytes(gzip.compress(content, 0))
        assert target.stat().st_size != source.stat().st_size
    else:
        target.with_suffix("").write_bytes(content)


@pytest.mark.parametrize("how", HOW)
def test_a_copy_of_a_test_label_under_another_name(how: str, data: Path) -> None:
    target = data / "labelsTr" / "renamed.nii.gz"
    recompress(data / "labelsTs" / "case_04.nii.gz", target, how)
    name = "renamed.nii" if how == "not compressed" else "renamed.nii.gz"
    change(data, training=[*entries(data)[:2], {**entries(data)[2], "label": f"labelsTr/{name}"}])
    with pytest.raises(DataError, match=r"renamed.nii.*is a copy of the test label case_04"):
        look(data)
    assert look(data, ALL[:2]), "a label that the run does not read is not looked at"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("listed", [True, False])
def test_a_copy_of_a_test_image_among_the_training_images(how: str, listed: bool, data: Path) -> None:
    recompress(data / "imagesTs" / "case_05.nii.gz", data / "imagesTr" / "new.nii.gz", how)
    if not listed:
        change(data, test=["imagesTs/case_04.nii.gz"])  # it lies in imagesTs all the same
    with pytest.raises(DataError, match="is a copy of the test image case_05"):
        look(data)


def test_validation_naming_a_test_case(data: Path) -> None:
    change(data, validation=["case_04"])
    with pytest.raises(DataError, match="validation names the test case 'case_04'"):
        read_manifest(data)


def test_empty_labels_are_alike_and_no_copies(data: Path) -> None:
    for path in (data / "labelsTs" / "case_04.nii.gz", data / "labelsTr" / "case_00.nii.gz"):
        write_nifti(path, np.zeros(SHAPE, np.uint8))
    assert look(data)


def test_transductive_takes_test_images_without_labels_and_nothing_else(data: Path) -> None:
    found = manifest.with_test_images(read_manifest(data))
    lock.test_lock(found, ALL)
    split = make_split(found, 3)
    assert split.transductive
    assert set(split.unlabelled) == {"case_03", "case_04", "case_05"}
    assert "transductive" in split.rule
    assert all(case.label is None for case in found.training if case.name in ("case_04", "case_05"))
    assert not make_split(read_manifest(data), 3).transductive
    shutil.copy(data / "imagesTs" / "case_04.nii.gz", data / "imagesTr" / "case_02.nii.gz")
    with pytest.raises(DataError, match="is a copy of the test image case_04"):
        lock.test_lock(manifest.with_test_images(read_manifest(data)), ALL)


def test_test_labels_are_not_decoded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    original = nib.load

    def load(path: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(nib, "load", load)
    shutil.copy(data / "labelsTs" / "case_04.nii.gz", data / "labelsTr" / "case_00.nii.gz")
    with pytest.raises(DataError):
        look(data)
    assert opened
    assert not [path for path in opened if "labelsTs" in path]


def test_only_ends_of_files_are_read_where_sizes_differ(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(same_content, "_digest", lambda path: hashed.append(path))
    monkeypatch.setattr(same_content, "_streamed", lambda path: hashed.append(path))
    look(data)
    assert hashed == []


def test_only_evaluate_asks_where_the_test_labels_are() -> None:
    source = Path(lock.__file__).parents[1]
    users = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if "test_label" in path.read_text() or "labelsTs" in path.read_text()
    }
    # demo scores a threshold on data that it made itself; phantom and split write them; a CSV's are in its rows;
    # study hashes them to tell tables of other labels; mend_set links the files into its copy and opens none.
    assert users == {
        "data/layouts/table.py",
        "data/lock.py",
        "data/manifest.py",
        "data/mend_set.py",
        "data/phantom.py",
        "jobs/demo.py",
        "jobs/evaluate.py",
        "jobs/split.py",
        "study/run.py",
    }
    askers = {path.name for path in source.rglob("*.py") if "test_label_paths" in path.read_text()}
    assert askers == {"table.py", "lock.py", "manifest.py"}
