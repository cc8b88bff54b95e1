"""Labelled cases that vote when an image is predicted: registered onto it, they have a share beside the network.

Where images are large every second voxel's displacement is kept, and votes where they were weighed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from frugalseg.data.preprocess import Prepared
from frugalseg.data.store import StoredCase
from frugalseg.data.warp import THIN, Box, Floats, Spacing, restored
from frugalseg.errors import UserError
from frugalseg.jobs.registrations import files_of, stored_labelled
from frugalseg.jobs.resources import free_memory, usable_cpus
from frugalseg.semisup.atlas import AtlasSettings, Labelled, finer, fused
from frugalseg.semisup.held import BYTES_MASKS, bytes_of_block, bytes_of_registering
from frugalseg.semisup.registration import NotRegistered, RegistrationSettings, one_thread, register
from frugalseg.semisup.undecided import voxels_in_boxes
from frugalseg.semisup.votes import Votes

SPREAD = 2  # voxels that are weighed over those of the boxes around structures in a labelled case
NO_MEMORY = (
    "memory ran out while labelled cases were registered onto an image; free some, or predict with --no-register"
)
BoxOf = Callable[[Box], Floats]
"""Gives a box (3, x, y, z) of a displacement, in mm."""


def laid_onto(case: Labelled, image: Floats, spacing: Spacing, settings: RegistrationSettings) -> BoxOf:
    """Register a labelled case onto an image; of a large one every second voxel's displacement is kept.

    Raises:
        NotRegistered: No displacement was found.
        MemoryError: Memory ran out.
    """
    if not thins(settings, image[0].size):
        field = register(case.image, image, case.spacing, spacing, settings)
        return lambda box: field[:, *box]
    few = register(case.image, image, case.spacing, spacing, settings, THIN)
    return lambda box: restored(few, box)


def thins(settings: RegistrationSettings, voxels: int) -> bool:
    """Whether displacements onto an image of so many voxels are thinned: where a coarser grid finds them."""
    return voxels > settings.voxels


def bytes_of_displacement(settings: RegistrationSettings, voxels: int) -> float:
    """Return what a displacement onto an image of so many voxels takes: three numbers in single precision each."""
    return 12 * voxels / (THIN**3 if thins(settings, voxels) else 1)


@dataclass(eq=False)
class Laid:
    """Labelled cases, each read once, and their displacements onto the image at hand, each found once.

    The models of folds have different cases, of which most are the same. `None`: a case cannot be registered.
    """

    cases: dict[str, Labelled] = field(default_factory=dict)
    fields: dict[str, BoxOf | None] = field(default_factory=dict)
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
    _last: tuple[Prepared, Votes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def like(self, other: Voters) -> bool:
        """Whether others are the same cases, registered and fused in the same way."""
        return self.files == other.files and self.settings == other.settings

    def vote(self, prepared: Prepared) -> Votes:
        """Return what they say about a prepared image.

        Raises:
            UserError: Memory ran out.
        """
        with self._lock:
            if self._last is None or self._last[0] is not prepared:
                self._last = None  # before the next one is made
                try:
                    self._last = prepared, self._vote(prepared)
                except MemoryError as error:
                    raise UserError(NO_MEMORY, "predict") from error
            return self._last[1]

    def workers(self, voxels: int) -> int:
        """Return how many cases are registered at a time: one a processor, fewer where half of the memory ends."""
        room = free_memory() // 2 // self.bytes_registering(voxels)
        return max(1, min(usable_cpus(), len(self.cases), room))

    def bytes_registering(self, voxels: int) -> int:
        """Return what one registration onto an image of so many voxels holds."""
        largest = max(voxels, *(case.image[0].size for case in self.cases))
        return bytes_of_registering(largest, self.settings.registration)

    def threads(self, voxels: int, finer: float = 1) -> int:
        """Return how many blocks are voted about at a time: one a processor, if half of the memory is enough."""
        return max(1, min(usable_cpus(), free_memory() // 2 // self._bytes_block(voxels, finer)))

    def _bytes_block(self, voxels: int, finer: float = 1) -> int:
        return bytes_of_block(voxels, len(self.cases[0].image), self.outputs, self.settings.fusion, finer)

    @property
    def outputs(self) -> int:
        """Classes of all groups."""
        return len(self.cases[0].label) * self.classes

    @property
    def keys(self) -> list[str]:
        """What tells each case's displacement from others: its files, and how it is registered."""
        how = self.settings.registration.model_dump_json()  # within one command alone
        return [" ".join([*files, how]) for files in self.files.values()]

    def bytes_kept(self, voxels: int) -> int:
        """Return what the vote about an image of so many voxels takes: the cases show where structures are."""
        weighed = min(voxels, SPREAD * max(voxels_in_boxes(case.label) for case in self.cases))
        return voxels + weighed * (1 + 4 * self.outputs)

    def bytes_making(self, voxels: int) -> int:
        """Return what is held while the vote about an image of so many voxels is made, beside what is kept."""
        laying = self.workers(voxels) * self.bytes_registering(voxels)
        return max(laying, BYTES_MASKS * voxels + self.threads(voxels) * self._bytes_block(voxels))

    def _vote(self, prepared: Prepared) -> Votes:
        x, y, z = prepared.placement.prepared_grid.spacing
        spacing, image = (x, y, z), prepared.image
        known = self.laid.fields
        self.laid.begin(prepared)
        missing = {key: case for key, case in zip(self.keys, self.cases, strict=True) if key not in known}

        def lay(case: Labelled) -> BoxOf | None:
            try:
                return laid_onto(case, image, spacing, self.settings.registration)
            except NotRegistered:  # this one does not vote
                return None

        with one_thread(), ThreadPoolExecutor(self.workers(image[0].size)) as pool:
            known.update(zip(missing, pool.map(lay, missing.values()), strict=True))
        laid = [known[key] for key in self.keys]
        self.lost = tuple(name for name, one in zip(self.files, laid, strict=True) if one is None)
        cases = [case for case, one in zip(self.cases, laid, strict=True) if one is not None]
        fields = [one for one in laid if one is not None]
        if not cases:
            nothing = np.zeros(image.shape[1:], np.bool_)
            return Votes(nothing, (), (len(self.cases[0].label), self.classes))
        return fused(
            image, spacing, cases, lambda number, box: fields[number](box), self.classes, self.settings.fusion,
            self.threads(image[0].size, finer(spacing, cases)),
        )  # fmt: skip


def bytes_of_votes(voters: Sequence[Voters | None], voxels: int, slab: int) -> int:
    """Return what the votes of an ensemble's voters about an image of so many voxels hold at most.

    `slab`: voxels of it that are mixed at a time.
    """
    asked = list(dict.fromkeys(one for one in voters if one is not None))
    pairs = {key: one for one in asked for key in one.keys}
    displacements = sum(bytes_of_displacement(one.settings.registration, voxels) for one in pairs.values())
    votes = sum(one.bytes_kept(voxels) + 4 * one.outputs * slab for one in asked)
    return round(displacements) + votes + max((one.bytes_making(voxels) for one in asked), default=0)
