"""A CSV of paths: roles, patients, what is annotated; every mistake is told with its row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from frugalseg.data.budget import make_split
from frugalseg.data.lock import test_lock as lock_test
from frugalseg.data.manifest import DataSource, read_manifest
from frugalseg.data.manifest import test_labels as labels_of_tests
from frugalseg.errors import DataError
from tests.data.layouts.sets import write_raw, write_table

HEADER = "case,image:T1w,image:FLAIR,label,group,role,annotated"
LABELS = {"background": 0, "box": 1, "ball": 2}


def row(index: int, label: bool = True, rest: str = ",,") -> str:
    part = "imagesTs" if index == 4 else "imagesTr"
    images = ",".join(f"{part}/case_{index:02d}_{channel:04d}.nrrd" for channel in range(2))
    of = ("labelsTs" if index == 4 else "labelsTr") + f"/case_{index:02d}.nrrd"
    return f"c{index},{images},{of if label else ''},{rest}"


def test_roles_patients_and_annotated_structures(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    rows = [HEADER, row(0, rest="p,train,"), row(1, rest="p,,box"), row(2, rest=",validation,"), "", row(3, False)]
    table = write_table(raw, *rows, row(4, rest=",test,"), describe={"labels": LABELS, "name": "mine"})
    manifest = read_manifest(table)
    assert manifest.name == "mine"
    assert manifest.channels == ("T1w", "FLAIR")
    assert [case.name for case in manifest.training] == ["c0", "c1", "c2", "c3"]
    assert [case.label is not None for case in manifest.training] == [True, True, True, False]
    assert [case.group for case in manifest.training] == ["p", "p", "c2", "c3"]
    assert [case.annotated for case in manifest.training] == [None, ("box",), None, None]
    assert manifest.validation == ("c2",)
    assert manifest.test[0].label is None
    assert "labelsTs" not in repr(manifest)
    assert labels_of_tests(table) == {"c4": raw / "labelsTs" / "case_04.nrrd"}
    assert make_split(manifest, 3, validation="listed").validation == ("c2",)
    assert not manifest.missing


def test_without_a_json_there_is_one_structure(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    absolute = raw / "imagesTr" / "case_00_0000.nrrd"
    table = write_table(raw, "image,label", f"\ufeff{absolute},labelsTr/case_00.nrrd".replace("\ufeff", ""))
    manifest = read_manifest(table)
    assert [case.name for case in manifest.training] == ["case_00_0000"]
    assert manifest.scheme.structures == ("foreground",)
    assert manifest.training[0].image == absolute
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as spreadsheets save it
    assert read_manifest(table) == manifest


def test_test_labels_are_locked(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    free = tmp_path / "free"
    shutil.copytree(raw / "imagesTs", free / "a")
    shutil.copytree(raw / "labelsTs", free / "b")
    test = "t,free/a/case_04_0000.nrrd,free/b/case_04.nrrd,test"
    one = "c,raw/imagesTr/case_00_0000.nrrd,{},train"
    table = write_table(tmp_path, "case,image,label,role", test, one.format("free/b/case_04.nrrd"))
    with pytest.raises(DataError, match="label of training case 'c' is the test label case_04"):
        read_manifest(table)
    shutil.copy(free / "b" / "case_04.nrrd", tmp_path / "copy.nrrd")
    write_table(tmp_path, "case,image,label,role", test, one.format("copy.nrrd"))
    with pytest.raises(DataError, match="is a copy of the test label"):
        lock_test(read_manifest(table), ["c"])
    write_table(tmp_path, "case,image,label,role", test, "c,free/a/case_04_0000.nrrd,,")
    with pytest.raises(DataError, match="is the test image"):
        read_manifest(table)


WRONG: list[tuple[list[str], str]] = [
    ([], "has no row"),
    (["case,image"], "has no row"),
    (["case;image;label", "a;b;c"], "semicolons"),
    (["case,image,lable", "a,b,c"], "unknown column 'lable'. Did you mean 'label'"),
    (["case,image,image", "a,b,c"], "column 'image' twice"),
    (["case,image,image:T1w", "a,b,c"], "needs either a column"),
    (["case,label", "a,b"], "needs either a column"),
    (["image:T1w,label", "a,b"], 'needs a column "case"'),
    (["case,image", "a,b.nii", "a,c.nii"], "row 3: case 'a' appears twice"),
    (["case,image", "a,b,c"], "row 2: has 3 fields, 2 were expected"),
    (["case,image", "a,"], "row 2: has no image; name one"),
    (["case,image:T1w,image:T2w", "a,,"], "row 2: has no image; name one"),
    (["case,image", ",b.nii"], "row 2: the case has no name"),
    (["case,image", "../a,b.nii"], r"row 2: '\.\./a' cannot name a case"),
    (["case,image,role", "a,b.nii,tests"], "row 2: there is no role 'tests'. Did you mean 'test'"),
    (["case,image,label,role", "a,b.nii,,validation"], "row 2: a case for validation needs a label"),
    (["case,image", "a," + "b" * 5000], "row 2: a field is longer"),
    (["case,image", 'a,"b'], "row 2: is not valid CSV"),
    (["case,image", "a,b\0.nii"], "zero byte"),
    (["case,image,role", "a,b.nii,test"], "names no training image"),
    (["case,image,annotated", "a,b.nii,box"], "'a', which has no label"),
]


@pytest.mark.parametrize(("rows", "message"), WRONG)
def test_mistakes(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(write_table(tmp_path, *rows))
    assert "\n" not in str(caught.value)


def test_mistakes_in_the_json(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"label": LABELS}, "key 'label', .* Did you mean 'labels'"),
        ({"name": "x"}, 'has no "labels"'),
        ({"labels": LABELS, "training": []}, "key 'training'"),
        ({"labels": LABELS, "groups": {"a": "p"}}, "'groups', and the CSV a column 'group'"),
        (
            {"labels": LABELS, "channel_names": {"0": "T2w", "1": "T1w"}},
            "names the channels T2w, T1w, and the CSV T1w",
        ),
    ]
    rows = ["case,image:T1w,image:T2w,group", "a,b.nii,c.nii,p"]
    for describe, message in wrong:
        with pytest.raises(DataError, match=message):
            read_manifest(write_table(tmp_path, *rows, describe=describe))
    (tmp_path / "cases.csv").write_bytes(b"case,image\na,\xff.nii\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_manifest(tmp_path / "cases.csv")
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(DataSource(write_table(tmp_path, *rows), describe=tmp_path / "none.json"))
