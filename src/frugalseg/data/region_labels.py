"""Labels as nnU-Net v2 writes regions: a name and a list of values, `"whole tumour": [1, 2, 3]`.

Taken apart into what `LabelScheme` knows: values with a name each, and regions of them. A region of a single value
gives the value its name; a value that has none is called "value 2".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frugalseg.data.scheme import IGNORE_NAME
from frugalseg.errors import DataError


def expand_regions(content: dict[str, Any], where: Path) -> dict[str, Any]:
    """Return a data set's description with plain labels, and regions where labels were lists of values.

    Without a list of several values nothing is a region: `"liver": [1]` is `"liver": 1`.

    Raises:
        DataError: A list is empty or holds something else than values, both ways of naming regions are used, or a
            name that is needed for a value is taken.
    """
    labels = content.get("labels")
    if not isinstance(labels, dict) or not any(isinstance(values, list) for values in labels.values()):
        return content
    if content.get("regions"):
        raise DataError('has regions among "labels" and under "regions"; name them in one place', where)
    sets = {str(name): _values(name, values, where) for name, values in labels.items()}
    if all(len(values) == 1 for values in sets.values()):
        return {**content, "labels": {name: values[0] for name, values in sets.items()}}
    ignored = sets.pop(IGNORE_NAME, None)
    regions = {name: values for name, values in sets.items() if values != [0]}
    names: dict[int, str] = {}
    for name, values in sets.items():
        if len(values) == 1:
            names.setdefault(values[0], name)
    for value in sorted({value for values in sets.values() for value in values}):
        if value not in names:
            names[value] = "background" if value == 0 else f"value {value}"
    if len(set(names.values())) < len(names):
        raise DataError(
            'two of its "labels" would have the same name; call regions otherwise than "value N"', where
        )
    plain = {name: value for value, name in sorted(names.items())}
    if ignored is not None:
        plain[IGNORE_NAME] = ignored[0]
    if not content.get("regions_class_order"):
        return {**content, "labels": plain, "regions": regions}
    order = content["regions_class_order"]
    if not isinstance(order, list) or len(order) != len(regions):
        raise DataError(
            f'"regions_class_order" needs a list of one value for each of {len(regions)} regions, in their order: '
            f"{', '.join(regions)}",
            where,
        )
    return {**content, "labels": plain, "regions": regions}


def _values(name: str, values: Any, where: Path) -> list[int]:
    listed = values if isinstance(values, list) else [values]
    if not listed or not all(isinstance(value, int) and not isinstance(value, bool) for value in listed):
        raise DataError(f"label {name!r} must be a value or a list of values, not {str(values)[:60]}", where)
    if name == IGNORE_NAME and len(listed) != 1:
        raise DataError(f"label {name!r} has one value, not {len(listed)}", where)
    return sorted(set(listed))
