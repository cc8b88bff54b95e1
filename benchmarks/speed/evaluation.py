"""Dice, HD95 and surface Dice of BraTS-sized cases with three regions: ours against MONAI, surface-distance, MedPy.

Every tool gets the same boolean masks and spacing in memory. MedPy has no surface Dice: it is timed for Dice and
HD95, and surface-distance for HD95 and surface Dice, which it weighs by area. Values are compared with our value of
the same definition: MONAI's HD95 with `hd95_mm` (the larger directed percentile), MedPy's with `hd95_pooled_mm`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from benchmarks.speed.rounds import Arrays, Contender, alternate
from benchmarks.speed.text import Table
from numpy.typing import NDArray

SHAPE, SPACING = (240, 240, 155), (1.0, 1.0, 1.0)
KINDS = ("small", "large", "many parts", "far apart", "one empty")
Masks = list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]
Run = Callable[[], dict[str, Any]]


def case(kind: str) -> Masks:
    """Return truth and prediction of three nested regions."""
    from scipy import ndimage

    generator = np.random.default_rng(3)
    wave = ndimage.zoom(ndimage.gaussian_filter(generator.standard_normal((60, 60, 39)), 3), 4, order=1)
    wave = wave[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(np.float32) / wave.std()
    x, y, z = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in SHAPE), indexing="ij", sparse=True)
    radius = {"small": 9.0, "large": 42.0, "many parts": 0.0, "far apart": 14.0, "one empty": 20.0}[kind]
    centre = np.sqrt((x - 120) ** 2 + (y - 110) ** 2 + (z - 75) ** 2)
    field = 2.6 - wave if kind == "many parts" else centre - radius + 3 * wave
    moved = np.roll(field, (2, 1, 0), (0, 1, 2))
    if kind == "far apart":
        moved = np.roll(field, (70, 40, 0), (0, 1, 2))
    steps = (0.0, -0.25, -0.5) if kind == "many parts" else (0.0, -radius / 4, -radius / 2)
    masks = [(field < step, moved < step) for step in steps]
    if kind == "one empty":
        masks[2] = (masks[2][0], np.zeros(SHAPE, np.bool_))
    return masks


def scored(masks: Masks) -> Masks:
    """Return the pairs for which distances are defined."""
    return [(truth, guess) for truth, guess in masks if truth.any() and guess.any()]


def ours(kind: str) -> Run:
    """Score the case as `frugalseg evaluate` does: three regions and their union, every measure."""
    from frugalseg.evaluation import score_case
    from frugalseg.geometry import Grid

    masks = case(kind)
    grid = Grid(SHAPE, np.diag([*SPACING, 1.0]))
    truth = {str(number): pair[0] for number, pair in enumerate(masks)}
    guess = {str(number): pair[1] for number, pair in enumerate(masks)}

    def run() -> dict[str, Any]:
        rows = [row for row in score_case("case", truth, guess, grid, 1.0)[:3] if row.status == "scored"]
        names = ("dice", "hd95_mm", "surface_dice")
        return {name: np.array([getattr(row, name) for row in rows]) for name in names}

    return run


def pooled(kind: str) -> Run:
    """Our HD95 by MedPy's definition, for the comparison of values."""
    from frugalseg.evaluation.surface import surface_scores

    masks = scored(case(kind))
    return lambda: {"hd95": np.array([surface_scores(*pair, SPACING, 1.0).hd95_pooled_mm for pair in masks])}


def monai(kind: str) -> Run:
    """MONAI's Dice, HD95 and surface Dice."""
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    masks = [tuple(torch.from_numpy(mask)[None, None] for mask in pair) for pair in scored(case(kind))]

    def run() -> dict[str, Any]:
        dice, distance, surface = [], [], []
        for truth, guess in masks:
            dice.append(float(compute_dice(guess, truth)))
            distance.append(
                float(
                    compute_hausdorff_distance(
                        guess, truth, include_background=True, percentile=95, spacing=SPACING
                    )
                )
            )
            surface.append(
                float(compute_surface_dice(guess, truth, [1.0], include_background=True, spacing=SPACING))
            )
        return {"dice": np.array(dice), "hd95_mm": np.array(distance), "surface_dice": np.array(surface)}

    return run


def surface_distance(kind: str) -> Run:
    """DeepMind's HD95 and surface Dice, and Dice."""
    from surface_distance import (
        compute_dice_coefficient,
        compute_robust_hausdorff,
        compute_surface_dice_at_tolerance,
        compute_surface_distances,
    )  # fmt: skip

    masks = scored(case(kind))

    def run() -> dict[str, Any]:
        found = []
        for truth, guess in masks:
            both = compute_surface_distances(truth, guess, SPACING)
            found.append(
                (
                    compute_dice_coefficient(truth, guess),
                    compute_robust_hausdorff(both, 95),
                    compute_surface_dice_at_tolerance(both, 1.0),
                )
            )
        return {"values": np.array(found)}

    return run


def medpy(kind: str) -> Run:
    """MedPy's Dice and HD95."""
    from medpy.metric.binary import dc, hd95

    masks = scored(case(kind))

    def run() -> dict[str, Any]:
        return {
            "dice": np.array([dc(guess, truth) for truth, guess in masks]),
            "hd95": np.array([hd95(guess, truth, SPACING) for truth, guess in masks]),
        }

    return run


def agree(results: dict[str, Arrays]) -> None:
    """Values of the same definition are the same."""
    mine = results["ours"]
    for name in ("dice", "hd95_mm"):
        np.testing.assert_allclose(results["MONAI"][name], mine[name], rtol=1e-4, err_msg=name)
    # MONAI counts surface voxels as ours does, and compares distances without allowing for rounding.
    np.testing.assert_allclose(results["MONAI"]["surface_dice"], mine["surface_dice"], atol=1e-3)
    np.testing.assert_allclose(results["MedPy"]["dice"], mine["dice"], rtol=1e-6)
    np.testing.assert_allclose(results["MedPy"]["hd95"], results["pooled"]["hd95"], rtol=1e-6)


def main() -> tuple[dict[str, Any], str]:
    """Run all rows; return what is written, as JSON and as Markdown."""
    here = "benchmarks.speed.evaluation"
    table = Table(
        "lesions",
        "voxels",
        "ours",
        "MONAI",
        "surface-distance",
        "MedPy (no surface Dice)",
        "MONAI / ours",
        "MedPy / ours",
    )
    rows = []
    for kind in KINDS:
        names = {
            "ours": "ours",
            "MONAI": "monai",
            "surface-distance": "surface_distance",
            "MedPy": "medpy",
            "pooled": "pooled",
        }
        found = alternate(
            [Contender(name, f"{here}:{what}", {"kind": kind}) for name, what in names.items()],
            repeats=3,
            agree=agree,
        )
        rows.append({"lesions": kind, "figures": [f.to_json() for f in found.values()]})
        own = found["ours"].median
        times = [f"{1000 * found[name].median:.0f} ms" for name in ("ours", "MONAI", "surface-distance", "MedPy")]
        voxels = sum(int(pair[0].sum()) for pair in case(kind)[:1])
        table.add(kind, voxels, *times, *(f"{found[name].median / own:.1f}" for name in ("MONAI", "MedPy")))
    return {"rows": rows}, table.markdown()
