"""Folds hold every case out once, and never split a patient."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugalseg.data.folds import make_folds
from frugalseg.errors import UserError


def own(names: list[str]) -> dict[str, str]:
    return {name: name for name in names}


def test_few_patients_are_a_fold_each() -> None:
    names = ["c", "a", "b"]
    assert make_folds(names, own(names), 5) == (("c",), ("a",), ("b",))


def test_twelve_cases_in_five_folds() -> None:
    names = [f"case_{number}" for number in range(12)]
    folds = make_folds(names, own(names), 5)
    assert sorted(map(len, folds)) == [2, 2, 2, 3, 3]
    assert folds[0] == ("case_0", "case_5", "case_10")


@given(st.lists(st.integers(0, 11), min_size=2, max_size=30), st.integers(2, 6))
def test_every_case_once_and_no_patient_split(patients: list[int], count: int) -> None:
    groups = {f"case_{number}": f"patient_{patient}" for number, patient in enumerate(patients)}
    different = len(set(patients))
    if different < 2 or (different > 5 and count > different):
        with pytest.raises(UserError, match="--folds"):
            make_folds(list(groups), groups, count)
        return
    folds = make_folds(list(groups), groups, count)
    assert sorted(name for fold in folds for name in fold) == sorted(groups)
    assert all(folds)
    assert len(folds) == (different if different <= 5 else count)
    homes = [{groups[name] for name in fold} for fold in folds]
    assert all(not (one & other) for place, one in enumerate(homes) for other in homes[:place])


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (["a"], 2, "2 patients at least, there is 1"),
        (list("abcdefg"), 1, "1 folds hold nothing out"),
        (list("abcdefg"), 8, "8 folds are more than there are patients; choose 2 to 7"),
    ],
)
def test_wrong_numbers(names: list[str], count: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_folds(names, own(names), count)
