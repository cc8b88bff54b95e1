"""Runs that are to teach: what they are, what they know, and which of them may teach a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.prepare import key_of_image
from frugalseg.data.preprocess import Preparation
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file, hash_value, read_json_object
from frugalseg.formats import RUN_FORMAT, VOTERS, describing, read_sealed
from frugalseg.jobs.ensemble_record import ENSEMBLE, read_ensemble
from frugalseg.jobs.fair_start import require_not_transductive, require_unseen
from frugalseg.jobs.initial import Initial, read_initial
from frugalseg.jobs.labels_read import KEY
from frugalseg.jobs.record import RECORD, SPLIT
from frugalseg.training.seal import BEST, LAST, WEIGHTS, find_intact


@dataclass(frozen=True)
class TeacherRun:
    """A run that teaches.

    Attributes:
        known: What it is, and what it has seen; without its weights.
        checkpoint: Whose weights teach: those that `predict` takes.
        step: Theirs.
        sha256: Of their file.
        voters: Its labelled cases that vote in its predictions, in order, with the names of their arrays.
    """

    known: Initial
    checkpoint: str
    step: int
    sha256: str
    voters: Mapping[str, list[str]]


@dataclass(frozen=True)
class TeacherRuns:
    """Runs whose probabilities are averaged: as they were named, and each; the temperature of a folder of folds."""

    given: tuple[Path, ...]
    runs: tuple[TeacherRun, ...]
    temperature: float

    def to_json(self) -> dict[str, Any]:
        """Return what run.json says of them."""
        members = [
            {
                **run.known.to_json(False),
                "checkpoint": run.checkpoint,
                "step": run.step,
                "sha256": run.sha256,
            }
            for run in self.runs
        ]
        return {"runs": [str(run.resolve()) for run in self.given], "members": members}

    @property
    def preparation(self) -> tuple[Preparation, dict[str, str]]:
        """What was done to the images that the first of them knows, and why."""
        return self.runs[0].known.preparation[0], {"preparation": f"as for the teacher, {self.runs[0].known.run}"}

    def require_fit(self, config: Config, manifest: Manifest, split: Split) -> None:
        """Refuse teachers that know more than the run may, or that segment something else.

        Raises:
            UserError: Says which run, and what it knows.
        """
        if config.semisup is None:
            raise UserError("every volume is labelled: there is none to be taught; leave it out", "--teacher")
        keys: dict[str, dict[str, str]] = {}  # of images, by what is done to them: their files are read once
        for run in self.runs:
            known, how = run.known, run.known.preparation[0]
            if known.scheme != manifest.scheme or known.channels != manifest.channels:
                what = "labels" if known.scheme != manifest.scheme else "channels"
                raise UserError(
                    f"was trained on other {what} than this data set has; choose a teacher that was trained on "
                    "data like these",
                    known.run,
                )
            if known.config.preprocess != config.preprocess:
                raise UserError(
                    "was trained with other preprocess settings; leave them as they are there", known.run
                )
            require_not_transductive(known, manifest)
            require_unseen(known, manifest)
            done = hash_value(how.model_dump(mode="json"))
            if done not in keys:
                keys[done] = {case.name: key_of_image(case, how)[:KEY] for case in manifest.training}
            require_known(known, keys[done], split)

    def require_prepared_alike(self, preparation: Preparation) -> None:
        """Refuse teachers that know images of another spacing, or cut otherwise: these are other voxels.

        Raises:
            UserError: Says which run, and what differs.
        """
        for known in (run.known for run in self.runs):
            how = known.preparation[0]
            for words, alike, before, now in (
                (
                    "voxel spacing",
                    how.same_voxels(preparation),
                    how.spacing or how.uniform,
                    preparation.spacing or preparation.uniform,
                ),
                (
                    "cropping of zeros",
                    how.crop_nonzero == preparation.crop_nonzero,
                    how.crop_nonzero,
                    preparation.crop_nonzero,
                ),
            ):
                if not alike:
                    raise UserError(
                        f"was trained on images of another {words} ({before} there, {now} here); choose teachers "
                        "of one kind, or train them on this data set",
                        known.run,
                    )


def require_known(known: Initial, keys: Mapping[str, str], split: Split) -> None:
    """Refuse a teacher that has learnt from a label of this data set that the run may not learn from.

    Args:
        known: What it is.
        keys: Of the training images, by case, as they were prepared for it.
        split: Whose labels the run may read.

    Raises:
        UserError: Names the case.
    """
    if not known.labels.complete:
        raise UserError(
            "began with weights that had read labels, and an older version did not record which; train it anew",
            known.run,
        )
    for name, key in keys.items():
        learnt = key in known.labels.trained and name not in split.labelled
        chosen = key in known.labels.chosen and name not in split.readable
        if learnt or chosen:
            raise UserError(
                f"has read the label of {name!r}, which is not among the labels that this run trains on; give "
                "both the same --labels, --label-seed and --validation",
                known.run,
            )


def open_teachers(runs: Sequence[Path]) -> TeacherRuns:
    """Read what finished runs, or folders of folds, are that are to teach.

    Raises:
        UserError: One is no finished run.
        DataError: A file is damaged.
    """
    folders, temperature = [], 1.0
    for run in runs:
        if not (run / ENSEMBLE).is_file():
            folders.append(run)
            continue
        facts = read_ensemble(run)
        folders += [run / name for name in facts["members"]]
        temperature = float(facts["temperature"]) if len(runs) == 1 else 1.0
    return TeacherRuns(tuple(runs), tuple(read_teacher(folder) for folder in folders), temperature)


def read_teacher(folder: Path) -> TeacherRun:
    """Read what a run is and knows.

    Raises:
        UserError: It is no finished run.
        DataError: A file is damaged.
    """
    known = replace(read_initial(folder), weights={})
    if known.pretrained:
        raise UserError("is a pre-training, which segments nothing and cannot teach; name a run of `train`", folder)
    found = find_intact(folder / BEST) or find_intact(folder / LAST)
    assert found is not None
    record, split = read_sealed(folder / RECORD, RUN_FORMAT), read_json_object(folder / SPLIT)
    with describing("a run", folder / RECORD):
        voters = {str(name): [str(file) for file in pair] for name, pair in dict(record.get(VOTERS, {})).items()}
        most = known.config.atlas.most if known.config.atlas is not None else 0
        order = [str(name) for name in split["labelled"] if name in voters][:most]
    return TeacherRun(
        known,
        found.place.name,
        int(found.facts["step"]),
        hash_file(found.place / WEIGHTS),
        {name: voters[name] for name in order},
    )


def require_teachers(
    config: Config, teachers: Sequence[Path], facts: Mapping[str, Any] | None, out: Path
) -> Config:
    """Return the configuration, taught by runs if there are any.

    Args:
        config: As the recipe and the settings say.
        teachers: The runs.
        facts: What run.json says, if the run goes on.
        out: The run's folder.

    Raises:
        UserError: The method learns from no teacher, there is none, or the run began with others.
    """
    if facts is not None:
        before = [str(run) for run in (facts.get("teachers") or {"runs": []})["runs"]]
        if before != [str(run.resolve()) for run in teachers]:
            how = " ".join(f"--teacher {run}" for run in before) or "no --teacher"
            raise UserError(f"was begun with {how}; repeat its command", out)
    if not teachers:
        require_taught_by_nobody(config)
        return config
    if config.semisup is None:
        raise UserError(
            f"{config.method!r} learns from no teacher; choose frugal, mean-teacher or copy-paste, or set semisup",
            "--teacher",
        )
    return config.taught_by_runs()


def require_taught_by_nobody(config: Config) -> None:
    """Refuse a configuration that wants runs as teachers where none can be named.

    Raises:
        UserError: It does.
    """
    if config.semisup is not None and config.semisup.first == "runs":
        raise UserError(
            "semisup.first=runs needs finished runs that teach; name them with `train --teacher`", "--teacher"
        )


def require_same_teachers(facts: Mapping[str, Any] | None, teachers: TeacherRuns) -> None:
    """Refuse teachers that are not what they were when the run began.

    Raises:
        DataError: Names the first that changed.
    """
    if facts is None:
        return
    members = facts["teachers"]["members"]
    if len(members) != len(teachers.runs):
        raise DataError(
            f"had {len(members)} models when this run began with it, and now has {len(teachers.runs)}; restore "
            "them, or start a new run",
            teachers.runs[0].known.run.parent,
        )
    for before, run in zip(members, teachers.runs, strict=True):
        if before["sha256"] != run.sha256:
            raise DataError(
                "has other weights than when this run began with it; restore them, or start a new run",
                run.known.run,
            )
