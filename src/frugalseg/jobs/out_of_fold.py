"""What folds are for: every labelled case predicted by the model that has not seen it, and what follows from that.

Its Dice with an interval; the structures of which only the largest part is to be kept; the temperature that makes
probabilities mean what they say. Both of these are taken only where these predictions are better for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frugalseg.data.case import Case
from frugalseg.data.manifest import Manifest
from frugalseg.data.readers import read_label
from frugalseg.data.scheme import IGNORED, LabelScheme
from frugalseg.evaluation import dice, summarise, write_cases_csv, write_summary
from frugalseg.evaluation.calibration import calibration_error, fit_temperature, negative_log_likelihood, tempered
from frugalseg.evaluation.intervals import Interval, case_interval
from frugalseg.files import write_json
from frugalseg.formats import seal
from frugalseg.inference.components import largest_component, worth_it
from frugalseg.inference.inputs import PredictionInput
from frugalseg.inference.restore import Place
from frugalseg.jobs.ahead import WriteBehind
from frugalseg.jobs.ensemble import open_ensemble
from frugalseg.jobs.ensemble_record import ENSEMBLE, FORMAT_VERSION
from frugalseg.jobs.evaluate import evaluate_case, report
from frugalseg.jobs.predict import predict_case, record
from frugalseg.jobs.predicted import RECORD
from frugalseg.jobs.show import bar, say

FOLDER = "out_of_fold"
UNCERTAIN = 0.01  # probability of foreground from which on a voxel counts for calibration
PER_BLOCK = 4000  # of these voxels
MOST = 500_000  # of a fold's, whatever the number and size of its cases


@dataclass(frozen=True)
class OutOfFold:
    """Scores of cases by models that have not seen them.

    Attributes:
        dice: Mean over cases of the mean over structures, as predicted.
        interval: Of that mean; None with a single case.
        cases: How many have a score.
        largest: Structures of which only the largest part is kept from now on.
        temperature: Divides the logits from now on; 1 where none was found that helps.
        errors: Expected calibration error as predicted, and with each fold at the temperature of the others.
    """

    dice: float
    interval: Interval | None
    cases: int
    largest: tuple[str, ...]
    temperature: float
    errors: tuple[float, float] | None


def score_folds(
    out: Path, manifest: Manifest, folds: Sequence[Sequence[str]], store: Path | None = None
) -> OutOfFold:
    """Predict every held-out case by its fold's model; write OUT/out_of_fold and OUT/ensemble.json.

    Raises:
        DataError: A file cannot be read or written.
    """
    place = out / FOLDER
    shutil.rmtree(place, ignore_errors=True)  # ours, perhaps half written
    by_name = {case.name: case for case in manifest.training}
    scheme = manifest.scheme
    watched: list[Voxels] = []
    records: list[dict[str, Any]] = []
    predicted: dict[str, Path] = {}
    members = [f"fold-{number}" for number in range(len(folds))]
    with bar("out of fold", sum(map(len, folds))) as advance:
        for name, fold in zip(members, folds, strict=True):
            model = open_ensemble([out / name], store=store)
            voxels = Voxels(scheme)
            watched.append(voxels)
            items = [PredictionInput(case, by_name[case].images, by_name[case].missing) for case in fold]
            with WriteBehind() as behind:
                for item in items:
                    prepared = model.prepare(item)
                    voxels.look_at(by_name[item.name], prepared[0].placement.cut)
                    flips = model.config.inference.flips
                    predicted[item.name] = predict_case(
                        model, item, prepared, place / "predictions", flips, False, behind, voxels
                    )
                    advance()
            records.append(record(model, items, flips))
    files = {case: paths for facts in records for case, paths in facts["cases"].items()}
    write_json(place / "predictions" / RECORD, {**records[0], "cases": files})
    rows = []
    for name, path in predicted.items():
        case = by_name[name]
        assert case.label is not None
        rows += evaluate_case(name, case.label, path, scheme, 1.0, case.annotated)
    summary = summarise(rows)
    write_cases_csv(place / "cases.csv", rows)
    write_summary(place / "summary.json", summary)
    truth = {name: label for name in predicted if (label := by_name[name].label) is not None}
    note = (
        f"; each case was predicted by that of {len(folds)} models that had not seen it; the run below is the first"
    )
    report(place / "predictions", truth, predicted, scheme, summary, rows, place, note)
    values = np.array([score.means["dice"] for score in summary.cases], np.float64)
    temperature, errors = calibrate(watched)
    found = OutOfFold(
        float(values.mean()) if len(values) else float("nan"),
        case_interval(values),
        len(values),
        choose_largest([by_name[name] for name in predicted], predicted, scheme),
        temperature,
        errors,
    )
    write_json(out / ENSEMBLE, seal({**to_json(found), "format_version": FORMAT_VERSION, "members": members}))
    tell(found, place)
    return found


class Voxels:
    """Probabilities and true classes of the voxels that may be foreground, gathered block by block."""

    def __init__(self, scheme: LabelScheme) -> None:
        self.scheme = scheme
        self.target: NDArray[np.uint8] | None = None
        self._probabilities: list[NDArray[np.float32]] = []
        self._classes: list[NDArray[np.uint8]] = []
        self._every = 1  # doubled, and half of what is held let go, when it is more than `MOST`

    def look_at(self, case: Case, cut: Any) -> None:
        """Turn to a case; `cut` takes its label to the grid of the blocks that come."""
        assert case.label is not None
        _, label, _ = read_label(case.label, self.scheme.allowed)
        self.target = self.scheme.encode(cut(label)) if all(self.scheme.flags(case.annotated)) else None

    def __call__(self, place: Place, block: Tensor) -> None:
        """Take some of a block's voxels; of a case in which not every structure was annotated none."""
        if self.target is None:
            return
        shares = block.unflatten(0, (self.scheme.groups, self.scheme.classes)).numpy()
        for group, target in zip(shares, self.target[(slice(None), *place)], strict=True):
            flat, classes = group.reshape(len(group), -1), target.reshape(-1)
            which = np.flatnonzero((flat[0] <= 1 - UNCERTAIN) & (classes != IGNORED))
            which = which[:: self._every * max(1, len(which) // PER_BLOCK)]
            self._probabilities.append(flat[:, which].T)
            self._classes.append(classes[which])
        while sum(map(len, self._classes)) > MOST:
            self._every *= 2
            self._probabilities = [np.ascontiguousarray(part[::2]) for part in self._probabilities]
            self._classes = [part[::2].copy() for part in self._classes]

    @property
    def all(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Probabilities (n, K) and classes (n,)."""
        if not self._classes:
            return np.zeros((0, self.scheme.classes), np.float32), np.zeros(0, np.uint8)
        return np.concatenate(self._probabilities), np.concatenate(self._classes)


def calibrate(folds: Sequence[Voxels]) -> tuple[float, tuple[float, float] | None]:
    """Return the temperature, 1 if none is better for cases it was not found on, and the calibration errors.

    The error that it has left is measured with each fold at the temperature of the other folds.
    """
    parts = [fold.all for fold in folds]
    if any(len(classes) == 0 for _, classes in parts):
        return 1.0, None
    probabilities, classes = (np.concatenate(side) for side in zip(*parts, strict=True))
    scaled, losses = [], []
    for number, (own, right) in enumerate(parts):
        others = [part for other, part in enumerate(parts) if other != number]
        theirs = fit_temperature(*(np.concatenate(side) for side in zip(*others, strict=True)))
        scaled.append(tempered(own, theirs))
        losses.append(negative_log_likelihood(own, right, theirs) * len(right))
    errors = calibration_error(probabilities, classes), calibration_error(np.concatenate(scaled), classes)
    helps = sum(losses) / len(classes) < negative_log_likelihood(probabilities, classes, 1.0)
    return (fit_temperature(probabilities, classes) if helps else 1.0), errors


def choose_largest(cases: Sequence[Case], predicted: dict[str, Path], scheme: LabelScheme) -> tuple[str, ...]:
    """Return the structures whose Dice over these cases is higher with their largest part alone."""
    before: dict[str, list[float]] = {name: [] for name in scheme.structures}
    after: dict[str, list[float]] = {name: [] for name in scheme.structures}
    for case in cases:
        assert case.label is not None
        _, label, _ = read_label(case.label, scheme.allowed)
        _, guess, _ = read_label(predicted[case.name], scheme.predicted)
        known = np.ones(label.shape, np.bool_) if scheme.ignore is None else ~scheme.ignored(label)
        for name, shown in zip(scheme.structures, scheme.flags(case.annotated), strict=True):
            truth, mask = scheme.mask(label, name) & known, scheme.mask(guess, name)
            if not shown or not (truth.any() or (mask & known).any()):
                continue
            before[name].append(dice(truth, mask & known))
            after[name].append(dice(truth, largest_component(mask) & known))
    return worth_it(before, after)


def to_json(found: OutOfFold) -> dict[str, Any]:
    """Return what is remembered of the scores."""
    interval = None
    if found.interval is not None:
        interval = {"low": found.interval.low, "high": found.interval.high, "how": found.interval.how}
    return {
        "temperature": found.temperature,
        "largest": list(found.largest),
        "out_of_fold": {
            "dice": found.dice,
            "interval": interval,
            "cases": found.cases,
            "calibration_error": found.errors and list(found.errors),
        },
    }


def tell(found: OutOfFold, place: Path) -> None:
    """Say the scores, and what follows from them."""
    spread = ""
    if found.interval is not None:
        low, high = found.interval.low, found.interval.high
        spread = f" (95 % interval {low:.3f} to {high:.3f}, {found.interval.how})"
    say(f"out of fold: Dice {found.dice:.3f}{spread}; {place}")
    kept = ", ".join(found.largest)
    say(
        f"only the largest part is kept of: {kept}" if kept else "the largest part alone is better for no structure"
    )
    if found.errors is not None:
        before, after = found.errors
        chosen = f"temperature {found.temperature:.2f}" if found.temperature != 1 else "no temperature helps"
        say(f"calibration error {before:.3f}, {after:.3f} with that of the other folds; {chosen}")
