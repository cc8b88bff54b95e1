"""Which structures a case's label shows: read from dataset.json, and refused in a line where it cannot be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from frugalseg.data.manifest import read_manifest
from frugalseg.errors import DataError
from tests.data.datasets import change, write_data_set

LABELS = {"0": "background", "1": "box", "2": "Sphere", "3": "cone"}


def test_listed_cases_have_what_is_listed_and_others_everything(tmp_path: Path) -> None:
    annotated = {"case_01": ["cone", "box"], "case_02": ["cone", "Sphere", "box"], "case_05": ["Sphere"]}
    manifest = read_manifest(write_data_set(tmp_path, labels=LABELS, annotated_classes=annotated))
    found = {case.name: case.annotated for case in (*manifest.training, *manifest.test)}
    assert found["case_01"] == ("box", "cone")  # in the scheme's order
    assert found["case_05"] == ("Sphere",)  # a test case
    assert [name for name, value in found.items() if value is None] == ["case_00", "case_02", "case_03", "case_04"]
    assert manifest.scheme.flags(found["case_01"]) == (True, False, True)


def test_regions_are_named_by_their_own_names(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path, labels=LABELS, regions={"whole": [1, 2], "core": [2]})
    change(folder, annotated_classes={"case_00": ["whole"]})
    assert read_manifest(folder).training[0].annotated == ("whole",)
    change(folder, annotated_classes={"case_00": ["box"]})
    with pytest.raises(DataError, match=r"'box' is no structure of this data set \(whole, core\)"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"case_00": ["spere"]},
            r"case 'case_00': 'spere' is no structure .*\(box, Sphere, cone\).* mean 'Sphere'\?",
        ),
        ({"case_00": ["background"]}, "'background' is no structure"),
        ({"case00": ["box"]}, r"'case00', which is no case of this data set\. Did you mean 'case_00'\?"),
        ({"case_03": ["box"]}, "case 'case_03', which has no label"),
        ({"case_00": []}, "lists nothing for case 'case_00'; take its label out"),
        ({"case_00": ["box", "box"]}, "names a structure twice"),
        ({"case_00": "box"}, "must be a list of names"),
        ({"case_00": [1]}, "must be a list of names"),
        (["case_00"], r'must be an object such as \{"case_01": \["box"\]\}'),
    ],
)
def test_refused(tmp_path: Path, value: Any, message: str) -> None:
    folder = write_data_set(tmp_path, labels=LABELS, annotated_classes=value)
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(folder)
    assert caught.value.where == str(folder / "dataset.json")
