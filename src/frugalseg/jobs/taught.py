"""Finished runs as teachers: what they say of the unlabelled volumes is what the next run learns (self-training).

A round of self-training with an ensemble (Xie et al. 2020, Noisy Student): teachers look at whole volumes as they
are, flipped and unflipped, and registered labelled cases vote beside them where their recipe says so; the student
sees strongly changed crops. What they say is made once and kept in the store.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import Entry, StoredCase, default_store, open_array
from frugalseg.data.warp import Floats
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_value
from frugalseg.inference.inputs import PredictionInput
from frugalseg.jobs.ensemble import Ensemble, open_ensemble, slabs_of
from frugalseg.jobs.predict_needs import say_needs
from frugalseg.jobs.registrations import NotAlikeError, Registrations, files_of, workers_that_fit
from frugalseg.jobs.show import bar, say
from frugalseg.jobs.teacher_runs import TeacherRun, TeacherRuns
from frugalseg.semisup.votes import SlabOf, with_votes
from frugalseg.training.plan import gpu_there

VERSION = 1  # of what is computed: another one makes it anew


def taught(
    teachers: TeacherRuns | None, manifest: Manifest, split: Split, cases: list[StoredCase], store: Path | None
) -> list[StoredCase]:
    """Return a run's cases (labelled, unlabelled, for validation) with what its teachers say of the unlabelled."""
    if teachers is None:
        return cases
    labelled, last = len(split.labelled), len(split.labelled) + len(split.unlabelled)
    told = Taught(teachers, manifest, cases[:labelled], store or default_store()).teach(cases[labelled:last])
    return [*cases[:labelled], *told, *cases[last:]]


@dataclass(frozen=True)
class Taught:
    """Teachers and the data that they teach on.

    Attributes:
        teachers: The runs.
        manifest: The data set.
        labelled: The run's labelled cases, some of which vote where a teacher's recipe says so.
        root: The store.
    """

    teachers: TeacherRuns
    manifest: Manifest
    labelled: Sequence[StoredCase]
    root: Path

    def teach(self, targets: Sequence[StoredCase]) -> list[StoredCase]:
        """Return cases with the teachers' mean probabilities; what the store lacks is made.

        Raises:
            UserError: A teacher's labelled cases cannot be registered.
            DataError: A file cannot be read.
        """
        votes = [self._votes(run, targets) for run in self.teachers.runs]
        own = [[None if some is None else some[place] for some in votes] for place in range(len(targets))]
        entries = [self._entry(case, some) for case, some in zip(targets, own, strict=True)]
        missing = [place for place, entry in enumerate(entries) if entry.read() is None]
        if missing:
            self._make([(targets[place], own[place], entries[place]) for place in missing])
        return [
            # The key changes, because what is learnt from the case does: a run goes on with these or not at all.
            replace(case, guess=entry.array("guess"), key=hash_value({"case": case.key, "guess": entry.key}))
            for case, entry in zip(targets, entries, strict=True)
        ]

    def _entry(self, case: StoredCase, votes: Sequence[Entry | None]) -> Entry:
        content = {
            "version": VERSION,
            "target": case.image.name,  # which carries its key
            "teachers": [[run.sha256, run.known.preparation[0].key()] for run in self.teachers.runs],
            "temperature": self.teachers.temperature,
            "votes": [None if one is None else one.key for one in votes],
            "shares": [run.known.config.inference.registration for run in self.teachers.runs],
        }
        return Entry(self.root, f"{case.name}-taught", hash_value(content))

    def _make(self, wanted: Sequence[tuple[StoredCase, Sequence[Entry | None], Entry]]) -> None:
        """Ask the teachers, who are in memory no longer than that."""
        files = {case.name: case for case in self.manifest.training}
        ensemble = open_ensemble(self.teachers.given, register=False)
        names = [case.name for case, _, _ in wanted]
        items = [PredictionInput(name, files[name].images, files[name].missing) for name in names]
        say_needs(ensemble, items, self.root, "asking the teachers")
        with bar("asking the teachers", len(wanted)) as advance:
            for item, (case, votes, entry) in zip(items, wanted, strict=True):
                entry.write({"guess": said(ensemble, item, case, votes)}, {})
                advance()
        del ensemble
        gc.collect()  # what they held of a GPU is free for the training
        if gpu_there():
            torch.cuda.empty_cache()

    def _votes(self, run: TeacherRun, targets: Sequence[StoredCase]) -> list[Entry] | None:
        """Return what holds each target's votes of a teacher's labelled cases, None where these do not vote."""
        config = run.known.config
        if config.atlas is None or not config.inference.registration:
            return None
        by_name = {case.name: case for case in self.labelled}
        known = [by_name[name] for name in run.voters if name in by_name]
        if [files_of(case) for case in known] != list(run.voters.values()):
            say(f"{run.known.run}: teaches without its registered cases, which are not those of this run")
            return None
        workers = workers_that_fit([*known, *targets], len(known), self.manifest.scheme, config.atlas)
        try:
            return Registrations(known, self.manifest.scheme, config.atlas, self.root).label(targets, workers)
        except NotAlikeError as error:
            raise UserError(
                f"gives its registered labelled cases a share of what it says, and {error}; choose another teacher",
                run.known.run,
            ) from error


def kept_votes(entry: Entry, scheme: LabelScheme) -> SlabOf:
    """Return what gives slabs of votes that are kept in the store."""
    array = open_array(entry.array("guess"))

    def slab(axis: int, start: int, stop: int) -> Floats:
        box = [slice(None)] * 4
        box[axis + 1] = slice(start, stop)
        found = np.asarray(array[tuple(box)], np.float32) / np.float32(255)
        return found.reshape(scheme.groups, scheme.classes, *found.shape[1:])

    return slab


def said(
    ensemble: Ensemble, item: PredictionInput, case: StoredCase, votes: Sequence[Entry | None]
) -> NDArray[np.uint8]:
    """Return the mean probabilities (R x K, x, y, z) of a case on its prepared grid, in 255ths.

    Args:
        ensemble: The teachers' models.
        item: The case's files.
        case: It, prepared.
        votes: What holds the registered cases' votes, for each member; None: they have none.

    Raises:
        DataError: The case's files have changed since it was prepared.
    """
    prepared = ensemble.prepare(item)
    if prepared[0].image.shape[1:] != case.shape:
        raise DataError(f"case {case.name!r} is not what was prepared; run the command again", item.files[0])
    streams, axis = [], 0
    for member, own, vote in zip(ensemble.members, prepared, votes, strict=True):
        axis, slabs = slabs_of(member, own, flips=True)
        if vote is not None:
            share = member.config.inference.registration
            slabs = with_votes(slabs, axis, kept_votes(vote, ensemble.scheme), share)
        streams.append(slabs)
    rows = [
        (255 * ensemble.calibrated(sum(parts[1:], parts[0]) / len(parts)).clamp(0, 1)).round().byte()
        for parts in zip(*streams, strict=True)
    ]
    return np.concatenate([row.numpy() for row in rows], axis=axis + 1)
