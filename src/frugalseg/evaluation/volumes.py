"""Are structures found too large or too small? Dice does not say: bias of volumes, and limits of agreement.

Limits of agreement: Bland, Altman, "Statistical methods for assessing agreement between two methods of clinical
measurement", Lancet 1986: about 95 % of the cases' differences lie between mean - 1.96 sd and mean + 1.96 sd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frugalseg.evaluation.table import CaseRow

LIMITS = 1.96  # standard deviations on either side of the mean difference


@dataclass(frozen=True)
class Agreement:
    """Volumes of one structure, predicted and true, over the cases that count (see the table's statuses).

    Attributes:
        n: Cases; one in which the structure was missed or spurious has a volume of 0 on one side.
        truth_ml: Sum of the true volumes in millilitres.
        prediction_ml: Sum of the predicted ones.
        bias_percent: By how much the predicted sum is larger than the true one; None if that is 0.
        difference_ml: Mean over cases of predicted less true volume.
        low_ml: Lower limit of agreement; None, like the upper one, for a single case.
        high_ml: Upper limit of agreement.
    """

    n: int
    truth_ml: float
    prediction_ml: float
    bias_percent: float | None
    difference_ml: float
    low_ml: float | None
    high_ml: float | None

    def describe(self) -> str:
        """Say it in a line."""
        percent = "" if self.bias_percent is None else f"{self.bias_percent:+.1f} % in all, "
        limits = ""
        if self.low_ml is not None and self.high_ml is not None:
            limits = f", limits of agreement {_ml(self.low_ml)} to {_ml(self.high_ml)} ml"
        return f"{percent}{_ml(self.difference_ml)} ml a case{limits}"


def agreement(rows: Sequence[CaseRow]) -> Agreement | None:
    """Return how far a structure's volumes agree, or None where no row counts."""
    pairs = volumes(rows)
    if not len(pairs):
        return None
    truth, prediction = (float(total) for total in pairs.sum(axis=0))
    differences = pairs[:, 1] - pairs[:, 0]
    mean, low, high = float(differences.mean()), None, None
    if len(pairs) > 1:
        half = LIMITS * float(differences.std(ddof=1))
        low, high = mean - half, mean + half
    bias = 100 * (prediction / truth - 1) if truth > 0 else None
    return Agreement(len(pairs), truth, prediction, bias, mean, low, high)


def volumes(rows: Sequence[CaseRow]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return true and predicted volumes (cases, 2) in millilitres of the rows that count."""
    found = [(row.volume_truth_ml, row.volume_prediction_ml) for row in rows if row.counted]
    return np.array(found, np.float64).reshape(-1, 2)


def _ml(value: float) -> str:
    return f"{value:+.3g}" if abs(value) < 1000 else f"{value:+.0f}"
