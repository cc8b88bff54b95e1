"""Registering labelled cases onto others, each pair once: fields and fused labels are kept in the store.

Interrupted, it goes on where it was: what is complete and intact is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import Entry, StoredCase, default_store, open_array
from frugalseg.errors import UserError
from frugalseg.files import hash_value
from frugalseg.jobs.resources import usable_cpus
from frugalseg.jobs.show import bar, say
from frugalseg.semisup.atlas import AtlasSettings, Labelled, dice, fused, shares_of
from frugalseg.semisup.registration import Floats, register, restored, thinned

VERSION = 1  # of what is computed: another one makes it anew
CHECKED = 6  # labelled cases that are labelled by the others, to see whether registration works here
LEAST_DICE = 0.4  # below it what is laid on each other is not alike


def guessed(
    config: Config, manifest: Manifest, split: Split, cases: Sequence[StoredCase], store: Path | None
) -> list[StoredCase]:
    """Return a run's cases, the unlabelled ones with probabilities if the configuration asks for an atlas.

    Args:
        config: The run's.
        manifest: The data set.
        split: Whose labels may be read.
        cases: Labelled, unlabelled, then those for validation.
        store: Where prepared cases are kept.

    Raises:
        UserError: As `with_guesses`.
    """
    if config.semisup is None or config.semisup.atlas is None:
        return list(cases)
    last = len(split.labelled) + len(split.unlabelled)
    root = store or default_store()
    found = with_guesses(cases[:last], len(split.labelled), manifest.scheme, config.semisup.atlas, root)
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
        cases: Labelled cases first, then unlabelled ones, of one spacing.
        labelled: How many are labelled.
        scheme: What the labels mean.
        settings: How they are registered and fused.
        root: The store.
        workers: Cases at a time; by default one a processor.

    Raises:
        UserError: The cases are not alike enough, or have different spacings, or labels that show a part only.
    """
    known, others = list(cases[:labelled]), list(cases[labelled:])
    require_fit(known, others)
    work = [_Work(case, tuple(one for one in known if one.name != case.name), scheme.classes, settings, root)
            for case in (*(known[:CHECKED] if len(known) > 1 else ()), *others)]  # fmt: skip
    made = {item.target.name: path for item, path in zip(work, _all(work, workers), strict=True)}
    if len(known) > 1:
        require_alike(known[:CHECKED], made, scheme)
    return [*known, *(replace(case, guess=made[case.name]) for case in others)]


def require_fit(known: Sequence[StoredCase], others: Sequence[StoredCase]) -> None:
    """Refuse what cannot be registered case by case."""
    spacings = {case.spacing for case in (*known, *others)}
    if len(spacings) > 1:
        told = " and ".join(" x ".join(f"{side:g}" for side in spacing) for spacing in sorted(spacings)[:2])
        raise UserError(
            f"registration needs one spacing, there are {told} mm; set preprocess.spacing", "semisup.atlas"
        )
    if any(case.in_part for case in known):
        raise UserError("registration needs labels that show every structure", "semisup.atlas")


def require_alike(known: Sequence[StoredCase], made: dict[str, Path], scheme: LabelScheme) -> None:
    """Say how well labelled cases are labelled by the others; refuse where that is bad.

    Raises:
        UserError: It is.
    """
    scores = []
    for case in known:
        assert case.label is not None
        truth = np.asarray(open_array(case.label)[:])
        shares = np.asarray(open_array(made[case.name])[:])
        found = shares.reshape(scheme.groups, scheme.classes, *truth.shape[1:])
        scores.append(dice(found.astype(np.float32), truth))
    mean = float(np.mean(scores))
    if mean < LEAST_DICE:
        raise UserError(
            f"registration labels the labelled cases from each other with a Dice of {mean:.2f} only: the images "
            "are not alike enough, or not roughly aligned; choose a method without semisup.atlas",
            "semisup.atlas",
        )
    say(f"atlas: labelled cases labelled by the others, registered: Dice {mean:.3f} (worst {min(scores):.3f})")


class _Work:
    """One case to be labelled, and from what."""

    def __init__(
        self, target: StoredCase, known: tuple[StoredCase, ...], classes: int, settings: AtlasSettings, root: Path
    ) -> None:
        self.target, self.known, self.classes, self.settings, self.root = target, known, classes, settings, root

    def __call__(self) -> Path:
        """Make what is missing; return the path of the fused probabilities."""
        content = {
            "version": VERSION,
            "target": self.target.key,
            "labelled": [case.key for case in self.known],
            "settings": self.settings.model_dump(mode="json"),
        }
        entry = Entry(self.root, self.target.name, hash_value(content))
        if entry.read() is None:
            target = _image(self.target)
            cases, fields = [], []
            for case in self.known:
                assert case.label is not None
                label = np.asarray(open_array(case.label)[:])
                cases.append(Labelled(_image(case), shares_of(label, self.classes)))
                fields.append(self.field(case, cases[-1].image, target))
            found = fused(target, cases, fields, self.target.spacing, self.settings.fusion)
            shares = np.rint(255 * found.clip(0, 1)).astype(np.uint8)
            arrays = {"guess": shares.reshape(-1, *shares.shape[2:])}
            entry.write(arrays, {"labelled": [case.name for case in self.known]})
        return entry.array("guess")

    def field(self, case: StoredCase, moving: Floats, target: Floats) -> Floats:
        """Return the displacement onto the target, from the store if it is there."""
        how = self.settings.registration.model_dump(mode="json")
        images = [self.target.image.name, case.image.name]  # whose names carry their keys
        key = hash_value({"version": VERSION, "how": how, "of": images})
        entry = Entry(self.root, f"{self.target.name}-{case.name}", key)
        sides = (target.shape[1], target.shape[2], target.shape[3])
        if entry.read() is None:
            entry.write({"field": thinned(register(moving, target, case.spacing, self.settings.registration))}, {})
        return restored(np.asarray(open_array(entry.array("field"))[:]), sides)


def _image(case: StoredCase) -> Floats:
    return np.asarray(open_array(case.image)[:], np.float32)


def _all(work: Sequence[_Work], workers: int | None) -> list[Path]:
    """Do all of it, several cases at a time."""
    count = min(workers or usable_cpus(), len(work))
    # SimpleITK and SciPy release the interpreter's lock: threads are enough, and share nothing.
    pool = ThreadPoolExecutor(max(1, count))
    waits = True
    try:
        with bar("registering", len(work)) as advance:
            return [_done(future.result(), advance) for future in [pool.submit(item) for item in work]]
    except BaseException as error:
        waits = isinstance(error, Exception)
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)


def _done(path: Path, advance: Callable[[], None]) -> Path:
    advance()
    return path
