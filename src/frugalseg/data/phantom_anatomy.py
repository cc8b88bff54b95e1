"""The made-up head behind the phantom data set: tissues, lesions, and what is mistaken for a lesion.

Everything is drawn in coordinates from -1 to 1 along each axis (right, front, up), so a case has the same
anatomy at every shape, only sampled finer or coarser. Nothing here knows about contrasts or intensities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]

CSF, GREY, WHITE = 0, 1, 2
BRAIN = np.array([0.74, 0.86, 0.79])  # half-widths of the brain, 1 = half the image
RIM, SPECK, NONE = 0, 1, 2  # how much enhancing tumour a case has
ENHANCEMENT = (RIM, RIM, RIM, SPECK, NONE)  # shuffled within every five cases


@dataclass(frozen=True)
class Anatomy:
    """One head, sampled on a grid; every array is (x, y, z) except `place`, which is (3, x, y, z).

    Attributes:
        place: Coordinates in the head's own frame: right, front, up.
        brain: Inside of the brain, its fluid included.
        tissue: CSF, GREY or WHITE at every voxel; meaningless outside the brain.
        ventricles: The inner fluid.
        caps: 0 to 1, how near a voxel is to the ventricles' walls.
    """

    place: Field
    brain: Mask
    tissue: NDArray[np.uint8]
    ventricles: Mask
    caps: Field


@dataclass(frozen=True)
class Distractors:
    """Structures that look like a lesion in one contrast and not in the others; masks of shape (x, y, z)."""

    gliosis: Mask
    cysts: Mask
    nodules: Mask
    vessels: Mask


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], cells: int) -> Field:
    """Return a smooth random field (x, y, z) of mean 0 and deviation about 1, with `cells` bumps along an axis.

    White noise on a coarse lattice of cells + 4 knots an axis, spread by Gaussians of 0.7 cells.
    """
    field = rng.standard_normal((cells + 4,) * 3)
    knots = np.arange(-2, cells + 2) + 0.5
    for side in shape:  # contracts the first axis and appends the finer one, so after three turns the order is back
        voxels = (np.arange(side) + 0.5) * (cells / side)
        spread = np.exp(-0.5 * ((voxels[:, None] - knots) / 0.7) ** 2)
        spread /= np.sqrt((spread**2).sum(axis=1, keepdims=True))
        field = np.tensordot(field, spread, axes=(0, 1))
    return field


def draw_anatomy(rng: np.random.Generator, shape: tuple[int, int, int]) -> Anatomy:
    """Draw a head in a slightly random pose, with folds, deep grey nuclei and ventricles of random size."""
    place = _posed(rng, shape)
    right, front, up = place
    radii = BRAIN * rng.uniform(0.95, 1.05, 3)
    radius = _ellipsoid(place, np.zeros(3), radii) + 0.02 * smooth_field(rng, shape, 5)
    depth = 1.0 - radius

    fold = np.abs(smooth_field(rng, shape, 15))
    ribbon = np.clip(1.0 - depth / rng.uniform(0.42, 0.52), 0.0, 1.0)
    tissue = np.full(shape, WHITE, np.uint8)
    tissue[(depth < 0.09) | (fold < 1.2 * ribbon)] = GREY
    for side in (-1.0, 1.0):
        tissue[_ellipsoid(place, (0.24 * side, 0.06, -0.08), (0.11, 0.20, 0.13)) < 1.0] = GREY
    fissure = (np.abs(right) < 0.018) & (up + 0.35 * np.abs(front) > 0.22)
    tissue[(depth < 0.035) | (fold < 0.42 * ribbon) | fissure] = CSF

    size = rng.uniform(0.8, 1.5)
    wall = _ellipsoid(place, (0.0, -0.02, -0.18), (0.035 * size, 0.17, 0.16))
    for side in (-1.0, 1.0):
        bow = side * (0.10 + 0.03 * size + 0.45 * front**2)
        curved = np.stack([right - bow, front, up - 0.12 + 0.5 * front**2])
        wall = np.minimum(wall, _ellipsoid(curved, np.zeros(3), (0.055 * size, 0.42, 0.12 * size)))
    ventricles = wall + 0.08 * smooth_field(rng, shape, 6) < 1.0
    tissue[ventricles] = CSF
    caps = np.clip(1.0 - (wall - 1.0) / rng.uniform(0.5, 1.0), 0.0, 1.0)
    brain = np.pad(depth[1:-1, 1:-1, 1:-1] > 0.0, 1)  # never up to the image's edge
    return Anatomy(place, brain, tissue, ventricles, np.where(tissue == CSF, 0.0, caps))


def draw_lesions(rng: np.random.Generator, anatomy: Anatomy, enhancement: int) -> NDArray[np.uint8]:
    """Draw one to three lesions into a label map (x, y, z): 1 edema, 2 non-enhancing, 3 enhancing tumour.

    The core lies inside the edema and the enhancing part inside the core: the regions nest by construction.
    `enhancement` is RIM (around the cores), SPECK (some voxels in the first of them) or NONE.
    """
    label = np.zeros(anatomy.brain.shape, np.uint8)
    for number in range(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15])):
        share = rng.uniform(0.03, 0.14) if number == 0 else rng.uniform(0.005, 0.02)
        kind = NONE if enhancement == SPECK and number > 0 else enhancement
        np.maximum(label, _lesion(rng, anatomy, share, kind), out=label)
    return label


def draw_distractors(rng: np.random.Generator, anatomy: Anatomy, label: NDArray[np.uint8]) -> Distractors:
    """Draw what is not a lesion, outside of the lesions of `label` (x, y, z)."""
    free = anatomy.brain & (label == 0)
    solid = free & (anatomy.tissue != CSF)
    scars = _blobs(rng, anatomy, int(rng.integers(3, 8)), (0.10, 0.28))
    # As much scar as lesion, so that brightness in FLAIR is poor evidence in every case.
    gliosis = _lowest(scars, solid, rng.uniform(0.7, 1.3) * np.count_nonzero(label))
    cysts = free & (_blobs(rng, anatomy, int(rng.integers(2, 6)), (0.05, 0.14)) < 1.0)
    nodules = solid & (_blobs(rng, anatomy, int(rng.integers(2, 6)), (0.08, 0.20)) < 1.0)
    crossing = np.hypot(smooth_field(rng, label.shape, 6), smooth_field(rng, label.shape, 6))
    return Distractors(gliosis, cysts, nodules, (crossing < 0.16) & solid)


def _lesion(rng: np.random.Generator, anatomy: Anatomy, share: float, enhancement: int) -> NDArray[np.uint8]:
    """Draw one lesion (x, y, z) that takes up `share` of the brain."""
    shape, voxels = anatomy.brain.shape, np.count_nonzero(anatomy.brain)
    centre = _somewhere(rng, 0.30, 0.62)
    radii = np.cbrt(share * BRAIN.prod()) * np.exp(rng.normal(0.0, 0.18, 3))
    # Edema runs along the white matter, spares the cortex and stops at the ventricles.
    reach = _ellipsoid(anatomy.place, centre, radii) + 0.25 * smooth_field(rng, shape, 8)
    reach += 0.15 * (anatomy.tissue != WHITE)
    edema = _lowest(reach, anatomy.brain & ~anatomy.ventricles, share * voxels)
    lesion: NDArray[np.uint8] = edema.astype(np.uint8)

    part = rng.uniform(0.12, 0.5)
    middle, inner = centre + rng.normal(0.0, 0.1, 3) * radii, np.cbrt(part) * radii
    depth = _ellipsoid(anatomy.place, middle, inner) + 0.20 * smooth_field(rng, shape, 10)
    inside = _lowest(reach, edema, 0.75 * np.count_nonzero(edema))  # leaves a margin of edema all around
    core = _lowest(depth, inside, part * np.count_nonzero(edema))
    lesion[core] = 2

    thickness, patches, aside = rng.uniform(0.3, 0.65), smooth_field(rng, shape, 9), _direction(rng)
    if enhancement == RIM:
        rim = core & (depth >= depth[core].max() - thickness)
        lesion[_lowest(patches, rim, 0.85 * np.count_nonzero(rim))] = 3
    elif enhancement == SPECK:
        away = _ellipsoid(anatomy.place, middle + 0.5 * aside * inner, BRAIN)
        lesion[_lowest(away, core, rng.uniform(0.0004, 0.0015) * voxels)] = 3
    return lesion


def _lowest(field: Field, allowed: Mask, count: float) -> Mask:
    """Return the `count` voxels (rounded, at least one) of `allowed` where `field` is lowest; all if fewer."""
    values = field[allowed]
    last = min(max(round(count), 1), len(values)) - 1
    return np.asarray(allowed & (field <= np.partition(values, last)[last]))


def _blobs(rng: np.random.Generator, anatomy: Anatomy, count: int, sizes: tuple[float, float]) -> Field:
    """Return the distance to the nearest of `count` warped ellipsoids (1 on their surface).

    Their half-widths lie between the two `sizes`, smaller ones more often.
    """
    low, high = sizes
    warp = 0.2 * smooth_field(rng, anatomy.brain.shape, 9)
    nearest = np.full(anatomy.brain.shape, np.inf)
    for _ in range(count):
        size = low + (high - low) * rng.random() ** 1.5
        radii = size * np.exp(rng.normal(0.0, 0.2, 3))
        np.minimum(nearest, _ellipsoid(anatomy.place, _somewhere(rng, 0.2, 0.8), radii), out=nearest)
    return np.asarray(nearest + warp)


def _posed(rng: np.random.Generator, shape: tuple[int, int, int]) -> Field:
    """Return coordinates (3, x, y, z) of a head turned by some degrees, shifted, and gently warped."""
    axes = [(np.arange(side) + 0.5) * (2.0 / side) - 1.0 for side in shape]
    place = np.stack(np.meshgrid(*axes, indexing="ij"))
    turn = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = rng.normal(0.0, 0.07)
        step = np.eye(3)
        step[[first, second], [first, second]] = np.cos(angle)
        step[first, second], step[second, first] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    shift = rng.uniform(-0.03, 0.03, 3)
    place = np.tensordot(turn, place - shift[:, None, None, None], axes=1)
    for axis in range(3):
        place[axis] += 0.02 * smooth_field(rng, shape, 4)
    return np.asarray(place)


def _somewhere(rng: np.random.Generator, near: float, far: float) -> Field:
    """Return a point at `near` to `far` of the way to the brain's surface, off the midline and its base."""
    direction = _direction(rng)
    direction[2] = 0.6 * abs(direction[2]) * (1.0 if rng.random() < 0.7 else -1.0)
    point = direction * rng.uniform(near, far) * BRAIN
    point[0] = np.copysign(max(abs(point[0]), 0.16), point[0])
    return np.asarray(point)


def _direction(rng: np.random.Generator) -> Field:
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def _ellipsoid(place: Field, centre: Field | tuple[float, ...], radii: Field | tuple[float, ...]) -> Field:
    """Return the distance to `centre` in units of `radii`: 1 on the ellipsoid's surface."""
    total = np.zeros(place.shape[1:])
    for axis in range(3):
        total += ((place[axis] - centre[axis]) / radii[axis]) ** 2
    return np.asarray(np.sqrt(total))
