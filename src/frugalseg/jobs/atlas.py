"""What a run has of registration: probabilities for unlabelled cases, ways in which labelled ones can be deformed.

Whether registration works on the data is seen first, on the labelled cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.deform import Deformation
from frugalseg.data.manifest import Manifest
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import StoredCase, default_store, open_array
from frugalseg.files import hash_value
from frugalseg.jobs.registrations import NotAlikeError, Registrations, workers_that_fit
from frugalseg.jobs.show import say
from frugalseg.semisup.atlas import AtlasSettings, dice

CHECKED = 6  # labelled cases that are labelled by the others, to see whether registration works here
SHAPES = 24  # cases that a labelled one is deformed as


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
    root, scheme, first = store or default_store(), manifest.scheme, config.semisup and config.semisup.first
    found = list(cases[:last])
    known = found[: min(labelled, config.atlas.most)]
    if config.inference.registration or first == "registration":
        require_whole(known)
    require_useful(known, scheme, config.atlas, root)
    if first == "registration":
        found[labelled:] = voted(known, found[labelled:], scheme, config.atlas, root)
    if config.augment.deform:
        found = with_deformations(found, labelled, scheme, config.atlas, root)
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
    return [*cases[:labelled], *voted(known, others, scheme, settings, root, workers)]


def voted(
    known: Sequence[StoredCase],
    targets: Sequence[StoredCase],
    scheme: LabelScheme,
    settings: AtlasSettings,
    root: Path,
    workers: int | None = None,
) -> list[StoredCase]:
    """Return cases with the probabilities that registered labelled ones give them, each without its own vote."""
    count = workers or workers_that_fit([*known, *targets], len(known), scheme, settings)
    guesses = Registrations(known, scheme, settings, root).label(targets, count)
    return [
        # The key changes, because what is learnt from the case does: a run goes on with these or not at all.
        replace(case, guess=entry.array("guess"), key=hash_value({"case": case.key, "guess": entry.key}))
        for case, entry in zip(targets, guesses, strict=True)
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

    A pair that cannot be registered is left out. Args: as `with_guesses`; labels may show a part.
    """
    known = list(cases[: min(labelled, settings.most)])
    others = [[case for case in cases if case.name != one.name][:SHAPES] for one in known]
    pairs = [(one, other) for one, some in zip(known, others, strict=True) for other in some]
    atlas = Registrations(known, scheme, settings, root)
    made = iter(atlas.lay(pairs, workers or workers_that_fit(cases, 1, scheme, settings)))
    bent = []
    for one, some in zip(known, others, strict=True):
        laid = [(entry, other) for other in some if (entry := next(made)) is not None]
        ways = tuple(Deformation(entry.array("field"), other.shape, other.spacing) for entry, other in laid)
        key = hash_value({"case": one.key, "deformations": [entry.key for entry, _ in laid]})
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
    atlas = Registrations(checked, scheme, settings, root)
    made = atlas.label(checked, workers or workers_that_fit(checked, len(checked), scheme, settings))
    require_alike(checked, [entry.array("guess") for entry in made], scheme, settings.least)


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
        scores.append(dice(found, truth))
    told = [score for score in scores if not np.isnan(score)]
    if not told:
        say("atlas: the labelled cases that were looked at have no structure; nothing tells how registration works")
        return
    mean = float(np.mean(told))
    if mean < least:
        raise NotAlikeError(
            f"registration labels the labelled cases from each other with a Dice of {mean:.2f} only, "
            f"less than {least:g} (atlas.least): the images "
            "are not alike enough, or not roughly aligned; try atlas.registration.start=affine, or choose a "
            "method that does not register",
            "atlas",
        )
    say(f"atlas: labelled cases labelled by the others, registered: Dice {mean:.3f} (worst {min(told):.3f})")
