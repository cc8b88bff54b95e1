"""What training, preparing and predicting need of memory and disk, reckoned before anything is begun.

Training is simulated (`jobs.footprint`); for the others what is held is counted for each voxel, from the sizes in
the files' headers. What PyTorch, its libraries and the allocator take beside tensors are three constants, measured
by benchmarks/preflight.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it would bring PyTorch to commands that do without
    from frugalseg.jobs.footprint import Footprint

MIB, GIB = 2**20, 2**30
GAPS = 1.1  # of what tensors hold: freed places that the allocator cannot use again
LIBRARIES = 96 * MIB  # what the libraries keep for themselves from the first operation on
WORKER = 64 * MIB  # what a loader process holds of its own, beside its batches
AHEAD = 4  # batches that a loader process holds ready
NORMALISED = 21  # bytes for a voxel of the channel that is normalised
CHECKPOINTS = 3  # a run's folder holds the last, the one before it until that is complete, and perhaps the best
STORED = 1.0  # of 2 bytes a voxel: what ZSTD leaves of noise in half precision at worst


@dataclass(frozen=True)
class Need:
    """Bytes on top of what the process holds already, and seconds, where they are known."""

    ram: int
    gpu: int = 0
    disk: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Volume:
    """A case's size: voxels of a channel, channels, and the sides in voxels, where they are asked for."""

    voxels: int
    channels: int
    shape: tuple[int, ...] = ()

    def slab(self, crop: Sequence[int]) -> float:
        """Return the share of the volume that is one window's depth along the axis where that is least."""
        return min((min(1.0, side / size) for side, size in zip(crop, self.shape)), default=1.0)


def training(found: Footprint, device: str, workers: int) -> Need:
    """Return what a process needs to train, its loader processes counted in.

    Args:
        found: A step of this process.
        device: "cpu" or "cuda".
        workers: Loader processes.
    """
    waiting = workers * (WORKER + AHEAD * found.batch) + 2 * found.batch
    disk = CHECKPOINTS * (found.static + found.weights)
    tensors = round(GAPS * found.peak)
    if device == "cuda":
        return Need(LIBRARIES + waiting, tensors + LIBRARIES, disk)
    return Need(tensors + LIBRARIES + waiting, 0, disk)


def preparing(cases: Sequence[Volume], workers: int) -> Need:
    """Return what preparing cases needs: the largest ones at the same time, at worst."""
    held = heapq.nlargest(max(1, workers), (prepare_bytes(case) for case in cases))
    disk = sum(case.voxels * (2 * case.channels + 1) for case in cases)
    return Need(sum(held) + LIBRARIES // 4, 0, round(STORED * disk))


def prepare_bytes(case: Volume) -> int:
    """Return what is held at most while a case is prepared.

    For a voxel of every channel: as read 4 bytes, cut 4; that it is less where a border of zeros is cut away is not
    known before. For a voxel of one channel, while it is normalised, 21: which are not zero, these, and twice in
    double precision. The label comes when the image is gone: as read 2, in double precision 8, its distance 8,
    sorted 8.
    """
    return case.voxels * max(8 * case.channels + NORMALISED, 26)


def predicting(case: Volume, outputs: int, window: int, weights: int, slab: float = 1.0) -> Need:
    """Return what predicting a case needs.

    Args:
        case: Its size.
        outputs: Channels that are blended.
        window: Bytes that the network holds for the windows of a pass.
        weights: Bytes of the network's weights.
        slab: Share of the volume whose outputs are held at a time.

    First the image is prepared, see `prepare_bytes`. Then, for a voxel of every channel: prepared 4 bytes. For a
    voxel of every output in the slab: blended 4, and 4 while it is finished. For a voxel of the label: 1, and 1
    while it is turned to the file's axes. `case` is the larger of what is read and what becomes of it.
    """
    first = case.voxels * (8 * case.channels + NORMALISED)
    then = case.voxels * (4 * case.channels + 8 * outputs * slab + 2) + window
    return Need(round(GAPS * max(first, then)) + weights + LIBRARIES // 2, 0, case.voxels * 2)
