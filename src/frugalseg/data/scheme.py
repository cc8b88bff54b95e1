"""The label scheme: which values a label map may have, and which structures are segmented and scored.

Two kinds. *Exclusive classes*: every voxel has one of the values; the network has one softmax over all of them.
*Regions*: each is a set of values, regions may nest or overlap; the network has one two-way softmax per region
(Iwasawa et al. 2020, section 2). Inside the program classes are consecutive; files keep the original values.

A data set may also have a value that means "not known what this voxel is" (nnU-Net's label "ignore"): nothing is
learnt from such voxels and they are not scored.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.names import kind_of
from frugalseg.errors import DataError

IGNORED = 255
"""Class index of a voxel whose value is the ignored one; no class has it."""
IGNORE_NAME = "ignore"


@dataclass(frozen=True)
class LabelScheme:
    """Names and values of a data set's labels.

    Attributes:
        values: (name, value) of every label, background (value 0) included, in increasing order of value.
        regions: (name, values) of every region, or empty for exclusive classes.
        order: For each region the value written to a label map, later ones over earlier ones.
        ignore: The value of voxels that are not known, or None. It is no label, and no prediction holds it.
    """

    values: tuple[tuple[str, int], ...]
    regions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    order: tuple[int, ...] = ()
    ignore: int | None = None

    @property
    def exclusive(self) -> bool:
        """Whether every voxel has exactly one class."""
        return not self.regions

    @property
    def predicted(self) -> tuple[int, ...]:
        """The values that a prediction may hold, background included, in increasing order."""
        return tuple(value for _, value in self.values)

    @property
    def allowed(self) -> tuple[int, ...]:
        """The values that a label map may hold: those of a prediction, and the ignored one."""
        return self.predicted if self.ignore is None else (*self.predicted, self.ignore)

    @property
    def groups(self) -> int:
        """Number of softmaxes R: 1 for exclusive classes, the number of regions otherwise."""
        return 1 if self.exclusive else len(self.regions)

    @property
    def classes(self) -> int:
        """Number of classes K of each softmax, background included."""
        return len(self.values) if self.exclusive else 2

    @property
    def outputs(self) -> int:
        """Number of output channels of the network, groups times classes."""
        return self.groups * self.classes

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what is scored: the foreground classes, or the regions."""
        if self.exclusive:
            return tuple(name for name, value in self.values if value != 0)
        return tuple(name for name, _ in self.regions)

    def flags(self, annotated: Collection[str] | None) -> tuple[bool, ...]:
        """Say of each structure whether it is among the `annotated` ones; None: all are."""
        return tuple(annotated is None or name in annotated for name in self.structures)

    def mask(self, label: NDArray[Any], structure: str) -> NDArray[np.bool_]:
        """Return where `label` (original values) holds the structure of that name."""
        wanted = dict(self.regions).get(structure) or (dict(self.values)[structure],)
        if len(wanted) == 1:
            return np.asarray(label == wanted[0])
        return np.asarray(np.isin(label, wanted))

    def ignored(self, label: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where `label` (original values) holds the ignored value."""
        return np.zeros(label.shape, np.bool_) if self.ignore is None else np.asarray(label == self.ignore)

    def encode(self, label: NDArray[Any]) -> NDArray[np.uint8]:
        """Turn original values (x, y, z) into targets (R, x, y, z): class indices, `IGNORED` where ignored."""
        if self.exclusive:
            target = np.zeros((1, *label.shape), np.uint8)
            for index, value in enumerate(self.predicted):
                target[0, label == value] = index
        else:
            target = np.stack([np.isin(label, values) for _, values in self.regions]).astype(np.uint8, copy=False)
        if self.ignore is not None:
            target[:, label == self.ignore] = IGNORED
        return target

    def decode(self, target: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Turn class indices (R, x, y, z) into a label map (x, y, z) with the original values."""
        if self.exclusive:
            label = np.array(self.predicted, np.int32)[np.where(target[0] == IGNORED, 0, target[0])]
        else:
            label = np.zeros(target.shape[1:], np.int32)
            for region, value in zip(target, self.order, strict=True):
                label[region == 1] = value
        if self.ignore is not None:
            label[target[0] == IGNORED] = self.ignore
        return np.asarray(label)

    def to_json(self) -> dict[str, Any]:
        """Return the scheme as plain values."""
        value = {
            "labels": dict(self.values),
            "regions": {name: list(values) for name, values in self.regions},
            "regions_class_order": list(self.order),
        }
        # Left out where there is none: what was prepared and trained without it keeps its hash.
        return value if self.ignore is None else {**value, "ignore": self.ignore}

    @staticmethod
    def from_json(value: dict[str, Any], where: str = "labels") -> LabelScheme:
        """Build the scheme from labels (name to value), regions (name to list of values) and their order.

        The ignored value stands under "ignore", or among the labels under that name, as nnU-Net has it.

        Raises:
            DataError: No background, doubled or negative values, an ignored value that is a label's, a region of
                unknown values, regions whose order cannot be derived, or an order with which a perfect prediction
                would be written as something else; `where` is named.
        """
        labels = _integers(value.get("labels"), f"{where}: labels")
        ignore = _ignored_value(labels, value.get("ignore"), where)
        values = tuple(sorted(((name, number) for name, number in labels.items()), key=lambda item: item[1]))
        numbers = [number for _, number in values]
        if not numbers or len(set(numbers)) < len(numbers) or min(numbers) != 0 or max(numbers) > 2**15 - 1:
            shown = ", ".join(map(str, numbers[:10])) + (" ..." if len(numbers) > 10 else "")
            raise DataError(
                f"labels need different values, 0 (background) among them, none over 32767, not {shown}", where
            )
        if len(numbers) < 2:
            raise DataError("labels name no structure beside the background; add one", where)
        if len(numbers) > IGNORED:
            raise DataError(
                f"labels have {len(numbers)} values; {IGNORED} are the most, background included; merge some", where
            )
        if ignore in numbers:
            raise DataError(f"the ignored value {ignore} is also that of a label; it needs one of its own", where)
        regions = []
        given = value.get("regions") or {}
        if not isinstance(given, dict):
            raise DataError(
                f'regions must be an object of names and lists, such as {{"all": [1, 2]}}, not {kind_of(given)}',
                where,
            )
        for name, members in given.items():
            if isinstance(members, list) and any(isinstance(m, list | dict | bool) for m in members):
                members = None
            if not isinstance(members, list) or not members or not set(members) <= set(numbers) - {0}:
                known = ", ".join(str(number) for number in numbers if number)
                raise DataError(
                    f"region {name!r} must be a list of label values out of {known}, not {str(given[name])[:60]}",
                    where,
                )
            regions.append((str(name), tuple(sorted(int(member) for member in members))))
        listed = value.get("regions_class_order") or []
        if not isinstance(listed, list | tuple):
            raise DataError(
                f"regions_class_order must be a list with one label value for each region, not {kind_of(listed)}",
                where,
            )
        order = tuple(listed)
        if regions and not order:
            order = _derived_order(regions, where)
        if len(order) != len(regions) or not all(
            isinstance(v, int) and not isinstance(v, bool) and v in numbers for v in order
        ):
            raise DataError(
                f"regions_class_order needs one label value for each of {len(regions)} regions, it "
                f"has {len(order)}",
                where,
            )
        _require_way_back(regions, order, numbers, where)
        return LabelScheme(values, tuple(regions), order, ignore)


def _ignored_value(labels: dict[str, int], given: Any, where: str) -> int | None:
    """Take the label named "ignore" out of `labels`, or the value that was given on its own."""
    named = labels.pop(IGNORE_NAME, None)
    if given is None:
        return named
    if isinstance(given, bool) or not isinstance(given, int) or not -(2**15) <= given < 2**15:
        raise DataError(f"ignore must be the value of the voxels to ignore, -32768 to 32767, not {given!r}", where)
    if named is not None and named != given:
        raise DataError(f"the ignored value is {given} under ignore and {named} in labels", where)
    return given


def _require_way_back(
    regions: list[tuple[str, tuple[int, ...]]], order: tuple[int, ...], numbers: list[int], where: str
) -> None:
    """Refuse an order that writes a voxel's regions as a value of other regions: right would be scored wrong."""

    def inside(number: int) -> list[str]:
        return [name for name, values in regions if number in values]

    for number in numbers:
        written = 0
        for (_, values), value in zip(regions, order, strict=True):
            written = value if number in values else written
        if inside(written) != inside(number):
            raise DataError(
                f"with regions_class_order {', '.join(map(str, order))} a voxel of value {number}, in "
                f"{' and '.join(inside(number))}, would be written as {written}, in "
                f"{' and '.join(inside(written)) or 'no region'}; list outer regions before inner ones, each with "
                "a value that lies in no region after it, and make a region of what two of them share",
                where,
            )


def _integers(labels: Any, where: str) -> dict[str, int]:
    """Accept both common layouts: {"0": "background"} (Decathlon) and {"background": 0} (nnU-Net)."""
    if not isinstance(labels, dict) or not labels:
        raise DataError(
            f'an object of names and values was expected, such as {{"background": 0, "tumour": 1}}, '
            f"not {kind_of(labels)}",
            where,
        )
    result: dict[str, int] = {}
    for key, item in labels.items():
        name, number = (str(item), key) if isinstance(item, str) else (str(key), item)
        if not name.strip():
            raise DataError(f'the label of value {number!r} has no name; give it one, such as "tumour"', where)
        try:
            exact = int(number)
        except (TypeError, ValueError):
            raise DataError(
                f'{key!r}: {item!r} is neither value: name nor name: value, such as {{"tumour": 1}}', where
            ) from None
        if name in result or isinstance(number, bool | float):
            raise DataError(
                f'{key!r}: {item!r} is doubled or not an integer; give each name a number, such as {{"tumour": 1}}',
                where,
            )
        result[name] = exact
    return result


def _derived_order(regions: list[tuple[str, tuple[int, ...]]], where: str) -> tuple[int, ...]:
    """Nested regions, each inside the one before: region i writes the value that region i + 1 lacks."""
    order = []
    for index, (name, values) in enumerate(regions):
        inner = set(regions[index + 1][1]) if index + 1 < len(regions) else set()
        rest = sorted(set(values) - inner)
        if not inner < set(values) or len(rest) != 1:
            raise DataError(
                f"region {name!r} is not the next one plus a single value, so its value in a label map is "
                "unclear; add regions_class_order (one value per region, outer regions first)",
                where,
            )
        order.append(rest[0])
    return tuple(order)
