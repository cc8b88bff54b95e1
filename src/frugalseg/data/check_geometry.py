"""Where a file says that its voxels lie: whether it contradicts itself, and whether two files agree.

NIfTI has two transforms, sform and qform; nibabel, and so this program, takes the sform if it is set, other
programs take the qform. Its lengths are in the header's unit, metres and micrometres converted. Oblique images are
fine, sheared ones are not: along a sheared axis distances are not what the spacing says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.data.check_report import MEND, Remark
from frugalseg.data.prepare import describe_difference
from frugalseg.data.readers import unit_mm
from frugalseg.geometry import Grid, tolerance_mm

MEND_LIMIT_MM = 0.1
NOISE_MM = 0.01  # a qform has three digits of a rotation fewer than the sform beside it
SHEAR_DEGREES = 0.1
_RELATIVE = 1e-3


def mend_limit(grid: Grid, given: float | None = None) -> float:
    """Return how many millimetres a header may be wrong to be mended: 0.1, at most half a voxel, unless given."""
    return min(MEND_LIMIT_MM, 0.5 * min(grid.spacing)) if given is None else given


def geometry_remarks(file: Path, grid: Grid) -> list[Remark]:
    """Look at the header of a file that lies on `grid`."""
    remarks = []
    if (degrees := grid.skew) > SHEAR_DEGREES:
        remarks.append(
            Remark(
                "warning",
                "shear",
                f"its axes are not at right angles ({degrees:.3g} degrees off)",
                "spacing and distances in mm are wrong along them",
                "resample it to a grid of right angles (a tilted gantry has to be straightened), its label with it",
            )
        )
    header = nifti_header(file)
    return remarks if header is None else remarks + _transforms(header, grid) + _unit(header, grid)


def nifti_header(file: Path) -> Any:
    """Return the header of a NIfTI file, None for another type of file."""
    import nibabel as nib

    image = nib.load(file) if file.name.endswith((".nii", ".nii.gz")) else None
    return image.header if isinstance(image, nib.Nifti1Image) else None


def contradiction(header: Any, grid: Grid) -> float:
    """Return by how many millimetres a NIfTI header contradicts itself at the farthest corner of its `grid`.

    Two transforms may differ; where only the sform is set, the spacing beside it (pixdim) may. Infinite: the qform
    is damaged. 0: there is no sform, from which the grid would be, so nothing to contradict.
    """
    from nibabel.spatialimages import HeaderDataError

    if int(header["sform_code"]) <= 0:
        return 0.0
    if int(header["qform_code"]) <= 0:
        told = unit_mm(header) * np.array(header.get_zooms()[:3], np.float64)
        known = len(told)  # two in a file of one slice that says nothing of a third axis
        apart = (told - grid.spacing[:known]) * (np.array(grid.shape[:known]) - 1)
        return float(np.linalg.norm(apart))
    try:
        scale = unit_mm(header)
        return grid.difference(Grid(grid.shape, np.diag([scale, scale, scale, 1.0]) @ header.get_qform()))
    except (ValueError, HeaderDataError):
        return float("inf")


def _transforms(header: Any, grid: Grid) -> list[Remark]:
    codes = int(header["sform_code"]), int(header["qform_code"])
    if max(codes) <= 0:
        found = (
            f"neither its sform nor its qform is set (codes {codes[0]}, {codes[1]}); {grid.orientation} is taken"
        )
        harm = "left and right may be exchanged"
        return [Remark("warning", "no-orientation", found, harm, "write the right orientation into the header")]
    apart = contradiction(header, grid)
    if apart <= NOISE_MM:
        return []
    limit = mend_limit(grid)
    other = "qform" if codes[1] > 0 else "spacing (pixdim)"
    size = f"its {other} is damaged"
    if np.isfinite(apart):
        size = f"its sform and its {other} differ by {apart:.4g} mm at the farthest corner"
    return [
        Remark(
            "note" if apart <= limit else "warning",
            "sform-qform" if codes[1] > 0 else "sform-pixdim",
            f"{size}; the sform is taken",
            f"programs that take the {other} see it elsewhere",
            "nothing to do"
            if apart <= limit
            else "make sure that the sform is right"
            if apart == np.inf
            else f"look which one is right (over the limit of {limit:g} mm)",
            MEND if apart <= limit or apart == np.inf else f"{MEND} --mend-limit MM, to take the sform",
        )
    ]


def _unit(header: Any, grid: Grid) -> list[Remark]:
    unit = {1e3: "metres", 1e-3: "micrometres"}.get(unit_mm(header))
    if unit is None:
        return []
    sides = " x ".join(f"{side:.4g}" for side in grid.spacing)
    found = f"its header says that lengths are in {unit}; its voxels are taken for {sides} mm"
    harm = "programs that do not look at the unit are wrong by 1000"
    return [Remark("note", "unit", found, harm, "make sure that this is so, or write it in millimetres")]


def channel_remarks(files: Sequence[Path], grids: Sequence[Grid]) -> list[tuple[Path, Remark]]:
    """Compare the grids of a case's channel files with the first one's."""
    remarks = []
    for file, grid in zip(files[1:], grids[1:], strict=True):
        if told := apart(grid, grids[0], "it", files[0].name):
            harm = "channels would be laid on one another where they do not match"
            todo = "register and resample the channels to one grid"
            remarks.append((file, Remark("error", "channel-grid", told, harm, todo, f"{MEND} --resample-channels")))
    return remarks


def label_remark(image: Grid, label: Grid) -> Remark | None:
    """Compare the grid of a label map with its image's."""
    told = apart(label, image, "label", "its image")
    if not told:
        return None
    limit = mend_limit(image)
    small = image.shape == label.shape and image.difference(label) <= limit
    todo = "take the image's header" if small else "replace it by a label map made on this image"
    if not small and image.shape == label.shape:
        todo += f" (over {limit:g} mm it may be another patient's)"
    harm = "structures would be learnt in the wrong place"
    return Remark("error", "label-grid", told, harm, todo, MEND if small else "")


def apart(one: Grid, other: Grid, name: str, other_name: str) -> str:
    """Say how the first grid differs from the second one, and by how many millimetres; "" if it does not."""
    if one.shape != other.shape:
        centres = [grid.affine @ [*(np.array(grid.shape) - 1) / 2, 1] for grid in (one, other)]
        distance = float(np.linalg.norm(centres[1] - centres[0]))
        return (
            f"{name} has shape {one.shape}, {other_name} {other.shape}; their centres lie {distance:.4g} mm apart"
        )
    limit = tolerance_mm(other)
    if (distance := one.difference(other)) <= limit:
        return ""
    difference = describe_difference(other, one)
    return f"{name} and {other_name} lie {distance:.4g} mm apart ({difference}); the limit is {limit:g} mm"
