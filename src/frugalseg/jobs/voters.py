"""Labelled cases that vote when an image is predicted: registered onto it, they have a share beside the network.

A model's folder does not hold them: they are images of patients. They are read from the data set that the run was
trained on, and must be what the run began with.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
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
from frugalseg.jobs.prepare import bytes_reading
from frugalseg.jobs.record import RECORD, SPLIT
from frugalseg.jobs.registrations import stored_labelled
from frugalseg.jobs.resources import at_a_time, free_memory, usable_cpus
from frugalseg.semisup.atlas import AtlasSettings, Labelled, bytes_needed, fused
from frugalseg.semisup.registration import NotRegistered, one_thread, register

BYTES_REGISTERING = 140  # of a voxel of the grid on which a pair is registered: measured
BYTES_LAYING = 44  # and of a voxel of the image, where that is another: its mean, and its displacements twice
WAY_OUT = "say with --data where the run's data set is, or predict with --no-register"


@dataclass(eq=False)
class Laid:
    """Labelled cases, each read once, and their displacements onto the image at hand, each found once.

    The models of folds have different cases, of which most are the same. `None`: a case cannot be registered.
    """

    cases: dict[str, Labelled] = field(default_factory=dict)
    fields: dict[str, Floats | None] = field(default_factory=dict)
    onto: Prepared | None = None

    def case(self, stored: StoredCase) -> Labelled:
        """Return a labelled case."""
        key = " ".join(files_of(stored))
        if key not in self.cases:
            self.cases[key] = stored_labelled(stored)
        return self.cases[key]

    def begin(self, prepared: Prepared) -> None:
        """Forget what was laid onto another image."""
        if self.onto is not prepared:
            self.fields.clear()
            self.onto = prepared


@dataclass(eq=False)
class Voters:
    """Labelled cases, and how they are registered onto an image and fused. The last image's vote is kept.

    `files`: the names of their arrays in the store by case, in order; they carry their keys.
    """

    cases: tuple[Labelled, ...]
    files: dict[str, list[str]]
    settings: AtlasSettings
    classes: int
    laid: Laid = field(default_factory=Laid)
    lost: tuple[str, ...] = ()
    """The cases that could not be registered onto the last image, and had no vote."""
    _last: tuple[Prepared, Floats] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def like(self, other: Voters) -> bool:
        """Whether others are the same cases, registered and fused in the same way."""
        return self.files == other.files and self.settings == other.settings

    def vote(self, prepared: Prepared) -> Floats:
        """Return the probabilities (R x K, x, y, z) of a prepared image, 0 for all where nothing is known.

        Raises:
            UserError: Memory ran out.
        """
        with self._lock:
            if self._last is None or self._last[0] is not prepared:
                self._last = None  # before the next one is made
                self._last = prepared, self._vote(prepared)
            return self._last[1]

    def workers(self, voxels: int) -> int:
        """Return how many cases are registered at a time: one a processor, fewer where half of the memory ends."""
        room = free_memory() // 2 // self.bytes_registering(voxels)
        return max(1, min(usable_cpus(), len(self.cases), room))

    def bytes_registering(self, voxels: int) -> int:
        """Return what one registration onto an image of so many voxels holds."""
        own = self.settings.registration.voxels
        return BYTES_REGISTERING * min(voxels, own) + (BYTES_LAYING * voxels if voxels > own else 0)

    @property
    def keys(self) -> list[str]:
        """What tells each case's displacement from others: its files, and how it is registered."""
        how = self.settings.registration.model_dump_json()  # within one command alone
        return [" ".join([*files, how]) for files in self.files.values()]

    def bytes_making(self, voxels: int) -> int:
        """Return what is held while the vote about an image of so many voxels is made, beside displacements."""
        channels, outputs = len(self.cases[0].image), len(self.cases[0].label) * self.classes
        laying = self.workers(voxels) * self.bytes_registering(voxels)
        return max(laying, bytes_needed(voxels, channels, outputs, 0))

    def _vote(self, prepared: Prepared) -> Floats:
        x, y, z = prepared.placement.prepared_grid.spacing
        spacing, image = (x, y, z), prepared.image
        known = self.laid.fields
        self.laid.begin(prepared)
        missing = {key: case for key, case in zip(self.keys, self.cases, strict=True) if key not in known}

        def lay(case: Labelled) -> Floats | None:
            try:
                return register(case.image, image, case.spacing, spacing, self.settings.registration)
            except NotRegistered:  # this one does not vote
                return None
            except MemoryError as error:
                raise UserError(
                    "memory ran out while labelled cases were registered onto an image; free some, or predict with "
                    "--no-register",
                    "predict",
                ) from error

        with one_thread(), ThreadPoolExecutor(self.workers(image[0].size)) as pool:
            known.update(zip(missing, pool.map(lay, missing.values()), strict=True))
        laid = [known[key] for key in self.keys]
        self.lost = tuple(name for name, one in zip(self.files, laid, strict=True) if one is None)
        cases = [case for case, one in zip(self.cases, laid, strict=True) if one is not None]
        fields = [one for one in laid if one is not None]
        if not cases:
            groups = len(self.cases[0].label)
            return np.zeros((groups * self.classes, *image.shape[1:]), np.float32)
        found = fused(image, spacing, cases, lambda number: fields[number], self.classes, self.settings.fusion)
        return found.reshape(-1, *found.shape[2:])


def bytes_of_votes(voters: Sequence[Voters | None], voxels: int) -> int:
    """Return what the votes of an ensemble's voters about an image of so many voxels hold at most."""
    asked = list(dict.fromkeys(one for one in voters if one is not None))
    pairs = {key for one in asked for key in one.keys}
    kept = sum(4 * len(one.cases[0].label) * one.classes * voxels for one in asked)
    displacements = 12 * len(pairs) * voxels  # three numbers in single precision
    return displacements + kept + max((one.bytes_making(voxels) for one in asked), default=0)


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


def voters_of(run: Path, model: Model, data: DataSource | None, store: Path | None, laid: Laid) -> Voters | None:
    """Return a run's voters, None where its configuration gives them no share.

    Args:
        run: The run's folder.
        model: Its model.
        data: The run's data set, if it is not where it was.
        store: Where prepared cases are kept.
        laid: What the ensemble's voters share.

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
    workers = at_a_time(bytes_reading(known))
    cases = prepare(manifest, known, set(split.labelled), store or default_store(), model.preparation, workers)
    for case in cases:
        if files_of(case) != files.get(case.name):
            raise DataError(
                f"the image or label of {case.name!r} is not what the run began with; {WAY_OUT}", source.path
            )
    own = {case.name: files[case.name] for case in cases}
    return Voters(tuple(laid.case(case) for case in cases), own, settings, model.scheme.classes, laid)


def files_of(case: StoredCase) -> list[str]:
    """Return the names of a labelled case's arrays in the store, which carry their keys."""
    assert case.label is not None
    return [case.image.name, case.label.name]
