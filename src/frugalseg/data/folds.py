"""Folds inside the labelled cases of a budget: each case is held out once, and cases of one patient together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from frugalseg.errors import UserError

LEAVE_ONE_OUT_UP_TO = 5
"""With so few patients each is a fold of its own: a model trained on fewer says little about the budget."""


def make_folds(names: Sequence[str], groups: Mapping[str, str], count: int) -> tuple[tuple[str, ...], ...]:
    """Divide the cases of a budget into folds.

    Args:
        names: The budget's cases in their order, which is random already.
        groups: Patient of every case.
        count: How many folds; with 5 patients or fewer there is one for each, whatever the number.

    Returns:
        The cases of each fold. Sizes differ by no more than the largest patient has cases.

    Raises:
        UserError: Fewer than 2 folds, more than there are patients, or a single patient.
    """
    patients: dict[str, list[str]] = {}
    for name in names:
        patients.setdefault(groups[name], []).append(name)
    if len(patients) < 2:
        raise UserError(f"folds need labelled cases of 2 patients at least, there is {len(patients)}", "--folds")
    if count < 2:
        raise UserError(f"{count} folds hold nothing out; choose 2 to {len(patients)}", "--folds")
    if len(patients) <= LEAVE_ONE_OUT_UP_TO:
        return tuple(tuple(cases) for cases in patients.values())
    if count > len(patients):
        raise UserError(f"{count} folds are more than there are patients; choose 2 to {len(patients)}", "--folds")
    folds: list[list[str]] = [[] for _ in range(count)]
    # The patient with most cases first, each into the smallest fold: an even division, the same one every time.
    for cases in sorted(patients.values(), key=len, reverse=True):
        min(folds, key=len).extend(cases)
    return tuple(tuple(fold) for fold in folds)
