"""Labelled cases registered onto others, each pair once: displacements and fused labels are kept in the store.

Interrupted, it goes on where it was: what is complete and intact is not made again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.names import LONGEST
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import Entry, StoredCase, open_array
from frugalseg.data.warp import THIN, Floats, restored
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_value
from frugalseg.jobs.resources import free_memory, usable_cpus
from frugalseg.jobs.show import bar, say
from frugalseg.semisup.atlas import AtlasSettings, Labelled, fused
from frugalseg.semisup.held import bytes_of_fusing, bytes_of_registering
from frugalseg.semisup.registration import NotRegistered, one_thread, register, registration_version

Made = TypeVar("Made")
HALF = LONGEST // 2  # bytes
FIELDS, GUESSES = 3, 6  # versions of what is computed: another one makes it anew


class NotAlikeError(UserError):
    """Images cannot be laid onto each other, or what comes of it is useless; told as "reason; what to do"."""

    @property
    def reason(self) -> str:
        """What is wrong, without what to do about it: for who goes on without registration."""
        return self.what.rpartition("; ")[0]


class Registrations:
    """The labelled cases, read once and shared by all threads, and what is kept of their registrations."""

    def __init__(
        self, known: Sequence[StoredCase], scheme: LabelScheme, settings: AtlasSettings, root: Path
    ) -> None:
        self.known, self.scheme, self.settings, self.root = known, scheme, settings, root
        self._read: dict[str, Labelled] = {}
        self._lock = threading.Lock()

    def label(self, targets: Sequence[StoredCase], workers: int) -> list[Entry]:
        """Return what holds each target's probabilities, of all labelled cases but itself; make what is missing.

        Raises:
            NotAlikeError: None of them can be registered onto a target.
            DataError: Memory ran out.
        """
        return self._all([(self._one, target) for target in targets], workers)

    def lay(self, pairs: Sequence[tuple[StoredCase, StoredCase]], workers: int) -> list[Entry | None]:
        """Return what holds the displacement of each pair's first case onto its second; make what is missing.

        None where there is none to be found. Raises DataError where memory ran out.
        """
        return self._all([(self._field, *pair) for pair in pairs], workers)

    def _all(self, jobs: Sequence[tuple[Callable[..., Made], *tuple[StoredCase, ...]]], workers: int) -> list[Made]:
        # SimpleITK and SciPy release the interpreter's lock: threads are enough, and share nothing that changes.
        pool = ThreadPoolExecutor(max(1, min(workers, len(jobs))))
        waits = True
        try:
            with one_thread(), bar("registering", len(jobs), told=True) as advance:

                def done(job: Callable[..., Made], *of: StoredCase) -> Made:
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
            "target": target.image.name,  # names carry the keys of what was prepared
            "labelled": [[case.image.name, case.label.name] for case in others if case.label is not None],
            "settings": {
                "registration": self.settings.registration.content(self._larger(target, *others)),
                "fusion": self.settings.fusion.model_dump(mode="json"),
            },
            "registration": registration_version(),
        }
        entry = Entry(self.root, target.name, hash_value(content))
        if entry.read() is None:
            image = stored_image(target)
            # Who cannot be registered onto this one does not vote about it.
            found = [(case, self._field(case, target)) for case in others]
            laid = [(case, kept) for case, kept in found if kept is not None]
            if not laid:
                raise NotAlikeError(
                    f"no labelled case can be registered onto {target.name}; look at them with `frugalseg check`, "
                    "or choose a method that does not register",
                    "atlas",
                )
            fields: list[NDArray[np.float16]] = [np.asarray(open_array(one.array("field"))[:]) for _, one in laid]
            votes = fused(
                image, target.spacing, [self._labelled(case) for case, _ in laid],
                lambda number, box: restored(fields[number], box), self.scheme.classes, self.settings.fusion,
            )  # fmt: skip
            shares = votes.rounded()
            arrays = {"guess": shares.reshape(-1, *shares.shape[2:])}
            entry.write(arrays, {"labelled": [case.name for case, _ in laid]})
        return entry

    def _larger(self, *cases: StoredCase) -> bool:
        """Whether one of them has more voxels than are registered."""
        return any(math.prod(case.shape) > self.settings.registration.voxels for case in cases)

    def _labelled(self, case: StoredCase) -> Labelled:
        with self._lock:
            if case.name not in self._read:
                self._read[case.name] = stored_labelled(case)
            return self._read[case.name]

    def _field(self, case: StoredCase, target: StoredCase) -> Entry | None:
        """Return what holds the thinned displacement of a case onto the target; None, said, if none is found.

        Raises:
            DataError: Memory ran out.
        """
        how = self.settings.registration.content(self._larger(target, case))
        images = [target.image.name, case.image.name]  # whose names carry their keys
        key = hash_value({"version": FIELDS, "registration": registration_version(), "how": how, "of": images})
        entry = Entry(self.root, f"{short(target.name)}-{short(case.name)}", key)
        if entry.read() is None:
            try:
                # Read anew: many labelled images held at once are more than the registration of two needs.
                found = register(
                    stored_image(case), stored_image(target), case.spacing, target.spacing,
                    self.settings.registration, THIN,
                )  # fmt: skip
            except MemoryError as error:  # the images may be alike all the same: nothing is left out for it
                raise DataError(
                    f"memory ran out while {case.name} was registered onto it; free some, give the same command "
                    "again (train: --resume); what is done is kept",
                    target.image,
                ) from error
            except NotRegistered as error:
                say(f"atlas: {case.name} cannot be registered onto {target.name}, and is not ({error})")
                return None
            entry.write({"field": found.astype(np.float16)}, {})
        return entry


def short(name: str) -> str:
    """Return the beginning of a case's name: two have to fit into a file's, and the key tells pairs apart."""
    return name.encode()[:HALF].decode(errors="ignore")


def stored_image(case: StoredCase) -> Floats:
    """Read a case's image (C, x, y, z)."""
    return np.asarray(open_array(case.image)[:], np.float32)


def stored_labelled(case: StoredCase) -> Labelled:
    """Read a labelled case."""
    assert case.label is not None
    return Labelled(stored_image(case), np.asarray(open_array(case.label)[:]), case.spacing)


def files_of(case: StoredCase) -> list[str]:
    """Return the names of a labelled case's arrays in the store, which carry their keys."""
    assert case.label is not None
    return [case.image.name, case.label.name]


def workers_that_fit(
    cases: Sequence[StoredCase], labelled: int, scheme: LabelScheme, settings: AtlasSettings
) -> int:
    """Return how many cases are fused at a time: one a processor, fewer where half of the free memory ends.

    Args:
        cases: All of them.
        labelled: How many are laid onto each other one, which all workers share.
        scheme: What labels mean.
        settings: How.
    """
    largest = max((math.prod(case.shape) for case in cases), default=1)
    channels = max((len(case.background) for case in cases), default=1)
    fusing = bytes_of_fusing(largest, channels, scheme.outputs, labelled, settings.fusion)
    laying = 8 * channels * largest + bytes_of_registering(largest, settings.registration)
    room = free_memory() // 2 - labelled * largest * (4 * channels + scheme.groups)
    return max(1, min(usable_cpus(), room // max(fusing, laying)))
