"""The largest part of a structure, by hand, and when it is worth keeping it alone."""

from __future__ import annotations

import numpy as np

from frugalseg.data.scheme import LabelScheme
from frugalseg.inference.components import keep_largest, largest_component, worth_it

CLASSES = LabelScheme.from_json({"labels": {"background": 0, "a": 1, "b": 4}})
NESTED = LabelScheme.from_json(
    {"labels": {"background": 0, "edema": 1, "core": 2}, "regions": {"whole": [1, 2], "core": [2]}}
)


def line(values: list[int]) -> np.ndarray:
    return np.array(values, np.int32).reshape(-1, 1, 1)


def test_the_larger_of_two_parts_by_hand() -> None:
    mask = line([1, 0, 1, 1, 0]) > 0
    assert largest_component(mask).ravel().tolist() == [False, False, True, True, False]


def test_diagonal_neighbours_are_connected() -> None:
    mask = np.zeros((3, 3, 3), np.bool_)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert largest_component(mask).sum() == 3


def test_nothing_and_one_part_stay_as_they_are() -> None:
    for mask in (np.zeros((4, 4, 4), np.bool_), np.ones((4, 4, 4), np.bool_)):
        np.testing.assert_array_equal(largest_component(mask), mask)


def test_only_the_named_classes_lose_parts() -> None:
    label = line([1, 0, 1, 1, 0, 4, 0, 4, 4])
    assert keep_largest(label, CLASSES, ["a"]).ravel().tolist() == [0, 0, 1, 1, 0, 4, 0, 4, 4]
    assert keep_largest(label, CLASSES, ["a", "b"]).ravel().tolist() == [0, 0, 1, 1, 0, 0, 0, 4, 4]
    assert keep_largest(label, CLASSES, []) is label


def test_a_region_takes_what_is_inside_it_along_and_not_what_is_around() -> None:
    label = line([2, 1, 0, 1, 2, 1, 2, 2, 1])
    assert keep_largest(label, NESTED, ["whole"]).ravel().tolist() == [0, 0, 0, 1, 2, 1, 2, 2, 1]
    assert keep_largest(label, NESTED, ["core"]).ravel().tolist() == [1, 1, 0, 1, 1, 1, 2, 2, 1]


def test_worth_it_by_the_mean_over_cases() -> None:
    before = {"a": [0.8, 0.6], "b": [0.9, 0.9], "c": []}
    assert worth_it(before, {"a": [0.7, 0.8], "b": [0.9, 0.9], "c": []}) == ("a",)
