"""Regions as nnU-Net v2 writes them become values with names, and regions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalseg.data.region_labels import expand_regions
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError

BRATS: dict[str, Any] = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
    "regions_class_order": [1, 2, 3],
}


def test_the_example_of_nnunet() -> None:
    scheme = LabelScheme.from_json(expand_regions(BRATS, Path("d")))
    assert scheme.structures == ("whole", "core", "enhancing")
    assert scheme.predicted == (0, 1, 2, 3)
    assert scheme.ignore == 4
    label = np.array([[[0, 1, 2, 3, 4]]])
    assert [scheme.mask(label, name).ravel().astype(int).tolist() for name in scheme.structures] == [
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 0],
    ]
    assert scheme.decode(scheme.encode(label)).ravel().tolist() == [0, 1, 2, 3, 4]


def test_lists_of_one_value_are_no_regions() -> None:
    scheme = LabelScheme.from_json(expand_regions({"labels": {"background": 0, "liver": [2]}}, Path("d")))
    assert scheme.exclusive
    assert scheme.values == (("background", 0), ("liver", 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0, "a": []}}, "list of values"),
        ({"labels": {"background": 0, "a": [1, "2"]}}, "list of values"),
        ({"regions": {"b": [1]}}, "in one place"),
        ({"regions_class_order": [1, 2]}, "one value for each of 3"),
        ({"labels": {"background": 0, "value 1": [2, 1], "value 2": 3}}, "same name"),
        ({"labels": {"background": 0, "a": [1, 2], "ignore": [3, 4]}}, "has one value"),
    ],
)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        expand_regions({**BRATS, **change}, Path("d"))
