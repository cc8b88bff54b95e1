"""Manifest, label scheme and budget: who is labelled, who is not, and which labels a run may read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from frugalseg.data.budget import Split, make_split
from frugalseg.data.manifest import read_manifest, require_files
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object, write_json
from tests.data.datasets import write_data_set


def edit(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, **changes}))


def test_unlisted_images_are_unlabelled_and_test_labels_are_unknown(tmp_path: Path) -> None:
    manifest = read_manifest(write_data_set(tmp_path))
    assert [case.label is not None for case in manifest.training] == [True] * 3 + [False] * 2
    assert [case.name for case in manifest.test] == ["case_05"]
    assert "labelsTs" not in repr(manifest)


def test_refused(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path)
    good = json.loads((folder / "dataset.json").read_text())["training"]
    cases: list[tuple[dict[str, object], str]] = [
        ({"training": [{"image": "../x.nii.gz"}]}, "leaves the data folder"),
        ({"training": [*good, good[0]]}, "appears twice"),
        ({"training": [3]}, 'has no "image"'),
        ({"test": [good[0]["image"]]}, "both a training and a test case"),
        ({"labels": {"0": "background"}}, "no structure"),
        ({"labels": {"1": "a", "2": "b"}}, "0 \\(background\\)"),
        ({"modality": {"1": "MRI"}}, "number its channels"),
        ({"groups": {"nobody": "p"}}, "no case"),
    ]
    for changes, message in cases:
        write_data_set(tmp_path)
        edit(folder, **changes)
        with pytest.raises(DataError, match=message):
            read_manifest(folder)
    write_data_set(tmp_path)
    (folder / "labelsTr" / "case_01.nii.gz").unlink()
    with pytest.raises(DataError, match="case_01"):
        require_files(read_manifest(folder))


def test_budgets_nest_and_depend_on_the_seed(tmp_path: Path) -> None:
    manifest = read_manifest(write_data_set(tmp_path, labelled=12))
    three, six, twelve = (set(make_split(manifest, n, 4).labelled) for n in (3, 6, 12))
    assert three < six < twelve
    assert len({make_split(manifest, 3, seed).labelled for seed in range(8)}) > 4
    split = make_split(manifest, 3, 4)
    assert set(split.unlabelled) == {case.name for case in manifest.training} - three
    held = make_split(manifest, 6, 4, validation=2)
    assert set(held.labelled) | set(held.validation) == six
    assert held.readable == six


def test_patients_are_not_split(tmp_path: Path) -> None:
    groups = {f"case_{i:02d}": f"p{i // 3}" for i in range(6)}
    manifest = read_manifest(write_data_set(tmp_path, labelled=6, groups=groups))
    split = make_split(manifest, 3, 0)
    assert len({groups[name] for name in split.labelled}) == 1
    with pytest.raises(UserError, match="choose 3 or 6"):
        make_split(manifest, 4, 0)
    with pytest.raises(UserError, match="choose 1 to 6"):
        make_split(manifest, 0, 0)


def test_validation_cases_are_part_of_the_budget(tmp_path: Path) -> None:
    listed = ["case_01", "case_04"]
    manifest = read_manifest(write_data_set(tmp_path, labelled=6, unlabelled=1, validation=listed))
    without = make_split(manifest, 3, 0)
    assert without.validation == ()
    assert set(listed) <= set(without.unlabelled)
    split = make_split(manifest, 5, 0, validation="listed")
    assert split.validation == tuple(listed)
    assert len(split.labelled) == 3
    assert set(split.labelled) == set(without.labelled)
    assert len(split.readable) == 5
    for budget in (2, 7):
        with pytest.raises(UserError, match="2 of them for validation; choose 3 to 6"):
            make_split(manifest, budget, 0, validation="listed")
    with pytest.raises(UserError, match="3 validation cases out of a budget of 3"):
        make_split(manifest, 3, 0, validation=3)
    with pytest.raises(DataError, match="lists no cases"):
        make_split(read_manifest(write_data_set(tmp_path / "other")), 3, 0, validation="listed")


def test_validation_does_not_split_a_patient(tmp_path: Path) -> None:
    groups = {f"case_{i:02d}": f"p{i // 3}" for i in range(6)}
    manifest = read_manifest(write_data_set(tmp_path, labelled=6, groups=groups))
    assert len({groups[name] for name in make_split(manifest, 6, 0, validation=3).validation}) == 1
    with pytest.raises(UserError, match="would split patient"):
        make_split(manifest, 6, 0, validation=2)


def test_named_cases_and_a_changed_split_file(tmp_path: Path) -> None:
    manifest = read_manifest(write_data_set(tmp_path / "d"))
    split = make_split(manifest, named=["case_02"])
    assert split.labelled == ("case_02",)
    with pytest.raises(DataError, match="Did you mean 'case_02'"):
        make_split(manifest, named=["case_2"])
    path = tmp_path / "split.json"
    write_json(path, split.to_json())
    assert Split.from_json(read_json_object(path), path) == split
    path.write_text(path.read_text().replace('"case_02"', '"case_01"'))
    with pytest.raises(DataError, match="does not have the hash"):
        Split.from_json(read_json_object(path), path)


def test_a_structure_that_no_chosen_case_has_annotated_is_refused(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "box", "2": "ball"}
    part = {f"case_{i:02d}": ["box"] for i in range(5)}
    manifest = read_manifest(write_data_set(tmp_path, labelled=6, labels=labels, annotated_classes=part))
    assert len(make_split(manifest).labelled) == 6
    with pytest.raises(UserError, match=r"'ball' was annotated in none of the 2 cases .* or one of case_05"):
        make_split(manifest, named=["case_00", "case_01"])
    # Validation does not teach it either.
    with pytest.raises(UserError, match="'ball' was annotated in none of the 1 cases"):
        make_split(manifest, named=["case_00", "case_05"], validation=1)
    assert make_split(manifest, named=["case_05", "case_00"], validation=1).labelled == ("case_05",)
    edit(tmp_path, annotated_classes={**part, "case_05": ["box"]})
    with pytest.raises(UserError, match=r"'ball' was annotated in none of the 6 .* take it out of the labels"):
        make_split(read_manifest(tmp_path))
