"""What registering and voting hold of memory, so that as many are done at a time as fit."""

from __future__ import annotations

from frugalseg.semisup.fusion import FusionSettings, window_reach
from frugalseg.semisup.registration import RegistrationSettings
from frugalseg.semisup.undecided import block_side

BYTES_REGISTERING = 140  # of a voxel of the grid on which a pair is registered: measured
BYTES_LAYING = 12  # and of a voxel of the image, where that grid is coarser: means and displacement: measured
BYTES_MASKS = 4  # of a voxel: where something is known, undecided, and about it


def bytes_of_block(voxels: int, channels: int, outputs: int, settings: FusionSettings, finer: float = 1) -> int:
    """Return what voting about a block of a target of so many voxels holds at most, about.

    `finer`: so many voxels a labelled case has in one of the target's.
    """
    beside = int(settings.search) + window_reach(settings.window)
    wide = min(voxels, (block_side((beside,) * 3) + 2 * beside) ** 3)
    return round(wide * (20 * channels + 28 * outputs + 100 + (finer - 1) * (8 * channels + 9 * outputs)))


def bytes_of_fusing(voxels: int, channels: int, outputs: int, cases: int, settings: FusionSettings) -> int:
    """Return what fusing the labels of `cases` cases for a target of so many voxels holds at most, about.

    With its image, their thinned displacements, and the votes, where structures fill all of it; without the cases.
    """
    held = voxels * (cases + 4 * channels + 6 * outputs + BYTES_MASKS)
    return held + bytes_of_block(voxels, channels, outputs, settings)


def bytes_of_registering(voxels: int, settings: RegistrationSettings) -> int:
    """Return what registering holds, of which the larger image has so many voxels, beside the two images."""
    return BYTES_REGISTERING * min(voxels, settings.voxels) + (
        BYTES_LAYING * voxels if voxels > settings.voxels else 0
    )
