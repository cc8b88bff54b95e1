"""What a run with a teacher needs before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frugalseg.config import Config
from frugalseg.data.budget import Split
from frugalseg.data.manifest import Manifest
from frugalseg.data.store import StoredCase
from frugalseg.jobs.atlas import CHECKED, SHAPES, registered
from frugalseg.jobs.needs_text import duration
from frugalseg.jobs.record import atlas_mark
from frugalseg.jobs.registering_pace import pair_seconds
from frugalseg.jobs.registrations import NotAlikeError, workers_that_fit
from frugalseg.jobs.show import say
from frugalseg.training.processes import Processes


def registering_line(config: Config, manifest: Manifest, split: Split, cases: Sequence[StoredCase]) -> str | None:
    """Return a line about what a run registers before its first step, None if nothing; cases: of the data set."""
    pairs = registrations(config, split)
    if not pairs or config.atlas is None:
        return None
    seconds = len(pairs) * pair_seconds(config.atlas.registration, [case.shape for case in cases])
    labelled = min(len(split.labelled), config.atlas.most)
    # Pairs of one image follow each other, but for shapes to deform to.
    at_a_time = len(pairs) if config.augment.deform else len({onto for _, onto in pairs})
    count = min(at_a_time, workers_that_fit(cases, labelled, manifest.scheme, config.atlas))
    with_what = f"{count} processor{'s' * (count > 1)}"
    return (
        f"before it: {len(pairs)} registrations of labelled volumes onto others, about {duration(seconds / count)} "
        f"on {with_what}, less what the store has of them"
    )


def registrations(config: Config, split: Split) -> set[tuple[int, int]]:
    """Return the registrations that a run begins with, those in the store included: of a case onto another one.

    Cases are numbered, the labelled ones first.
    """
    if config.atlas is None:
        return set()
    labelled, known = len(split.labelled), min(len(split.labelled), config.atlas.most)
    cases = range(labelled + len(split.unlabelled))
    pairs = set()
    for one in range(known):
        onto: set[int] = set()
        if one < CHECKED:  # whether registration works
            onto.update(range(min(CHECKED, known)))
        if config.semisup and config.semisup.first == "registration":
            onto.update(cases[labelled:])
        if config.augment.deform:
            onto.update([case for case in cases if case != one][:SHAPES])
        pairs |= {(one, other) for other in onto - {one}}
    return pairs


def registered_once(
    processes: Processes,
    config: Config,
    manifest: Manifest,
    split: Split,
    cases: list[StoredCase],
    store: Path | None,
) -> tuple[Config, list[StoredCase], str]:
    """Register labelled cases onto others in the first process, where the configuration asks for it.

    Returns:
        The configuration, without registration if that turned out useless and is not to be refused; the cases; and
        why nothing was registered, or nothing.

    Raises:
        NotAlikeError: It is useless, and `config.adapt` is not set.
    """
    if config.atlas is None:
        return config, cases, ""
    with processes.first_alone():
        try:
            return config, registered(config, manifest, split, cases, store), ""
        except NotAlikeError as error:
            if not config.adapt:
                raise
            say(f"goes on without registration: {error.reason}")
            return config.without_atlas(), cases, f"left out: {error.reason} [{atlas_mark(config)}]"
