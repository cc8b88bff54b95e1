"""Finished runs as teachers: what they say of the unlabelled volumes is what the next run learns (self-training).

A round of self-training with an ensemble (Xie et al. 2020, Noisy Student): teachers look at whole volumes as they
are, flipped and unflipped, and registered labelled cases vote beside them where their recipe says so; the student
sees strongly changed crops. What they say is made once and kept in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.preprocess import Preparation
from frugalseg.data.store import Entry, StoredCase, default_store, open_array
from frugalseg.data.warp import Floats
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_value, read_json_object
from frugalseg.formats import RUN_FORMAT, VOTERS, describing, read_sealed
from frugalseg.inference.inputs import PredictionInput
from frugalseg.jobs.ensemble import Ensemble, open_ensemble, slabs_of
from frugalseg.jobs.ensemble_record import ENSEMBLE, read_ensemble
from frugalseg.jobs.initial import Initial, read_initial
from frugalseg.jobs.record import RECORD, SPLIT
from frugalseg.jobs.registrations import Registrations, workers_that_fit
from frugalseg.jobs.show import bar, say
from frugalseg.jobs.voters import files_of, with_votes

VERSION = 1  # of what is computed: another one makes it anew


@dataclass(frozen=True)
class TeacherRun:
    """A run that teaches: what it is, and the cases whose labels it has learnt from."""

    known: Initial
    labelled: tuple[str, ...]
    validation: tuple[str, ...]
    voters: Mapping[str, list[str]]


@dataclass(frozen=True)
class TeacherRuns:
    """Runs whose probabilities are averaged."""

    runs: tuple[TeacherRun, ...]
    ensemble: Ensemble

    def to_json(self) -> list[dict[str, Any]]:
        """Return what run.json says of them."""
        return [
            {**run.known.to_json(False), "labelled": sorted({*run.labelled, *run.validation})} for run in self.runs
        ]

    def require_fit(self, manifest: Manifest, split: Split, preparation: Preparation) -> None:
        """Refuse teachers that know more than the run may, or that segment something else.

        Raises:
            UserError: Says which run, and what it knows.
        """
        for run in self.runs:
            known = run.known
            if known.scheme != manifest.scheme or known.channels != manifest.channels:
                what = "labels" if known.scheme != manifest.scheme else "channels"
                raise UserError(f"has other {what} than this data set, and cannot teach a run on it", known.run)
            if known.transductive and not manifest.transductive:
                raise UserError(
                    "has seen the test cases' images (--transductive), so this run will have, too: add "
                    "--transductive, which reports then tell, or choose another teacher",
                    known.run,
                )
            known.require_unseen(manifest)
            ours = {case.name for case in manifest.training}
            beyond = ({*run.labelled} - {*split.labelled}) | ({*run.validation} - split.readable)
            if read := sorted(beyond & ours):
                raise UserError(
                    f"has read the label of {read[0]!r}, which is not among the labels that this run "
                    "may train on; give both the same --labels and --label-seed",
                    known.run,
                )
            if known.preparation[0] != preparation:
                raise UserError(
                    "was trained on images that were prepared in another way (spacing, cropping or intensities); "
                    "leave the preprocess settings as they are there",
                    known.run,
                )

    def teach(self, manifest: Manifest, cases: Sequence[StoredCase], labelled: int, root: Path) -> list[StoredCase]:
        """Return cases, the unlabelled ones with the teachers' probabilities; what the store lacks is made.

        Args:
            manifest: The data set.
            cases: Labelled cases first, then unlabelled ones.
            labelled: How many are labelled.
            root: The store.

        Raises:
            DataError: A file cannot be read.
        """
        by_name = {case.name: case for case in cases[:labelled]}
        votes = [self._votes(run, by_name, cases[labelled:], manifest, root) for run in self.runs]
        files = {case.name: case for case in manifest.training}
        taught = []
        with bar("asking the teachers", len(cases) - labelled) as advance:
            for place, case in enumerate(cases[labelled:]):
                own = [None if some is None else some[place] for some in votes]
                content = {
                    "version": VERSION,
                    "target": case.key,
                    "teachers": [member.sha256 for member in self.ensemble.members],
                    "temperature": self.ensemble.temperature,
                    "votes": [None if one is None else one.key for one in own],
                    "shares": [member.config.inference.registration for member in self.ensemble.members],
                }
                entry = Entry(root, f"{case.name}-taught", hash_value(content))
                if entry.read() is None:
                    source = files[case.name]
                    item = PredictionInput(case.name, source.images, source.missing)
                    entry.write({"guess": self._says(item, case, own)}, {})
                key = hash_value({"case": case.key, "guess": entry.key})
                taught.append(replace(case, guess=entry.array("guess"), key=key))
                advance()
        return [*cases[:labelled], *taught]

    def _votes(
        self,
        run: TeacherRun,
        labelled: Mapping[str, StoredCase],
        targets: Sequence[StoredCase],
        manifest: Manifest,
        root: Path,
    ) -> list[Entry] | None:
        """Return what holds each target's votes of a teacher's labelled cases, None where these do not vote."""
        config = run.known.config
        if config.atlas is None or not config.inference.registration:
            return None
        known = [labelled[name] for name in run.voters if name in labelled]
        if [files_of(case) for case in known] != list(run.voters.values()):
            say(f"{run.known.run}: teaches without its registered cases, which are not those of this run")
            return None
        workers = workers_that_fit([*known, *targets], len(known), manifest.scheme)
        return Registrations(known, manifest.scheme, config.atlas, root).label(targets, workers)

    def _says(self, item: PredictionInput, case: StoredCase, votes: Sequence[Entry | None]) -> NDArray[np.uint8]:
        """Return the mean probabilities (R x K, x, y, z) of a case on its prepared grid, in 255ths."""
        prepared = self.ensemble.prepare(item)
        if prepared[0].image.shape[1:] != case.shape:
            raise DataError(f"{case.name}: was changed while it was read; run again", item.files[0])
        groups, streams, axis = self.ensemble.scheme.groups, [], 0
        for member, own, vote in zip(self.ensemble.members, prepared, votes, strict=True):
            axis, slabs = slabs_of(member, own, flips=True)
            if vote is not None:
                shares: Floats = np.asarray(open_array(vote.array("guess"))[:], np.float32) / np.float32(255)
                slabs = with_votes(slabs, axis, shares, member.config.inference.registration, groups)
            streams.append(slabs)
        rows = [
            (255 * self.ensemble.calibrated(sum(parts[1:], parts[0]) / len(parts)).clamp(0, 1)).round().byte()
            for parts in zip(*streams, strict=True)
        ]
        return np.concatenate([row.numpy() for row in rows], axis=axis + 1)


def open_teachers(runs: Sequence[Path]) -> TeacherRuns:
    """Open finished runs, or folders of folds, that are to teach.

    Raises:
        UserError: One is no finished run, or they do not fit each other.
        DataError: A file is damaged.
    """
    folders = [folder for run in runs for folder in members_of(run)]
    return TeacherRuns(tuple(read_teacher(folder) for folder in folders), open_ensemble(runs, register=False))


def members_of(run: Path) -> list[Path]:
    """Return a run's folder, or those of the runs that a folder of folds holds."""
    return [run / name for name in read_ensemble(run)["members"]] if (run / ENSEMBLE).is_file() else [run]


def read_teacher(folder: Path) -> TeacherRun:
    """Read what a run is and knows.

    Raises:
        UserError: It is no finished run.
        DataError: A file is damaged.
    """
    known = read_initial(folder)
    if known.pretrained:
        raise UserError("is a pre-training, which segments nothing and cannot teach", folder)
    split = Split.from_json(read_json_object(folder / SPLIT), folder / SPLIT)
    record = read_sealed(folder / RECORD, RUN_FORMAT)
    with describing("a run", folder / RECORD):
        # What its own teachers knew it has learnt from them.
        before = [str(name) for teacher in record.get("teachers", []) for name in teacher["labelled"]]
        voters = {str(name): [str(file) for file in pair] for name, pair in dict(record.get(VOTERS, {})).items()}
    most = known.config.atlas.most if known.config.atlas is not None else 0
    order = [name for name in split.labelled if name in voters][:most]
    return TeacherRun(
        known, tuple(dict.fromkeys([*split.labelled, *before])), split.validation, {n: voters[n] for n in order}
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
        before = [Path(teacher["run"]) for teacher in facts.get("teachers", [])]
        now = [folder.resolve() for run in teachers for folder in members_of(run)]
        if before != now:
            how = " ".join(f"--teacher {run}" for run in before) or "no --teacher"
            raise UserError(f"was begun with {how}; repeat its command", out)
    if not teachers:
        if config.semisup is not None and config.semisup.first == "runs":
            raise UserError("semisup.first=runs needs finished runs that teach; name them", "--teacher")
        return config
    if config.semisup is None:
        raise UserError(
            f"{config.method!r} learns from no teacher; choose frugal, mean-teacher or copy-paste, or set semisup",
            "--teacher",
        )
    return config.taught_by_runs()


def require_same_teachers(facts: Mapping[str, Any] | None, teachers: TeacherRuns) -> None:
    """Refuse teachers that are not what they were when the run began.

    Raises:
        DataError: Names the first that changed.
    """
    if facts is None:
        return
    for before, run in zip(facts.get("teachers", []), teachers.runs, strict=True):
        if before["sha256"] != run.known.sha256:
            raise DataError(
                "has other weights than when this run began with it; restore them, or start a new run",
                run.known.run,
            )


def taught(
    teachers: TeacherRuns | None, manifest: Manifest, split: Split, cases: list[StoredCase], store: Path | None
) -> list[StoredCase]:
    """Return a run's cases (labelled, unlabelled, for validation) with what its teachers say of the unlabelled."""
    if teachers is None:
        return cases
    last = len(split.labelled) + len(split.unlabelled)
    root = store or default_store()
    return [*teachers.teach(manifest, cases[:last], len(split.labelled), root), *cases[last:]]
