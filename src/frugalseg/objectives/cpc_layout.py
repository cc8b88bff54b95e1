"""How contrastive predictive coding cuts a crop: patches and their grid, cut axis, slabs of context and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from frugalseg.errors import UserError
from frugalseg.networks.blocks import Triple

if TYPE_CHECKING:
    from frugalseg.objectives.cpc import CpcSettings

PATCH_SIDES = (32, 16, 8)
LEAST_TARGETS = 16
AXES = {"x": 0, "y": 1, "z": 2}


class Layout(NamedTuple):
    """How a crop is cut: patch sides and steps in voxels, sides of the grid of patches, cut axis, slabs k."""

    patch: Triple
    stride: Triple
    grid: Triple
    axis: int
    slabs: int
    pattern: str = "updown"

    @property
    def gap(self) -> int:
        """Slabs between context and targets."""
        return self.grid[self.axis] - 2 * self.slabs if self.pattern == "updown" else 0

    @property
    def patches(self) -> int:
        """Number of patches in a crop."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def targets(self) -> int:
        """Number of predicted positions."""
        across = [side for axis, side in enumerate(self.grid) if axis != self.axis]
        if self.pattern == "ichimatsu":  # every fourth row and column from the third on, as often as a context has
            across = [(side + 1) // 4 for side in across]
        return self.slabs * across[0] * across[1]

    def describe(self) -> str:
        """Say the layout in a line."""
        size = "x".join(map(str, self.patch))
        grid = "x".join(map(str, self.grid))
        how = f"gap {self.gap}" if self.pattern == "updown" else "alternating with the targets'"
        return (
            f"patches {size}, grid {grid}, cut along {'xyz'[self.axis]}: {self.slabs} slabs of context, "
            f"{how}, {self.targets} targets"
        )


def grid_sides(crop: Triple, patch: Triple, stride: Triple) -> Triple:
    """Return how many patches fit along each axis."""
    x, y, z = (max(0, (side - p) // s + 1) for side, p, s in zip(crop, patch, stride))
    return x, y, z


def choose_layout(settings: CpcSettings, crop: Triple, total_stride: Triple) -> Layout:
    """Choose patch and cut axis so that at least one slab and 16 targets remain, the largest patch first.

    Raises:
        UserError: None does; names the sizes.
    """
    tried = []
    least = LEAST_TARGETS if settings.patch is None else 2
    for side in PATCH_SIDES if settings.patch is None else (0,):
        # An axis shorter than the patch (flat or anisotropic images) is taken whole.
        patch = settings.patch or tuple(min(side, c) for c in crop)
        if settings.patch is None and any(p < min(t, c) for p, t, c in zip(patch, total_stride, crop)):
            continue
        stride = settings.stride or tuple(max(1, p // 2) for p in patch)
        grid = grid_sides(crop, (patch[0], patch[1], patch[2]), (stride[0], stride[1], stride[2]))
        layouts = []
        for axis in range(3) if settings.axis is None else (AXES[settings.axis],):
            layouts.append(
                Layout(
                    (patch[0], patch[1], patch[2]),
                    (stride[0], stride[1], stride[2]),
                    grid,
                    axis,
                    slab_count(settings, grid[axis], patch[axis], stride[axis]),
                    settings.pattern,
                )
            )
        best = max(layouts, key=lambda layout: layout.targets if layout.slabs > 0 else -1)
        if best.slabs > 0 and min(grid) > 0 and best.targets >= least:
            return best
        tried.append(f"{'x'.join(map(str, patch))} (grid {'x'.join(map(str, grid))})")
    raise UserError(
        f"the crop {'x'.join(map(str, crop))} is too small for contrastive predictive coding: patches of "
        f"{', '.join(tried)} leave less than one slab of context or {least} targets; "
        "choose a larger crop, or patch, stride and axis by hand",
        "auxiliary.cpc",
    )


def slab_count(settings: CpcSettings, slabs: int, patch: int, stride: int) -> int:
    """Return k, the slabs of context and of targets, for a cut axis of so many slabs."""
    if settings.pattern == "ichimatsu" or settings.gap == "published":
        return slabs // 2
    # Slab i covers [i s, i s + p): with g slabs between, nothing is shared when (g + 1) s >= p.
    least = -(-patch // stride) - 1 if settings.gap == "disjoint" else settings.gap
    return max(0, (slabs - least) // 2)
