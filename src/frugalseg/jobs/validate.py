"""Looking at the validation cases during training: their labels are part of the budget, and choose `best`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalseg.config import Config
from frugalseg.data.scheme import IGNORED, LabelScheme
from frugalseg.data.store import ArrayCache, StoredCase
from frugalseg.evaluation.overlap import dice
from frugalseg.inference.restore import placed_blocks
from frugalseg.inference.window import class_indices, probabilities, slabs, thin_axis
from frugalseg.networks import MultiTaskNetwork
from frugalseg.training.plan import Plan

NOTHING_THERE = float("nan")
RULE = "missed or spurious: 0; in neither, or not annotated: left out"


@dataclass
class Best:
    """The best score so far, and the step it was reached at; `step` 0 before the first look."""

    step: int = 0
    dice: float = -1.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"step": self.step, "dice": self.dice}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Best:
        """Read what `to_json` wrote."""
        return Best(int(value["step"]), float(value["dice"]))


class CutOff(Exception):
    """A look that is not worth waiting for any more."""


class Validation:
    """Scores the network on whole validation volumes, in the files' own voxels (of the prepared box).

    Args:
        cases: The validation cases, with their labels.
        config: The run's configuration (overlap and batch of windows).
        plan: The run's plan (crop, device, precision).
        scheme: What the labels mean.
    """

    def __init__(self, cases: Sequence[StoredCase], config: Config, plan: Plan, scheme: LabelScheme) -> None:
        self.cases, self.config, self.plan, self.scheme = tuple(cases), config, plan, scheme
        self._arrays = ArrayCache()

    @property
    def columns(self) -> list[str]:
        """Names of what a look returns."""
        return ["dice", *(f"dice.{name}" for name in self.scheme.structures)]

    def look(
        self, network: MultiTaskNetwork, cut_off: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Return the mean Dice over cases of each case's mean over its structures, and each structure's mean.

        A structure that is in neither truth nor prediction does not count, nor one that was not annotated; missed
        or spurious ones count 0. Ignored voxels are in neither.

        Args:
            network: In evaluation mode afterwards.
            cut_off: Asked before each batch of windows; once it is true the look ends and returns None.
        """
        network.eval()
        try:
            scores = np.array([self._case(network, case, cut_off) for case in self.cases])
        except CutOff:
            return None
        per_case = [row[np.isfinite(row)].mean() for row in scores if np.isfinite(row).any()]
        result = {"dice": float(np.mean(per_case)) if per_case else 0.0}
        for name, column in zip(self.scheme.structures, scores.T, strict=True):
            known = column[np.isfinite(column)]
            result[f"dice.{name}"] = float(known.mean()) if len(known) else NOTHING_THERE
        return result

    def _case(self, network: MultiTaskNetwork, case: StoredCase, cut_off: Callable[[], bool]) -> list[float]:
        assert case.label is not None
        image = torch.from_numpy(np.asarray(self._arrays.open(case.image)[:], np.float32))
        # In the file's own voxels, as `evaluate` will: what resampling costs is part of the score.
        truth: NDArray[np.uint8] = np.asarray(self._arrays.open(case.truth or case.label)[:])
        groups, classes = self.scheme.groups, self.scheme.classes

        def predict(windows: Tensor) -> Tensor:
            if cut_off():
                raise CutOff
            with torch.autocast(self.plan.device, torch.bfloat16, enabled=self.plan.precision == "bf16"):
                logits = network.segment(windows.to(self.plan.device))
            return probabilities(logits, groups, classes)

        settings = self.config.inference
        axis = thin_axis(case.shape, self.plan.crop)
        blended = slabs(
            image,
            self.plan.crop,
            predict,
            case.background,
            axis,
            settings.overlap,
            settings.windows(self.plan.crop),
        )
        found = np.empty(truth.shape, np.uint8)
        for rows, block in placed_blocks(case.placement, blended, axis):
            found[(slice(None), *rows)] = class_indices(block, groups, classes).numpy()
        return known_dice(truth, found, classes, case.annotated)


def known_dice(
    truth: NDArray[np.uint8], found: NDArray[np.uint8], classes: int, annotated: Sequence[bool] | None
) -> list[float]:
    """Return the Dice of every structure from class indices (R, x, y, z); NaN where nothing can be said.

    Args:
        truth: `IGNORED` where nothing is known.
        found: The prediction.
        classes: K, background included.
        annotated: Whether the truth shows the structure, for each of the R (K - 1); None: it shows all.
    """
    found = np.where(truth == IGNORED, 0, found)
    scores = [dice(t == index, f == index) for t, f in zip(truth, found) for index in range(1, classes)]
    return [score if annotated is None or annotated[place] else NOTHING_THERE for place, score in enumerate(scores)]
