"""What predicting needs of memory and disk, said before it begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frugalseg.errors import UserError
from frugalseg.inference.inputs import PredictionInput
from frugalseg.jobs.ensemble import Ensemble
from frugalseg.jobs.needs import predicting, prepare_bytes
from frugalseg.jobs.needs_text import needs_line, require_disk, shortage
from frugalseg.jobs.prepare import volumes_of
from frugalseg.jobs.resources import free_disk, look
from frugalseg.jobs.show import say
from frugalseg.jobs.voters import bytes_of_votes

WINDOW_FLOATS = 6  # for a voxel of a window and a channel of the first level, while nothing is kept for gradients


def say_needs(
    model: Ensemble, inputs: Sequence[PredictionInput], out: Path, who: str = "predict", maps: int = 0
) -> bool:
    """Say what the largest case needs; return whether there is memory for reading the next one meanwhile.

    Args:
        model: Who predicts.
        inputs: The cases.
        out: Where what is predicted is written.
        who: Stands before what is said.
        maps: Probabilities that are written of each case; meanwhile those of one lie in nameless files, too.

    Raises:
        UserError: It does not fit into the memory, or all of them not onto the disk.
    """
    volumes = volumes_of([item.files for item in inputs], model.preparation(model.members[0]))
    if not volumes:
        return False
    here, free = look(model.plan.device), free_disk(out)
    at_a_time = model.config.inference.windows(model.plan.crop)
    window = at_a_time * math.prod(model.plan.crop) * model.plan.width * WINDOW_FLOATS * 4
    weights = sum(tensor.nbytes for member in model.members for tensor in member.network.parameters())
    largest = max(volumes, key=lambda volume: volume.voxels)
    slab = largest.slab(model.plan.crop)  # a share of the volume
    need = predicting(largest, model.scheme.outputs, window, weights, slab)
    # Each further member has its own slab of probabilities, and its own image where it was prepared in another way.
    each = 4 * len(model.channels) + 8 * model.scheme.outputs * slab
    need = replace(need, ram=need.ram + round((len(model.members) - 1) * largest.voxels * each))
    if any(model.voters):
        need = replace(
            need, ram=need.ram + bytes_of_votes(model.voters, largest.voxels, round(slab * largest.voxels))
        )
    sizes = [volume.voxels for volume in volumes]
    need = replace(need, disk=sum(sizes) + 4 * maps * (sum(sizes) + max(sizes)))
    both = replace(need, ram=need.ram + prepare_bytes(largest)) if len(volumes) > 1 else need
    ahead = len(volumes) > 1 and shortage(both, here) is None
    need = both if ahead else need
    if (lacking := shortage(need, here)) is not None:
        spare = ", or --no-register" if any(model.voters) else ""
        raise UserError(f"the largest case needs {lacking}; take a machine with more memory{spare}", who)
    require_disk(need, free, out)
    say(f"{who}: {needs_line(need, here, free)} at most")
    return ahead
