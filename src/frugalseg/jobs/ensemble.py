"""One model or several whose probabilities are averaged: what `frugalseg predict` opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frugalseg.config import Config
from frugalseg.data.preprocess import Preparation, Prepared, preprocess
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.source import DataSource
from frugalseg.errors import DataError, UserError
from frugalseg.inference.inputs import PredictionInput, read_input
from frugalseg.inference.restore import Place, placed_blocks
from frugalseg.inference.window import slabs, thin_axis
from frugalseg.jobs.ensemble_record import ENSEMBLE, read_ensemble
from frugalseg.jobs.model import Model, load_model
from frugalseg.jobs.voters import Laid, Voters
from frugalseg.jobs.voters_of_run import voters_of
from frugalseg.semisup.votes import with_votes
from frugalseg.training.plan import Plan

LEAST = 1e-7  # a probability below this counts as this, as where the temperature was found
RUN_FILES = ("run.json", ENSEMBLE)


@dataclass(frozen=True)
class Ensemble:
    """Models of one label scheme, and what is done to the mean of their probabilities.

    Attributes:
        members: At least one; labels, channels and crop are the same for all.
        temperature: Divides the logits before probabilities are written; it changes no label.
        largest: Structures of which only the largest part is kept.
        voters: Each member's labelled cases that vote, too; empty for none.
    """

    members: tuple[Model, ...]
    temperature: float = 1.0
    largest: tuple[str, ...] = ()
    voters: tuple[Voters | None, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names."""
        return self.members[0].channels

    @property
    def scheme(self) -> LabelScheme:
        """What the labels mean."""
        return self.members[0].scheme

    @property
    def plan(self) -> Plan:
        """The first member's, whose crop is that of all."""
        return self.members[0].plan

    @property
    def config(self) -> Config:
        """The first member's."""
        return self.members[0].config

    @property
    def lost(self) -> list[str]:
        """The labelled cases that could not be registered onto the last image, and had no vote."""
        return sorted({name for one in self.voters if one is not None for name in one.lost})

    def prepare(self, item: PredictionInput) -> tuple[Prepared, ...]:
        """Read a case and do to it what was done to each member's training images; mostly that is the same for all.

        Raises:
            DataError: A file cannot be read, has voxels that are no numbers, or does not fit the models.
        """
        grid, image = read_input(item, self.channels)
        prepared: list[Prepared] = []
        for place, member in enumerate(self.members):
            how = self.preparation(member)
            same = [p for p in range(place) if self.preparation(self.members[p]) == how]
            if same:
                prepared.append(prepared[same[0]])
                continue
            try:
                prepared.append(preprocess(grid, image, how, item.missing))
            except ValueError as error:
                raise DataError(f"{error}; mend the image, or its header", item.files[0]) from error
        return tuple(prepared)

    def preparation(self, member: Model) -> Preparation:
        """Return what is done to images for a member: in an ensemble all bring them to the same voxels.

        A run of before did not note what spacing its images had, or has it a little otherwise.
        """
        known = (one.preparation.uniform for one in self.members)
        uniform = next((one for one in known if one is not None), None)
        own = member.preparation
        return own if own.spacing is not None else own.model_copy(update={"uniform": uniform})

    def resampled(self, prepared: Sequence[Prepared]) -> str | None:
        """Say that an image's voxels were not as those of all training images; None where they were."""
        placement, how = prepared[0].placement, self.preparation(self.members[0])
        if placement.shape is None or how.spacing is not None or how.uniform is None:
            return None
        own, known = (
            " x ".join(f"{side:.4g}" for side in size) for size in (placement.cut_grid.spacing, how.uniform)
        )
        return f"has voxels of {own} mm; resampled to the {known} mm of all training images, and back"

    def blocks(self, prepared: Sequence[Prepared], flips: bool) -> Iterator[tuple[Place, Tensor]]:
        """Predict a volume; yield its probabilities (R x K, x, y, z) on the cut grid in blocks with their places.

        The memory is that of the classes in one window's depth of the volume for each member, not in all of it.
        """
        voters = self.voters or (None,) * len(self.members)
        streams = [
            blocks_of(member, own, flips, voter)
            for member, own, voter in zip(self.members, prepared, voters, strict=True)
        ]
        for parts in zip(*streams, strict=True):
            place, total = parts[0]
            for _, values in parts[1:]:
                total = total + values
            yield place, total / len(parts) if len(parts) > 1 else total

    def calibrated(self, block: Tensor) -> Tensor:
        """Return probabilities (R x K, x, y, z) at the ensemble's temperature."""
        if self.temperature == 1:
            return block
        split = block.unflatten(0, (self.scheme.groups, self.scheme.classes))
        tempered: Tensor = (split.clamp(min=LEAST).log() / self.temperature).softmax(dim=1)
        return tempered.flatten(0, 1)


def blocks_of(
    model: Model, prepared: Prepared, flips: bool, voters: Voters | None = None
) -> Iterator[tuple[Place, Tensor]]:
    """Yield a single model's probabilities; see `Ensemble.blocks`."""
    axis, blended = slabs_of(model, prepared, flips)
    if voters is not None:
        share = model.config.inference.registration
        blended = with_votes(blended, axis, voters.vote(prepared).slab, share)
    return placed_blocks(prepared.placement, blended, axis)


def slabs_of(model: Model, prepared: Prepared, flips: bool) -> tuple[int, Iterator[Tensor]]:
    """Return an axis, and a network's probabilities (R x K, x, y, z) on the prepared grid in slabs along it."""
    axis = thin_axis(prepared.image.shape[1:], model.plan.crop)
    settings = model.config.inference
    blended = slabs(
        torch.from_numpy(prepared.image),
        model.plan.crop,
        lambda windows: model.predict(windows, flips),
        prepared.background,
        axis,
        settings.overlap,
        settings.windows(model.plan.crop),
    )
    return axis, blended


def is_trained(folder: Path) -> bool:
    """Whether a folder is a training run or a folder of folds, and not a folder of images."""
    return any((folder / name).is_file() for name in RUN_FILES)


def open_ensemble(
    runs: Sequence[Path],
    checkpoint: str | None = None,
    register: bool = True,
    data: DataSource | None = None,
    store: Path | None = None,
) -> Ensemble:
    """Open the models of runs, or of the folders that `train --folds` made.

    A folder of folds brings its temperature and its structures of one part if it is given alone.

    Args:
        runs: Their folders.
        checkpoint: "last" or "best".
        register: Whether labelled cases vote where a run's configuration gives them a share.
        data: The runs' data set, if it is not where it was.
        store: Where prepared cases are kept.

    Raises:
        UserError: There is no run or checkpoint, or they do not fit each other.
        DataError: A file is damaged or does not fit.
    """
    folders: list[Path] = []
    facts: dict[str, Any] = {}
    for run in runs:
        if (run / ENSEMBLE).is_file():
            facts = read_ensemble(run)
            folders += [run / name for name in facts["members"]]
        else:
            folders.append(run)
    members = tuple(load_model(folder, checkpoint) for folder in folders)
    for folder, member in zip(folders[1:], members[1:], strict=True):
        _require_like(members[0], folders[0], member, folder)
    voters: tuple[Voters | None, ...] = ()
    if register:
        laid = Laid()
        voters = _shared([voters_of(*one, data, store, laid) for one in zip(folders, members, strict=True)])
    if len(runs) > 1 or not facts:
        return Ensemble(members, voters=voters)
    return Ensemble(members, facts["temperature"], tuple(facts["largest"]), voters)


def _shared(voters: Sequence[Voters | None]) -> tuple[Voters | None, ...]:
    """Let members with the same labelled cases have the same voters, so that these are asked once an image."""
    found: list[Voters | None] = []
    for one in voters:
        same = [other for other in found if one is not None and other is not None and one.like(other)]
        found.append(same[0] if same else one)
    return tuple(found)


def _require_like(first: Model, first_folder: Path, other: Model, folder: Path) -> None:
    """Refuse models whose probabilities cannot be averaged."""
    same = "average runs of one data set and recipe"
    for what, own, its in (
        ("labels", first.scheme, other.scheme),
        ("channels", first.channels, other.channels),
        ("crop", first.plan.crop, other.plan.crop),
        ("overlap of windows", first.config.inference.overlap, other.config.inference.overlap),
        ("cropping of the border of zeros", first.preparation.crop_nonzero, other.preparation.crop_nonzero),
    ):
        if own != its:
            detail = f" ({own} there, {its} here)" if what == "crop" else ""
            raise UserError(f"has another {what} than {first_folder.name}{detail}; {same}", folder)
    before, now = first.preparation, other.preparation
    if not before.same_voxels(now):
        told = f"{before.spacing or before.uniform} there, {now.spacing or now.uniform} here"
        raise UserError(f"has another voxel spacing than {first_folder.name} ({told}); {same}", folder)
