"""Which labels a run may read. Everything else that has a label is used as if it had none.

`labels=N` takes the first N of a seeded permutation of the labelled training cases, so budgets nest: the 3 are
within the 6, the 6 within the 12. N counts every label that is read, those for choosing a checkpoint included.
Cases of one patient (`groups`) stay together: the permutation is one of patients, and N must end with one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.data.manifest import Case, Manifest
from frugalseg.errors import DataError, UserError, did_you_mean
from frugalseg.files import read_text
from frugalseg.formats import SPLIT_FORMAT, describing, require_seal, require_version, seal

LISTED = "listed"


@dataclass(frozen=True)
class Split:
    """Names of the cases that train with their label, choose the checkpoint, or train without a label.

    `transductive`: the test cases' images are among the unlabelled ones. `held_out`: cases that a fold is scored
    on; it sees neither their labels nor their images.
    """

    labelled: tuple[str, ...]
    validation: tuple[str, ...]
    unlabelled: tuple[str, ...]
    rule: str
    transductive: bool = False
    held_out: tuple[str, ...] = ()

    @property
    def readable(self) -> frozenset[str]:
        """The cases whose labels may be opened."""
        return frozenset(self.labelled) | frozenset(self.validation)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with a hash of them."""
        value: dict[str, Any] = {
            "format_version": SPLIT_FORMAT,
            "rule": self.rule,
            "labels_read": len(self.readable),
            "labelled": list(self.labelled),
            "validation": list(self.validation),
            "unlabelled": list(self.unlabelled),
            "transductive": self.transductive,
        }
        if self.held_out:
            value["held_out"] = list(self.held_out)
        return seal(value)

    @staticmethod
    def from_json(value: dict[str, Any], where: Path) -> Split:
        """Read what `to_json` wrote.

        Raises:
            DataError: It is of a newer format, does not have the hash that was written with it, or lacks something.
        """
        require_version(value, SPLIT_FORMAT, where)
        content = require_seal(value, where)
        with describing("a split", where):
            names = [content[key] for key in ("labelled", "validation", "unlabelled")]
            names.append(content.get("held_out", []))
            if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in names):
                raise ValueError("lists of names of cases were expected")
            return Split(
                tuple(names[0]),
                tuple(names[1]),
                tuple(names[2]),
                str(content["rule"]),
                bool(content["transductive"]),
                tuple(names[3]),
            )


def make_split(
    manifest: Manifest,
    labels: int | None = None,
    seed: int = 0,
    named: Sequence[str] | None = None,
    validation: int | str = 0,
) -> Split:
    """Choose the cases whose labels a run reads.

    Args:
        manifest: The data set.
        labels: Size of the budget; None for every labelled case.
        seed: Seed of the permutation (`--label-seed`).
        named: The cases themselves, instead of a number.
        validation: How many of the budget's last cases choose the checkpoint instead of training; or "listed":
            those that dataset.json lists under "validation", which count in the budget like all others. Without
            it the listed cases train as if they had no label.

    Raises:
        UserError: The budget is empty, larger than the labelled cases, splits a patient, leaves none to train, or
            none in which some structure was annotated.
        DataError: A name is not that of a labelled training case.
    """
    available = [case for case in manifest.labelled if case.name not in manifest.validation]
    if not manifest.labelled:
        raise DataError(
            "no training case has a label, at least one is needed; put one there and name it", manifest.folder
        )
    listed = manifest.validation if validation == LISTED else ()
    if validation == LISTED and not listed:
        raise DataError(f'lists no cases under "validation", which --validation {LISTED} asks for', manifest.folder)
    if named is not None:
        chosen = [name for name in _named(manifest, named) if name not in listed]
        rule = f"{len(named)} cases named by the user"
    elif labels is None:
        chosen = [case.name for case in available]
        rule = f"all {len(chosen)} labelled cases"
    else:
        chosen = _first(available, labels, seed, len(listed))
        rule = f"the first {len(chosen)} of {len(available)} labelled cases, permuted with seed {seed}"
    if listed:
        rule += f", and the {len(listed)} validation cases listed in dataset.json"
    count = 0 if isinstance(validation, str) else validation
    training, held = _split_last(chosen, count, {case.name: case.group for case in manifest.training})
    held += listed
    if held and not listed:
        rule += f"; the last {count} of them for validation"
    _require_annotated(manifest, training)
    read = {*training, *held}
    hidden = [case.name for case in manifest.training if case.name not in read]
    if manifest.transductive:
        rule += f"; transductive: the images of the {len(manifest.test)} test cases train too, without labels"
    return Split(tuple(training), tuple(held), tuple(hidden), rule, manifest.transductive)


def without_labels(manifest: Manifest, held_out: Collection[str] = ()) -> Split:
    """Return the split of a pre-training: every training volume but those held out, no label.

    Raises:
        DataError: No volume is left.
    """
    names = tuple(case.name for case in manifest.training if case.name not in held_out)
    if not names:
        raise DataError("has no training volume to pre-train on; put images into imagesTr", manifest.folder)
    rule = f"pre-training: {len(names)} training volumes, no label"
    if manifest.transductive:
        rule += f"; transductive: the images of the {len(manifest.test)} test cases among them"
    held = tuple(name for name in held_out)
    return Split((), (), names, rule, manifest.transductive, held)


def hold_out(manifest: Manifest, split: Split, names: Collection[str]) -> Split:
    """Return the split of a fold: without these of its labelled cases, which do not train unlabelled either.

    Raises:
        UserError: A structure is annotated in no case that is left.
    """
    training = tuple(name for name in split.labelled if name not in names)
    held = tuple(name for name in split.labelled if name in names)
    _require_annotated(manifest, training)
    rule = f"{split.rule}; {len(held)} of them held out as a fold"
    return replace(split, labelled=training, rule=rule, held_out=held)


def _require_annotated(manifest: Manifest, training: Sequence[str]) -> None:
    """Refuse to train where a structure was annotated in no case: what is predicted of it would be noise."""
    cases = {case.name: case for case in manifest.training}
    known = [manifest.scheme.flags(cases[name].annotated) for name in training]
    for place, structure in enumerate(manifest.scheme.structures):
        if not any(flags[place] for flags in known):
            having = [c.name for c in manifest.labelled if manifest.scheme.flags(c.annotated)[place]]
            todo = (
                f"take more --labels, or one of {', '.join(having[:5])}" if having else "take it out of the labels"
            )
            raise UserError(
                f"{structure!r} was annotated in none of the {len(training)} cases to train on "
                f"(annotated_classes), so it cannot be learnt; {todo}",
                "--labels",
            )


def _split_last(chosen: Sequence[str], count: int, groups: Mapping[str, str]) -> tuple[list[str], tuple[str, ...]]:
    """Take the last `count` cases away for validation."""
    if count < 0 or count >= len(chosen):
        raise UserError(
            f"{count} validation cases out of a budget of {len(chosen)} leave none to train on", "--validation"
        )
    training, held = list(chosen[: len(chosen) - count]), tuple(chosen[len(chosen) - count :])
    both = sorted({groups[name] for name in training} & {groups[name] for name in held})
    if both:
        raise UserError(
            f"{count} validation cases would split patient {both[0]!r} (groups) between training and validation",
            "--validation",
        )
    return training, held


def read_names(path: Path) -> list[str]:
    """Read case names from a text file, one a line; empty lines and lines that start with # do not count."""
    lines = (line.strip() for line in read_text(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _first(cases: Sequence[Case], budget: int, seed: int, listed: int = 0) -> list[str]:
    """Return the first cases of the permutation: `budget` less the `listed` validation cases, which count in it."""
    labels = budget - listed
    if not 1 <= labels <= len(cases):
        counted = f", {listed} of them for validation" if listed else ""
        raise UserError(
            f"{budget} labels were asked for{counted}; choose {listed + 1} to {listed + len(cases)} "
            "(labelled cases)",
            "--labels",
        )
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case.name)
    generator = np.random.Generator(np.random.Philox(key=[seed, 0x6C6162656C]))
    patients = sorted(groups)
    chosen: list[str] = []
    sizes = [0]
    for index in generator.permutation(len(patients)):
        chosen += groups[patients[index]]
        sizes.append(len(chosen))
        if len(chosen) == labels:
            return chosen
        if len(chosen) > labels:
            break
    smaller = f"{sizes[-2] + listed} or " if sizes[-2] else ""
    raise UserError(
        f"{budget} labels would split the cases of one patient (groups); choose {smaller}{sizes[-1] + listed}",
        "--labels",
    )


def _named(manifest: Manifest, named: Sequence[str]) -> list[str]:
    labelled = [case.name for case in manifest.labelled]
    test = {case.name for case in manifest.test}
    for name in named:
        if name in test:
            raise DataError(f"{name!r} is a test case, whose label no run may read", "--labelled")
        if name not in labelled:
            raise DataError(
                f"{name!r} is not a labelled training case.{did_you_mean(name, labelled)}", "--labelled"
            )
    if not named:
        raise DataError("needs at least one case; write their names, one a line", "--labelled")
    if twice := [name for name in named if list(named).count(name) > 1]:
        raise DataError(f"names {twice[0]!r} twice; once is enough", "--labelled")
    return list(named)
