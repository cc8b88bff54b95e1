"""Three slices through a case, truth and prediction outlined, in the canonical orientation."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.readers import read_image, read_label
from frugalseg.data.scheme import LabelScheme
from frugalseg.geometry import Grid, Reorder

# Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
_VIEWS = (("sagittal", 0, "P", "A", "I", "S"), ("coronal", 1, "L", "R", "I", "S"), ("axial", 2, "L", "R", "P", "A"))


@dataclass(frozen=True)
class PictureCase:
    """A case to be shown: the image (its first channel), its truth, its prediction.

    `unknown`: structures that were not annotated, so not scored; of them nothing is drawn.
    """

    name: str
    title: str
    dice: float
    image: Path
    truth: Path
    prediction: Path
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One view, ready for drawing: rows run down, columns to the right; `aspect`: mm a row over mm a column."""

    view: str
    image: NDArray[np.float32]
    truth: NDArray[np.int32]
    prediction: NDArray[np.int32]
    aspect: float
    letters: tuple[str, str, str, str]


def slices(
    grid: Grid, image: NDArray[np.float32], truth: NDArray[np.int32], prediction: NDArray[np.int32]
) -> list[Slice]:
    """Cut three views through the middle of the structures, the same whatever the file's orientation.

    Where the plane through the middle misses them all, the one that holds the most of them is taken.
    """
    reorder = Reorder.to_canonical(grid)
    canonical = reorder.apply_grid(grid)
    volumes = [reorder.apply(volume) for volume in (image, truth, prediction)]
    foreground = (volumes[1] > 0) | (volumes[2] > 0)
    result = []
    for view, axis, left, right, down, up in _VIEWS:
        place = _plane(foreground, axis)
        cut = [np.take(volume, place, axis=axis).T[::-1] for volume in volumes]
        horizontal, vertical = (other for other in range(3) if other != axis)
        aspect = canonical.spacing[vertical] / canonical.spacing[horizontal]
        result.append(Slice(view, cut[0], cut[1], cut[2], aspect, (left, right, down, up)))
    return result


def _plane(foreground: NDArray[np.bool_], axis: int) -> int:
    """Return the plane through the middle of a mask (x, y, z), or of the image if the mask is empty."""
    counts = foreground.sum(axis=tuple(other for other in range(3) if other != axis))
    if not counts.any():
        return (len(counts) - 1) // 2
    middle = round(float(np.average(np.arange(len(counts)), weights=counts)))
    return middle if counts[middle] else int(counts.argmax())


MANY = 40  # times the colours: more structures than anybody has
NAMED = 22  # structures in a legend


def draw_case(case: PictureCase, scheme: LabelScheme) -> str:
    """Return a data URI of the case's picture (PNG).

    Raises:
        DataError: One of its files cannot be read.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    grid, image = read_image(case.image)
    _, truth, _ = read_label(case.truth, scheme.allowed)
    _, prediction, _ = read_label(case.prediction, scheme.allowed)
    # What is drawn is what was scored: nothing is known of ignored voxels, in neither mask.
    ignored = scheme.ignored(truth)
    truth, prediction = np.where(ignored, 0, truth), np.where(ignored, 0, prediction)
    low, high = grey_range(image[0])
    figure = Figure(figsize=(9.5, 3.6), dpi=100, layout="constrained")
    panels: Any = figure.subplots(1, 3)
    for panel, cut in zip(panels, slices(grid, image[0], truth, prediction), strict=True):
        show_slice(panel, cut, low, high)
        for structure, colour in zip(scheme.structures, COLOURS * MANY):
            if structure in case.unknown:
                continue
            for label, style in ((cut.truth, "solid"), (cut.prediction, "dashed")):
                mask = scheme.mask(label, structure)
                if mask.any() and min(mask.shape) > 1:
                    panel.contour(mask, [0.5], colors=[colour], linewidths=1.4, linestyles=style)
    lines = [Line2D([], [], color=c, label=name) for name, c in zip(scheme.structures, COLOURS * MANY)]
    lines, more = lines[:NAMED], len(lines) - NAMED
    for style, name in (("-", "truth"), ("--", "prediction")):
        lines.append(Line2D([], [], color="black", ls=style, label=name))
    if more > 0:
        lines.append(Line2D([], [], color="none", label=f"and {more} more"))
    longest = max(len(str(line.get_label())) for line in lines)
    columns = max(1, min(6, len(lines), 930 // (50 + 7 * longest)))  # pixels of a line and a letter, at most
    figure.set_figheight(3.6 + 0.2 * ((len(lines) - 1) // columns))
    legend = figure.legend(handles=lines, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may hold dollars
    return data_uri(figure)


def grey_range(channel: NDArray[np.float32]) -> tuple[float, float]:
    """Return the values to be shown as black and as white, for a channel (x, y, z) that may hold NaN."""
    known = channel[np.isfinite(channel)]
    inside = known[known != 0]  # the empty border would take up the dark half of the range
    if not known.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(inside if inside.size else known, (1, 99.5)))
    return low, max(high, low + 1e-6)


def show_slice(panel: Any, cut: Slice, low: float, high: float) -> None:
    """Draw a view's image with its true proportions, and the letters that say where its sides are."""
    from matplotlib import colormaps

    grey = colormaps["gray"].with_extremes(bad="magenta")  # what is not finite
    panel.imshow(np.ma.masked_invalid(cut.image), cmap=grey, vmin=low, vmax=high, aspect=cut.aspect)
    panel.set(xticks=[], yticks=[], title=cut.view)
    places = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.04), (0.5, 0.96))
    for letter, (x, y) in zip(cut.letters, places, strict=True):
        panel.text(
            x,
            y,
            letter,
            transform=panel.transAxes,
            color="white",
            ha="center",
            va="center",
            fontsize=9,
            bbox={"facecolor": "black", "alpha": 0.5, "pad": 1.5, "linewidth": 0},
        )


def png(figure: Any) -> bytes:
    """Return a matplotlib figure as a PNG, the same that `savefig` writes, which draws one with a layout twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(buffer)
    return buffer.getvalue()


def data_uri(figure: Any) -> str:
    """Return a matplotlib figure as the data URI of a PNG."""
    return png_uri(png(figure))


def png_uri(picture: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()
