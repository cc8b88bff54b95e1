"""Who is who on the grid of encodings: context, targets, candidates for negatives; and who is needed at all.

With slabs between context and targets, or the chequered pattern, many encodings of a step are in no term of its
loss: they would only have served as negatives, and few of those are drawn. They need not be computed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from frugalseg.networks.keyed import keyed_choice
from frugalseg.objectives.across import all_rows, row_numbers
from frugalseg.objectives.cpc_layout import Layout


class Roles(NamedTuple):
    """Parts of an encoding grid (B, C, a, b, n), cut axis last: context, what is to be predicted, candidates."""

    context: Tensor
    targets: Tensor
    candidates: Tensor


def assign_roles(grid: Tensor, slabs: int, pattern: str, direction: str) -> Roles:
    """Split an encoding grid (B, C, a, b, n), cut axis last, into context, targets and negative candidates.

    Candidates are (B, C, m): everything but the targets, as published (for `ichimatsu` the even slabs).
    """
    n = grid.shape[-1]
    if pattern == "ichimatsu":
        pairs = n // 2
        context, targets = grid[:, :, 0::4, 0::4, 0 : 2 * pairs : 2], grid[:, :, 2::4, 2::4, 1::2]
        a, b = (min(context.shape[i], targets.shape[i]) for i in (2, 3))
        return Roles(context[:, :, :a, :b], targets[:, :, :a, :b], grid[..., 0::2].flatten(2))
    lower, upper = grid[..., :slabs], grid[..., n - slabs :]
    if direction == "upper":
        return Roles(lower, upper, grid[..., : n - slabs].flatten(2))
    return Roles(upper, lower, grid[..., slabs:].flatten(2))


def draw_negatives(keys: Tensor, candidates: int, count: int, images: int = 1) -> Tensor:
    """Return which candidates are each sample's negatives (B, count), as functions of its key.

    Args:
        keys: (B,).
        candidates: Of one image.
        count: Wanted; fewer where there are not so many candidates.
        images: From how many images' candidates they are drawn; numbered one image after another.
    """
    pool = candidates * images
    return keyed_choice(keys, pool, min(count, pool))


class Needed:
    """Which patches of a step's crops are in a term of its loss.

    `indices` gives them for the step's keys; `most` is how many of a crop they are at most, on average.
    """

    def __init__(self, layout: Layout, direction: str, negatives: int, from_batch: bool) -> None:
        self.layout, self.negatives, self.from_batch = layout, negatives, from_batch
        # On the CPU wherever the network is built: these are numbers, also where its weights have none yet.
        places = torch.arange(layout.patches, device="cpu").view(1, 1, *layout.grid).movedim(2 + layout.axis, -1)
        roles = assign_roles(places, layout.slabs, layout.pattern, direction)
        self.candidates: list[int] = roles.candidates.flatten().tolist()
        self.always: list[int] = sorted([*roles.context.flatten().tolist(), *roles.targets.flatten().tolist()])
        others = sorted(set(self.candidates) - set(self.always))
        self.perhaps = others[:negatives]

    @property
    def most(self) -> int:
        """Patches of a crop that are needed, at most."""
        return len(self.always) + len(self.perhaps)

    def indices(self, keys: Tensor, most: bool = False) -> Tensor:
        """Return the numbers (m,) of the needed ones among the patches of this process's samples (B x patches).

        Args:
            keys: (B,), the samples'.
            most: As many as can be needed, whatever the keys: sizes then do not depend on numbers.
        """
        patches, device = self.layout.patches, keys.device
        always = torch.tensor(self.always, device=device)
        samples = torch.arange(len(keys), device=device)
        if most:
            all_of_one = torch.tensor([*self.always, *self.perhaps], device=device)
            return (samples[:, None] * patches + all_of_one).flatten()
        everyone = all_rows(keys) if self.from_batch else keys
        size = len(self.candidates)
        drawn = draw_negatives(everyone, size, self.negatives, len(everyone) if self.from_batch else 1)
        if not self.from_batch:
            drawn = drawn + size * samples[:, None]
        wanted = torch.zeros(len(everyone), patches, dtype=torch.bool, device=device)
        wanted[:, always] = True
        wanted[drawn // size, torch.tensor(self.candidates, device=device)[drawn % size]] = True
        mine = row_numbers(len(keys), device) if self.from_batch else samples
        return wanted[mine].flatten().nonzero().squeeze(1)
