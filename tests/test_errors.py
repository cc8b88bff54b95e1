"""Errors for users: always one line, with the place in front."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from frugalseg.errors import ConfigError, DataError, TrainingError, UserError, did_you_mean


@pytest.mark.parametrize("kind", [UserError, DataError, ConfigError, TrainingError])
def test_one_line_with_the_place_in_front(kind: type[UserError]) -> None:
    error = kind("is\n damaged;\t  copy\r\nit again ", Path("a") / "b.nii.gz")
    assert isinstance(error, UserError)
    assert str(error) == f"{Path('a') / 'b.nii.gz'}: is damaged; copy it again"
    assert (error.what, error.where) == ("is damaged; copy it again", str(Path("a") / "b.nii.gz"))


def test_names_of_files_cannot_write_to_the_terminal() -> None:
    error = UserError("no 'a\x1b[2Jb' there, \ud800 nor \u202e", Path("two\nlines\x07") / "\udce9.nii")
    assert str(error) == f"two\\nlines\\x07{os.sep}\\udce9.nii: no 'a\\x1b[2Jb' there, \\ud800 nor \\u202e"
    assert error.where == str(Path("two\nlines\x07") / "\udce9.nii")
    assert str(UserError("fehlt; nötig: größer, 脳", "--x")) == "--x: fehlt; nötig: größer, 脳"


def test_without_a_place() -> None:
    assert str(UserError("nothing to predict")) == "nothing to predict"
    assert UserError("nothing to predict").where is None
    assert str(UserError("is misspelt", "training.steps")) == "training.steps: is misspelt"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sscpseg", " Did you mean 'sscpcseg'?"),
        ("EncDek", " Did you mean 'encdec'?"),
        ("hippocampus", ""),
        ("", ""),
    ],
)
def test_the_nearest_word_is_offered_and_a_far_one_is_not(word: str, hint: str) -> None:
    assert did_you_mean(word, ["encdec", "cpcseg", "sscpcseg"]) == hint
    assert did_you_mean(word, []) == ""


def test_any_iterable_of_choices_will_do() -> None:
    assert did_you_mean("flar", (name for name in ("t1", "flair"))) == " Did you mean 'flair'?"
    assert did_you_mean("liver", {"Liver": 1}) == " Did you mean 'Liver'?"


def test_names_in_capitals_are_found_too() -> None:
    assert did_you_mean("FLAR", ["T1w", "FLAIR"]) == " Did you mean 'FLAIR'?"
    assert did_you_mean("flar", ["T1w", "FLAIR"]) == " Did you mean 'FLAIR'?"
