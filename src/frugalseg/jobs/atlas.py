"""Registering labelled cases onto others, each pair once: fields and fused labels are kept in the store.

What comes of it: probabilities for unlabelled cases, and ways in which labelled ones can be deformed.

Interrupted, it goes on where it was: what is complete and intact is not made again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.deform import Deformation
from frugalseg.data.manifest import Manifest
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import Entry, StoredCase, default_store, open_array
from frugalseg.data.warp import Floats, restored, thinned
from frugalseg.errors import UserError
from frugalseg.files import hash_value
from frugalseg.jobs.resources import free_memory, usable_cpus
from frugalseg.jobs.show import bar, say
from frugalseg.semisup.atlas import AtlasSettings, Labelled, bytes_needed, dice, fused
from frugalseg.semisup.registration import one_thread, register, registration_version

FIELDS, GUESSES = 1, 2  # versions of what is computed: another one makes it anew
CHECKED = 6  # labelled cases that are labelled by the others, to see whether registration works here
SHAPES = 24  # cases that a labelled one is deformed as


class NotAlikeError(UserError):
    """Images cannot be laid onto each other, or what comes of it is useless."""


def registered(
    config: Config, manifest: Manifest, split: Split, cases: Sequence[StoredCase], store: Path | None
) -> list[StoredCase]:
    """Return a run's cases with what the configuration wants of registration.

    Args:
        config: The run's.
        manifest: The data set.
        split: Whose labels may be read.
        cases: Labelled, unlabelled, then those for validation.
        store: Where prepared cases are kept.

    Raises:
        NotAlikeError: As `with_guesses`.
    """
    if config.atlas is None:
        return list(cases)
    labelled, last = len(split.labelled), len(split.labelled) + len(split.unlabelled)
    root = store or default_store()
    found = list(cases[:last])
    if config.semisup is not None and config.semisup.first == "registration":
        found = with_guesses(found, labelled, manifest.scheme, config.atlas, root)
    else:
        if config.inference.registration:
            require_whole(found[:labelled])
        require_useful(found[:labelled], manifest.scheme, config.atlas, root)
    if config.augment.deform:
        found = with_deformations(found, labelled, manifest.scheme, config.atlas, root)
    return [*found, *cases[last:]]


def with_guesses(
    cases: Sequence[StoredCase],
    labelled: int,
    scheme: LabelScheme,
    settings: AtlasSettings,
    root: Path,
    workers: int | None = None,
) -> list[StoredCase]:
    """Return the cases, the unlabelled ones with probabilities that the labelled ones give them.

    Args:
        cases: Labelled cases first, then unlabelled ones.
        labelled: How many are labelled.
        scheme: What the labels mean.
        settings: How they are registered and fused.
        root: The store.
        workers: Cases at a time; by default as many as processors and memory allow.

    Raises:
        NotAlikeError: The cases are not alike enough, or a label shows a part only.
    """
    known, others = list(cases[: min(labelled, settings.most)]), list(cases[labelled:])
    require_whole(known)
    require_useful(known, scheme, settings, root, workers)
    count = workers or workers_that_fit(cases, len(known), scheme)
    guesses = _Atlas(known, scheme, settings, root).label(others, count)
    return [
        *cases[:labelled],
        *(
            # The key changes, because what is learnt from the case does: a run goes on with these or not at all.
            replace(case, guess=entry.array("guess"), key=hash_value({"case": case.key, "guess": entry.key}))
            for case, entry in zip(others, guesses, strict=True)
        ),
    ]


def with_deformations(
    cases: Sequence[StoredCase],
    labelled: int,
    scheme: LabelScheme,
    settings: AtlasSettings,
    root: Path,
    workers: int | None = None,
) -> list[StoredCase]:
    """Return the cases, each labelled one with ways in which it can be deformed: as `SHAPES` others, at most.

    Args and errors: as `with_guesses`; labels may show a part.
    """
    known = list(cases[: min(labelled, settings.most)])
    others = [[case for case in cases if case.name != one.name][:SHAPES] for one in known]
    pairs = [(one, other) for one, some in zip(known, others, strict=True) for other in some]
    atlas = _Atlas(known, scheme, settings, root)
    made = iter(atlas.lay(pairs, workers or workers_that_fit(cases, 1, scheme)))
    bent = []
    for one, some in zip(known, others, strict=True):
        entries = [next(made) for _ in some]
        ways = tuple(
            Deformation(entry.array("field"), other.shape, other.spacing)
            for entry, other in zip(entries, some, strict=True)
        )
        key = hash_value({"case": one.key, "deformations": [entry.key for entry in entries]})
        bent.append(replace(one, deformations=ways, key=key))
    return [*bent, *cases[len(bent) :]]


def require_whole(known: Sequence[StoredCase]) -> None:
    """Refuse labels that show a part only: who votes would vote against what was not annotated.

    Raises:
        NotAlikeError: There is one.
    """
    if part := [case.name for case in known if case.in_part]:
        raise NotAlikeError(
            f"the label of {part[0]} shows a part of the structures only, and registered labels must show all; set "
            "semisup.first=network and inference.registration=0, or leave that case out of the budget",
            "atlas",
        )


def require_useful(
    known: Sequence[StoredCase],
    scheme: LabelScheme,
    settings: AtlasSettings,
    root: Path,
    workers: int | None = None,
) -> None:
    """Label some labelled cases by the others, say how well that goes, and refuse where it goes badly.

    Raises:
        NotAlikeError: It does.
    """
    checked = [case for case in known if not case.in_part][: min(CHECKED, settings.most)]
    if len(checked) < 2:
        say("atlas: with one labelled case nothing tells how well registration works here")
        return
    atlas = _Atlas(checked, scheme, settings, root)
    made = atlas.label(checked, workers or workers_that_fit(checked, len(checked), scheme))
    require_alike(checked, [entry.array("guess") for entry in made], scheme, settings.least)


def workers_that_fit(cases: Sequence[StoredCase], labelled: int, scheme: LabelScheme) -> int:
    """Return how many cases are fused at a time: one a processor, fewer where half of the free memory ends."""
    largest = max((math.prod(case.shape) for case in cases), default=1)
    channels = max((len(case.background) for case in cases), default=1)
    each = bytes_needed(largest, channels, scheme.outputs, labelled)
    return max(1, min(usable_cpus(), free_memory() // 2 // each))


def require_alike(known: Sequence[StoredCase], made: Sequence[Path], scheme: LabelScheme, least: float) -> None:
    """Say how well labelled cases are labelled by the others; refuse where that is bad.

    Raises:
        NotAlikeError: It is.
    """
    scores = []
    for case, path in zip(known, made, strict=True):
        assert case.label is not None
        truth = np.asarray(open_array(case.label)[:])
        shares = np.asarray(open_array(path)[:])
        found = shares.reshape(scheme.groups, scheme.classes, *truth.shape[1:])
        scores.append(dice(found.astype(np.float32), truth))
    mean = float(np.mean(scores))
    if mean < least:
        raise NotAlikeError(
            f"registration labels the labelled cases from each other with a Dice of {mean:.2f} only, "
            f"less than {least:g} (atlas.least): the images "
            "are not alike enough, or not roughly aligned; try atlas.registration.start=affine, or choose a "
            "method that does not register",
            "atlas",
        )
    say(f"atlas: labelled cases labelled by the others, registered: Dice {mean:.3f} (worst {min(scores):.3f})")


class _Atlas:
    """The labelled cases, read once and shared by all threads, and what is kept of their registrations."""

    def __init__(
        self, known: Sequence[StoredCase], scheme: LabelScheme, settings: AtlasSettings, root: Path
    ) -> None:
        self.known, self.scheme, self.settings, self.root = known, scheme, settings, root
        self._read: dict[str, Labelled] = {}
        self._lock = threading.Lock()

    def label(self, targets: Sequence[StoredCase], workers: int) -> list[Entry]:
        """Return what holds each target's probabilities, of all labelled cases but itself; make what is missing."""
        return self._all([(self._one, target) for target in targets], workers)

    def lay(self, pairs: Sequence[tuple[StoredCase, StoredCase]], workers: int) -> list[Entry]:
        """Return what holds the displacement of each pair's first case onto its second; make what is missing."""
        return self._all([(self._field, *pair) for pair in pairs], workers)

    def _all(
        self, jobs: Sequence[tuple[Callable[..., Entry], *tuple[StoredCase, ...]]], workers: int
    ) -> list[Entry]:
        # SimpleITK and SciPy release the interpreter's lock: threads are enough, and share nothing that changes.
        pool = ThreadPoolExecutor(max(1, min(workers, len(jobs))))
        waits = True
        try:
            with one_thread(), bar("registering", len(jobs)) as advance:

                def done(job: Callable[..., Entry], *of: StoredCase) -> Entry:
                    entry = job(*of)
                    advance()
                    return entry

                futures = [pool.submit(done, *job) for job in jobs]
                return [future.result() for future in futures]
        except BaseException as error:
            waits = isinstance(error, Exception)
            raise
        finally:
            pool.shutdown(wait=waits, cancel_futures=True)

    def _one(self, target: StoredCase) -> Entry:
        others = [case for case in self.known if case.name != target.name]
        content = {
            "version": GUESSES,
            "target": target.key,
            "labelled": [case.key for case in others],
            "settings": self.settings.model_dump(mode="json", include={"registration", "fusion"}),
            "registration": registration_version(),
        }
        entry = Entry(self.root, target.name, hash_value(content))
        if entry.read() is None:
            image = _image(target)
            made = [self._field(case, target).array("field") for case in others]
            fields: list[NDArray[np.float16]] = [np.asarray(open_array(path)[:]) for path in made]
            sides = (image.shape[1], image.shape[2], image.shape[3])
            found = fused(
                image, target.spacing, [self._labelled(case) for case in others],
                lambda number: restored(fields[number], sides), self.scheme.classes, self.settings.fusion,
            )  # fmt: skip
            shares = np.rint(255 * found.clip(0, 1)).astype(np.uint8)
            arrays = {"guess": shares.reshape(-1, *shares.shape[2:])}
            entry.write(arrays, {"labelled": [case.name for case in others]})
        return entry

    def _labelled(self, case: StoredCase) -> Labelled:
        with self._lock:
            if case.name not in self._read:
                assert case.label is not None
                label = np.asarray(open_array(case.label)[:])
                self._read[case.name] = Labelled(_image(case), label, case.spacing)
            return self._read[case.name]

    def _field(self, case: StoredCase, target: StoredCase) -> Entry:
        """Return what holds the thinned displacement of a case onto the target.

        Raises:
            NotAlikeError: None was found.
        """
        how = self.settings.registration.model_dump(mode="json")
        images = [target.image.name, case.image.name]  # whose names carry their keys
        key = hash_value({"version": FIELDS, "registration": registration_version(), "how": how, "of": images})
        entry = Entry(self.root, f"{target.name}-{case.name}", key)
        if entry.read() is None:
            try:
                found = register(
                    self._labelled(case).image, _image(target), case.spacing, target.spacing,
                    self.settings.registration,
                )  # fmt: skip
            except (ValueError, RuntimeError) as error:
                line = " ".join(str(error).split())[-200:]
                raise NotAlikeError(
                    f"{case.name} cannot be registered onto {target.name} ({line}); look at both with `frugalseg "
                    "check`, or choose a method that does not register",
                    "atlas",
                ) from error
            entry.write({"field": thinned(found)}, {})
        return entry


def _image(case: StoredCase) -> Floats:
    return np.asarray(open_array(case.image)[:], np.float32)
