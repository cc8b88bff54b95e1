"""Which structures were annotated in which case: one that was not is not known there, which is not "absent".

`annotated_classes` in dataset.json: case to list of structures (names of the regions where there are regions, else
of the labels). A case that is not listed has all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError, did_you_mean

KEY = "annotated_classes"


def read_annotated(
    value: Any, scheme: LabelScheme, cases: Collection[str], unlabelled: Collection[str], where: Path
) -> dict[str, tuple[str, ...]]:
    """Return the annotated structures, in the scheme's order, of the cases that lack some.

    Args:
        value: What dataset.json holds under `annotated_classes`; None: nothing.
        scheme: Names the structures.
        cases: Names of all cases of the data set.
        unlabelled: Those of them that have no label at all.
        where: dataset.json.

    Raises:
        DataError: The value is no object of cases and lists, or names a case or a structure that does not exist, a
            structure twice, none at all, or a case without a label.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DataError(f'{KEY} must be an object such as {{"case_01": ["{scheme.structures[0]}"]}}', where)
    found = {}
    for case, names in value.items():
        if case not in cases:
            raise DataError(
                f"{KEY} names {case!r}, which is no case of this data set.{did_you_mean(case, cases)}", where
            )
        if case in unlabelled:
            raise DataError(f"{KEY} names case {case!r}, which has no label; give it one, or leave it out", where)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{KEY} of case {case!r} must be a list of names of structures", where)
        if not names:
            raise DataError(f"{KEY} lists nothing for case {case!r}; take its label out of the data set", where)
        for name in names:
            if name not in scheme.structures:
                known = ", ".join(scheme.structures)
                raise DataError(
                    f"{KEY} of case {case!r}: {name!r} is no structure of this data set ({known})."
                    f"{did_you_mean(name, scheme.structures)}",
                    where,
                )
        if len(set(names)) < len(names):
            raise DataError(f"{KEY} of case {case!r} names a structure twice", where)
        if len(names) < len(scheme.structures):
            found[case] = tuple(name for name in scheme.structures if name in names)
    return found
