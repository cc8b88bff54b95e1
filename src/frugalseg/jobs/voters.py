"""Labelled cases that vote when an image is predicted: registered onto it, they have a share beside the network.

A model's folder does not hold them: they are images of patients. They are read from the data set that the run was
trained on, and must be what the run began with.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from frugalseg.data.budget import Split
from frugalseg.data.manifest import DataSource, read_manifest
from frugalseg.data.prepare import prepare
from frugalseg.data.preprocess import Prepared
from frugalseg.data.store import StoredCase, default_store
from frugalseg.data.warp import Floats
from frugalseg.errors import DataError, UserError
from frugalseg.files import read_json_object
from frugalseg.formats import RUN_FORMAT, VOTERS, describing, read_sealed
from frugalseg.jobs.model import Model
from frugalseg.jobs.record import RECORD, SPLIT
from frugalseg.jobs.registrations import stored_labelled
from frugalseg.jobs.resources import free_memory, usable_cpus
from frugalseg.semisup.atlas import AtlasSettings, Labelled, bytes_needed, fused
from frugalseg.semisup.registration import one_thread, register

BYTES_REGISTERING = 140  # of a voxel, while a pair is registered: measured
WAY_OUT = "say with --data where the run's data set is, or predict with --no-register"


@dataclass(eq=False)
class Voters:
    """Labelled cases, and how they are registered onto an image and fused. The last image's vote is kept.

    `files`: the names of their arrays in the store, which carry their keys.
    """

    cases: tuple[Labelled, ...]
    files: dict[str, list[str]]
    settings: AtlasSettings
    classes: int
    _last: tuple[Prepared, Floats] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def like(self, other: Voters) -> bool:
        """Whether others are the same cases, registered and fused in the same way."""
        return self.files == other.files and self.settings == other.settings

    def vote(self, prepared: Prepared) -> Floats:
        """Return the probabilities (R x K, x, y, z) of a prepared image, 0 for all where nothing is known."""
        with self._lock:
            if self._last is None or self._last[0] is not prepared:
                self._last = None  # before the next one is made
                self._last = prepared, self._vote(prepared)
            return self._last[1]

    def workers(self, voxels: int) -> int:
        """Return how many cases are registered at a time: one a processor, fewer where half of the memory ends."""
        room = free_memory() // 2 // (BYTES_REGISTERING * voxels)
        return max(1, min(usable_cpus(), len(self.cases), room))

    def bytes_needed(self, voxels: int) -> int:
        """Return what the vote about an image of so many voxels holds at most, beside the cases themselves."""
        channels, outputs = len(self.cases[0].image), len(self.cases[0].label) * self.classes
        laid = 12 * len(self.cases) * voxels  # a displacement of three numbers in single precision
        making = max(self.workers(voxels) * BYTES_REGISTERING * voxels, bytes_needed(voxels, channels, outputs, 0))
        return laid + making + 4 * outputs * voxels

    def _vote(self, prepared: Prepared) -> Floats:
        x, y, z = prepared.placement.prepared_grid.spacing
        spacing, image = (x, y, z), prepared.image

        def lay(case: Labelled) -> Floats | None:
            try:
                return register(case.image, image, case.spacing, spacing, self.settings.registration)
            except (ValueError, RuntimeError):  # this one does not vote
                return None

        with one_thread(), ThreadPoolExecutor(self.workers(image[0].size)) as pool:
            laid = list(pool.map(lay, self.cases))
        cases = [case for case, one in zip(self.cases, laid, strict=True) if one is not None]
        fields = [one for one in laid if one is not None]
        if not cases:
            groups = len(self.cases[0].label)
            return np.zeros((groups * self.classes, *image.shape[1:]), np.float32)
        found = fused(image, spacing, cases, lambda number: fields[number], self.classes, self.settings.fusion)
        return found.reshape(-1, *found.shape[2:])


def with_votes(slabs: Iterable[Tensor], axis: int, votes: Floats, share: float, groups: int) -> Iterator[Tensor]:
    """Yield a network's slabs (R x K, x, y, z) along an axis, the votes mixed in where something is known.

    Args:
        slabs: The network's probabilities, in order, that make up the volume.
        axis: 0, 1 or 2.
        votes: (R x K, x, y, z), 0 for all classes of a group where nothing is known.
        share: Of the votes.
        groups: R.
    """
    start = 0
    for slab in slabs:
        stop = start + slab.shape[axis + 1]
        part = torch.from_numpy(votes).narrow(axis + 1, start, stop - start).unflatten(0, (groups, -1))
        known = share * part.sum(dim=1, keepdim=True)
        yield ((1 - known) * slab.unflatten(0, (groups, -1)) + share * part).flatten(0, 1)
        start = stop


def voters_of(run: Path, model: Model, data: DataSource | None, store: Path | None) -> Voters | None:
    """Return a run's voters, None where its configuration gives them no share.

    Args:
        run: The run's folder.
        model: Its model.
        data: The run's data set, if it is not where it was.
        store: Where prepared cases are kept.

    Raises:
        UserError: The data set is not there.
        DataError: A labelled case is not what the run began with.
    """
    settings = model.config.atlas
    if not model.config.inference.registration or settings is None:
        return None
    facts = read_sealed(run / RECORD, RUN_FORMAT)
    with describing("a run", run / RECORD):
        files = {str(name): [str(file) for file in pair] for name, pair in dict(facts[VOTERS]).items()}
        there = dict(facts["data"])
        beside = [Path(there[key]) if key in there else None for key in ("label_maps", "describe")]
        source = DataSource(Path(there["folder"]), *beside)
    if data is not None:
        source = DataSource(data.path, data.label_maps or source.label_maps, data.describe or source.describe)
    split = Split.from_json(read_json_object(run / SPLIT), run / SPLIT)
    if not source.path.exists():
        raise UserError(
            f"is not there any more, and its labelled cases vote in every prediction; {WAY_OUT}", source.path
        )
    try:
        manifest = read_manifest(source)  # of its files those of the voters alone need be there
    except UserError as error:
        raise UserError(f"{error.what}; or {WAY_OUT}", error.where) from error
    by_name = {case.name: case for case in manifest.training}
    if missing := [name for name in split.labelled if name not in by_name]:
        raise DataError(
            f"has no training case {missing[0]!r}, which votes in every prediction; {WAY_OUT}", source.path
        )
    known = [by_name[name] for name in split.labelled]
    known = known[: settings.most]
    for path in (path for case in known for path in (*case.images, case.label)):
        if path is not None and not path.is_file():
            raise UserError(f"is not there any more, and votes in every prediction; {WAY_OUT}", path)
    cases = prepare(manifest, known, set(split.labelled), store or default_store(), model.preparation)
    for case in cases:
        if files_of(case) != files.get(case.name):
            raise DataError(
                f"the image or label of {case.name!r} is not what the run began with; {WAY_OUT}", source.path
            )
    return Voters(tuple(stored_labelled(case) for case in cases), files, settings, model.scheme.classes)


def files_of(case: StoredCase) -> list[str]:
    """Return the names of a labelled case's arrays in the store, which carry their keys."""
    assert case.label is not None
    return [case.image.name, case.label.name]
