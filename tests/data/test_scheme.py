"""The label scheme: values inside and outside the program, the ignored value, and orders that lose something."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from frugalseg.data.scheme import IGNORED, LabelScheme
from frugalseg.errors import DataError

LABELS = {"background": 0, "a": 1, "b": 2, "c": 3}
NESTED = {"WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}


@st.composite
def schemes(draw: st.DrawFn) -> LabelScheme:
    """Return exclusive classes, or a tree of regions, with values in any order, perhaps with an ignored one."""
    values = draw(st.lists(st.integers(1, 2**15 - 1), min_size=1, max_size=6, unique=True))
    content: dict[str, Any] = {"labels": {"background": 0, **{f"v{v}": v for v in values}}}
    if draw(st.booleans()):
        unused = st.integers(-(2**15), 2**15 - 1).filter(lambda v: v not in (0, *values))
        content["ignore"] = draw(unused)
    if draw(st.booleans()):
        # Each value has a region of its own and of all the values that hang below it: regions nest or are apart.
        parent = [draw(st.integers(-1, place - 1)) for place in range(len(values))]
        regions: dict[str, list[int]] = {}
        for place, value in enumerate(values):
            members = [value]
            for below in range(place + 1, len(values)):
                above = below
                while above > place:
                    above = parent[above]
                members += [values[below]] if above == place else []
            regions[f"r{place}"] = members
        content |= {"regions": regions, "regions_class_order": values}
    return LabelScheme.from_json(content)


@st.composite
def labelled(draw: st.DrawFn) -> tuple[LabelScheme, NDArray[np.int32]]:
    scheme = draw(schemes())
    voxels = draw(st.lists(st.sampled_from(scheme.allowed), min_size=12, max_size=12))
    return scheme, np.array(voxels, np.int32).reshape(2, 3, 2)


@settings(max_examples=150, deadline=None)
@given(case=labelled())
def test_original_values_come_back(case: tuple[LabelScheme, NDArray[np.int32]]) -> None:
    scheme, label = case
    target = scheme.encode(label)
    assert target.shape == (scheme.groups, *label.shape)
    assert np.array_equal(scheme.decode(target), label)
    # Against a loop over voxels: consecutive class indices, 1 for a voxel in the region, 255 where ignored.
    for place, value in np.ndenumerate(label):
        wanted = [sorted(scheme.predicted).index(int(value)) if value in scheme.predicted else IGNORED]
        if not scheme.exclusive:
            wanted = [
                int(value in values) if value in scheme.predicted else IGNORED for _, values in scheme.regions
            ]
        assert target[(slice(None), *place)].tolist() == wanted
    assert LabelScheme.from_json(scheme.to_json()) == scheme


@settings(max_examples=80, deadline=None)
@given(case=labelled(), seed=st.integers(0, 99))
def test_masks_are_those_of_the_targets(case: tuple[LabelScheme, NDArray[np.int32]], seed: int) -> None:
    """What is scored from a written label map is what the network was trained on, ignored voxels aside."""
    scheme, label = case
    target = scheme.encode(label)
    places = (
        [(0, c) for c in range(1, scheme.classes)] if scheme.exclusive else [(r, 1) for r in range(scheme.groups)]
    )
    assert len(places) == len(scheme.structures)
    for name, (group, index) in zip(scheme.structures, places, strict=True):
        assert np.array_equal(scheme.mask(label, name), target[group] == index)
        assert not (scheme.mask(label, name) & scheme.ignored(label)).any()
    # A prediction never holds the ignored value, whatever the network says.
    found = np.random.default_rng(seed).integers(0, scheme.classes, target.shape).astype(np.uint8)
    assert set(np.unique(scheme.decode(found))) <= set(scheme.predicted)


def test_by_hand() -> None:
    label = np.array([[[0, 1, 2, 3, 9]]])
    nested = LabelScheme.from_json({"labels": LABELS, "regions": NESTED, "ignore": 9})
    assert nested.order == (1, 2, 3)
    assert nested.encode(label)[:, 0, 0].tolist() == [[0, 1, 1, 1, 255], [0, 0, 1, 1, 255], [0, 0, 0, 1, 255]]
    assert nested.allowed == (0, 1, 2, 3, 9)
    assert nested.predicted == (0, 1, 2, 3)
    assert nested.ignored(label)[0, 0].tolist() == [False] * 4 + [True]
    assert nested.flags(None) == (True, True, True)
    assert nested.flags(("ET", "WT")) == (True, False, True)
    negative = LabelScheme.from_json({"labels": {"background": 0, "z": 7, "y": 2}, "ignore": -1})
    assert negative.encode(np.array([[[7, -1, 2]]]))[0, 0, 0].tolist() == [2, 255, 1]


@pytest.mark.parametrize("labels", [{**LABELS, "ignore": 4}, {"0": "background", "1": "a", "4": "ignore"}])
def test_ignore_among_the_labels_as_nnunet_has_it(labels: dict[str, Any]) -> None:
    scheme = LabelScheme.from_json({"labels": labels})
    assert scheme.ignore == 4
    assert "ignore" not in scheme.structures
    assert 4 not in scheme.predicted


def test_without_an_ignored_value_the_hashed_form_is_as_before() -> None:
    assert set(LabelScheme.from_json({"labels": LABELS}).to_json()) == {"labels", "regions", "regions_class_order"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": LABELS, "ignore": 2}, "ignored value 2 is also that of a label"),
        ({"labels": LABELS, "ignore": 0}, "ignored value 0 is also that of a label"),
        ({"labels": LABELS, "ignore": "9"}, "-32768 to 32767, not '9'"),
        ({"labels": LABELS, "ignore": True}, "not True"),
        ({"labels": LABELS, "ignore": 40000}, "not 40000"),
        ({"labels": {**LABELS, "ignore": 4}, "ignore": 5}, "5 under ignore and 4 in labels"),
        ({"labels": {"background": 0, "ignore": 1}}, "no structure"),
        ({"labels": {"ignore": 1}}, "background"),
        ({"labels": {**LABELS, "ignore": 4}, "regions": {"x": [1, 4]}}, "label values out of 1, 2, 3"),
        ({"labels": {f"l{v}": v for v in range(256)}}, "256 values; 255 are the most"),
        ({"labels": LABELS, "regions": {"x": [1, 2], "y": [2, 3]}}, "add regions_class_order"),
        # Inner before outer: the outer one would be written over it.
        (
            {"labels": LABELS, "regions": {"core": [2], "whole": [1, 2]}, "regions_class_order": [2, 1]},
            "value 2, in core and whole, would be written as 1, in whole; list outer regions before",
        ),
        # Each region gets a value of the other one.
        (
            {"labels": LABELS, "regions": {"x": [1], "y": [2]}, "regions_class_order": [2, 1]},
            "value 1, in x, would be written as 2, in y",
        ),
        # No order can say that a voxel is in both; a third region can.
        (
            {"labels": LABELS, "regions": {"x": [1, 2], "y": [2, 3]}, "regions_class_order": [1, 3]},
            "value 2, in x and y, would be written as 3, in y",
        ),
    ],
)
def test_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelScheme.from_json(content, "here")


def test_overlapping_regions_with_one_for_what_they_share() -> None:
    regions = {"x": [1, 2], "y": [2, 3], "both": [2]}
    scheme = LabelScheme.from_json({"labels": LABELS, "regions": regions, "regions_class_order": [1, 3, 2]})
    label = np.array([[[0, 1, 2, 3]]], np.int32)
    assert np.array_equal(scheme.decode(scheme.encode(label)), label)
