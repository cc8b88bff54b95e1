"""A picture of a case as it lies on disk: three planes, structures outlined, what is wrong in loud colours.

Unlike a report's pictures these are made of data that may be broken: voxels that are not finite are magenta, label
values outside the scheme are filled with red.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.manifest import Case
from frugalseg.data.readers import read_header, read_image
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError
from frugalseg.files import write_bytes
from frugalseg.geometry import Grid
from frugalseg.report.pictures import COLOURS, grey_range, png, show_slice, slices

STRANGE = "#FF2020"


@dataclass(frozen=True)
class Overlay:
    """What is drawn: a channel (x, y, z), label values (x, y, z) as they are in the file, or None, and a title.

    `unknown`: structures that were not annotated, of which nothing is drawn.
    """

    title: str
    grid: Grid
    channel: NDArray[np.float32]
    label: NDArray[np.float32] | None = None
    unknown: tuple[str, ...] = ()


def read_overlay(case: Case, scheme: LabelScheme, role: str, channel: int = 0) -> Overlay:
    """Read what there is to be drawn of a case; a label that does not fit its image is left out, and that is said.

    Args:
        case: The case; of a test case the manifest knows no label, so none is drawn.
        scheme: Names the structures.
        role: What the case is for, for the title.
        channel: The channel to show.

    Raises:
        DataError: The image cannot be read.
    """
    grid, image = read_image(case.images[channel] if len(case.images) > 1 else case.image)
    shown = image[0] if len(case.images) > 1 else image[min(channel, len(image) - 1)]
    sides = [" x ".join(f"{side:.4g}" for side in values) for values in (grid.shape, grid.spacing)]
    title = f"{case.name}   {sides[0]} voxels of {sides[1]} mm, axes {grid.orientation}, {role}"
    title += f", channel {channel}" if len(case.images) > 1 or len(image) > 1 else ""
    unknown = tuple(name for name in scheme.structures if case.annotated is not None and name not in case.annotated)
    if case.label is None:
        return Overlay(title, grid, shown)
    try:
        header = read_header(case.label)
        if (header.grid.shape, header.channels) != (grid.shape, 1):
            return Overlay(f"{title}\n(the label has another shape, and is not drawn)", grid, shown)
        return Overlay(title, grid, shown, read_image(case.label)[1][0], unknown)
    except DataError:
        return Overlay(f"{title}\n(the label cannot be read)", grid, shown)


def draw_overlay(path: Path, overlay: Overlay, scheme: LabelScheme) -> None:
    """Write the picture as a PNG.

    Raises:
        DataError: It cannot be written.
    """
    from matplotlib.figure import Figure

    label = np.zeros(overlay.grid.shape, np.float32) if overlay.label is None else np.nan_to_num(overlay.label)
    values = np.rint(label).astype(np.int32)
    strange = np.where(np.isin(values, scheme.allowed), 0, 1).astype(np.int32)
    drawn = np.where(scheme.ignored(values), 0, values)
    low, high = grey_range(overlay.channel)
    figure = Figure(figsize=(9.5, 3.9), dpi=80, layout="constrained")
    figure.suptitle(overlay.title, fontsize=9, parse_math=False)
    panels: Any = figure.subplots(1, 3)
    # The odd voxels in the place of a second mask: the planes go through them, too.
    for panel, cut in zip(panels, slices(overlay.grid, overlay.channel, drawn, strange), strict=True):
        show_slice(panel, cut, low, high)
        for structure, colour in zip(scheme.structures, COLOURS * 40):
            mask = scheme.mask(cut.truth, structure)
            if structure not in overlay.unknown and mask.any() and min(mask.shape) > 1:
                panel.contour(mask, [0.5], colors=[colour], linewidths=1.3)
        if cut.prediction.any() and min(cut.prediction.shape) > 1:
            panel.contourf(cut.prediction, [0.5, 1.5], colors=[STRANGE], alpha=0.6)
    if overlay.label is not None:
        _legend(figure, values, scheme, overlay.unknown, int(strange.sum()))
    write_bytes(path, png(figure))


def _legend(
    figure: Any, values: NDArray[np.int32], scheme: LabelScheme, unknown: Sequence[str], strange: int
) -> None:
    from matplotlib.lines import Line2D

    lines = []
    if strange:  # first: it is what the picture is there to show
        lines.append(Line2D([], [], color=STRANGE, lw=5, label=f" not in the scheme ({strange} voxels)"))
    for name, colour in zip(scheme.structures, COLOURS * 40):
        size = "not annotated" if name in unknown else f"{int(scheme.mask(values, name).sum())} voxels"
        lines.append(Line2D([], [], color=colour, label=f" {name} ({size})"))
    if len(lines) > 12:
        lines[11:] = [Line2D([], [], color="none", label=f"and {len(lines) - 11} more structures")]
    legend = figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
