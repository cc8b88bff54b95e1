"""Fill the store: every image once, and the labels that the caller may read.

Runs in parallel, can be interrupted at any moment and started again: a case that is complete and intact is
skipped, one that is missing, half-written or damaged is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalseg.data.channels import read_channels
from frugalseg.data.manifest import Case, Manifest
from frugalseg.data.placement import Placement
from frugalseg.data.preprocess import Preparation, TooManyVoxels, preprocess
from frugalseg.data.readers import read_header, read_label
from frugalseg.data.scheme import LabelScheme
from frugalseg.data.store import FORMAT_VERSION, Entry, StoredCase, image_facts, read_placement
from frugalseg.errors import DataError
from frugalseg.files import hash_file, hash_value, remove_temporary
from frugalseg.geometry import Grid, Reorder, tolerance_mm

POINTS_PER_STRUCTURE = 2000
STALE_SECONDS = 24 * 3600.0  # a younger temporary file may be another process's


def prepare(
    manifest: Manifest,
    cases: Sequence[Case],
    readable: Collection[str],
    root: Path,
    settings: Preparation,
    workers: int | None = None,
    progress: Callable[[bool], None] | None = None,
) -> list[StoredCase]:
    """Make or find the stored form of `cases`, in their order.

    Args:
        manifest: The data set.
        cases: Training cases of it.
        readable: Names of the cases whose labels may be read; the other label files are not opened.
        root: The store's folder.
        settings: What is done to the images.
        workers: Cases at a time; by default the number of processors. Memory grows with it, not with the cases.
        progress: Called after each case with whether it had to be made.

    Raises:
        DataError: A file cannot be read or written, or contradicts the data set; the first such case in order.
    """

    def one(case: Case) -> StoredCase:
        stored, made = prepare_case(manifest, case, case.name in readable, root, settings)
        if progress is not None:
            progress(made)
        return stored

    count = workers or min(os.cpu_count() or 1, 16)
    # Decompression and array arithmetic release the interpreter lock: threads are enough, and share nothing.
    pool = ThreadPoolExecutor(max_workers=count)
    waits = True
    try:
        remove_temporary(root, STALE_SECONDS)
        return [future.result() for future in [pool.submit(one, case) for case in cases]]
    except BaseException as error:
        # After an error the cases under way are finished, so that nothing is written behind the caller's back.
        # Whoever is stopped by a signal leaves at once: every write is atomic.
        waits = isinstance(error, Exception)
        raise
    finally:
        pool.shutdown(wait=waits, cancel_futures=True)


def key_of_image(case: Case, settings: Preparation) -> str:
    """Return the key of a prepared image: the hash of its file's content and of what is done to it."""
    grid = None
    if settings.uniform is not None:  # then what is done depends on the image
        grid = read_header(case.image).grid
        grid = Reorder.to_canonical(grid).apply_grid(grid)
    content: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "settings": settings.key(grid),
        "image": hash_file(case.image) if len(case.images) == 1 else [hash_file(file) for file in case.images],
    }
    if case.missing:
        content["missing"] = list(case.missing)
    return hash_value(content)


def prepare_case(
    manifest: Manifest, case: Case, with_label: bool, root: Path, settings: Preparation
) -> tuple[StoredCase, bool]:
    """Make or find one case; also return whether anything had to be made."""
    if case.missing and not settings.zero_missing:
        names = ", ".join(manifest.channels[channel] for channel in case.missing)
        raise DataError(
            f"case {case.name!r} has no channel {names}; add the file, take the case out of the data set, or set "
            "preprocess.missing_channels=zero to train with zeros for it",
            case.image,
        )
    image_key = key_of_image(case, settings)
    entry = Entry(root, case.name, image_key)
    facts = readable_facts(entry)
    made = facts is None
    if facts is None:
        facts = make_image(manifest, case, entry, settings)
    placement = read_placement(facts)
    label: Path | None = None
    points: Path | None = None
    truth: Path | None = None
    key = image_key
    annotated: tuple[bool, ...] | None = None
    if with_label and case.label is not None:
        scheme = manifest.scheme
        key = hash_value(
            {"image": image_key, "label": hash_file(case.label), "scheme": scheme.to_json(), "points": 1}
        )
        label_entry = Entry(root, case.name, key)
        if label_entry.read() is None:
            made = True
            make_label(scheme, case, placement, label_entry, image_key)
        label, points = label_entry.array("label"), label_entry.array("points")
        truth = label_entry.array("truth") if placement.shape is not None else None
        if case.annotated is not None:
            # The arrays hold whatever the file holds: what was annotated may change without a new preparation. The
            # key changes, because what is learnt from the case does.
            annotated = scheme.flags(case.annotated)
            key = hash_value({"label": key, "annotated": list(case.annotated)})
    x, y, z = facts["shape"]
    a, b, c = facts["spacing"]
    stored = StoredCase(
        name=case.name,
        image=entry.array("image"),
        label=label,
        points=points,
        shape=(x, y, z),
        spacing=(a, b, c),
        background=tuple(float(value) for value in facts["background"]),
        key=key,
        annotated=annotated,
        truth=truth,
        placement=placement if placement.shape is not None else None,
        missing=case.missing,
    )
    return stored, made


def readable_facts(entry: Entry) -> dict[str, Any] | None:
    """Return what is remembered of a stored image, None if it is not there, damaged, or not what an image has."""
    facts = entry.read()
    if facts is None:
        return None
    try:
        read_placement(facts)
        sides = [*facts["shape"], *facts["spacing"], *facts["background"]]
        return facts if len(facts["shape"]) == len(facts["spacing"]) == 3 and all(map(_is_number, sides)) else None
    except (KeyError, TypeError, ValueError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def make_image(manifest: Manifest, case: Case, entry: Entry, settings: Preparation) -> dict[str, Any]:
    """Write a case's prepared image; return what is remembered beside it."""
    grid, image = read_channels(case.images, manifest.channels, "the data set has", case.missing)
    try:
        prepared = preprocess(grid, image, settings, case.missing)
    except ValueError as error:
        other = ", or set preprocess.spacing" if isinstance(error, TooManyVoxels) else ""
        raise DataError(
            f"{error}; mend the image or take the case out of the data set{other}", case.image
        ) from error
    del image
    # Half precision: 11 bits of a z-score (0.0005 at 1) are far below the noise of any scanner.
    limit = float(np.finfo(np.float16).max)
    half = prepared.image.clip(-limit, limit, out=prepared.image).astype(np.float16)
    facts = image_facts(prepared, case.image)
    del prepared
    entry.write({"image": half}, facts)
    return facts


def make_label(scheme: LabelScheme, case: Case, placement: Placement, entry: Entry, image_key: str) -> None:
    """Write a case's label on the prepared grid, and where that is resampled on the file's own voxels, too."""
    assert case.label is not None
    grid, values, _ = read_label(case.label, scheme.allowed)
    require_same_grid(placement.grid, grid, case)
    own = scheme.encode(placement.cut(values))
    del values
    target = placement.resample_target(own, scheme.classes)
    marks = structure_points(target, scheme, int(entry.key[:8], 16))
    arrays: dict[str, NDArray[Any]] = {"label": target, "points": marks}
    if placement.shape is not None:
        arrays["truth"] = own
    entry.write(arrays, {"source": case.label.name, "image": image_key})


def require_same_grid(image: Grid, label: Grid, case: Case) -> None:
    """Refuse a label that does not lie on its image.

    Raises:
        DataError: Another shape, or voxels further apart than 1e-3 mm; what differs, and by how much.
    """
    if image.shape != label.shape:
        raise DataError(
            f"label has shape {label.shape}, its image {image.shape}; replace it by a label map made on this image",
            case.label,
        )
    apart = image.difference(label)
    limit = tolerance_mm(image)
    if apart > limit:
        raise DataError(
            f"label and image lie {apart:.4g} mm apart ({describe_difference(image, label)}); the limit is "
            f"{limit:g} mm; replace it by a label map made on this image",
            case.label,
        )


def describe_difference(image: Grid, label: Grid) -> str:
    """Say in a few words how two grids of one shape differ."""
    if image.orientation != label.orientation:
        return f"orientation {label.orientation} instead of {image.orientation}"
    if not np.allclose(image.spacing, label.spacing, rtol=0, atol=1e-4):
        sizes = [" x ".join(f"{side:.4g}" for side in grid.spacing) for grid in (label, image)]
        return f"spacing {sizes[0]} mm instead of {sizes[1]}"
    shift = label.affine[:3, 3] - image.affine[:3, 3]
    if np.abs(shift).max() > tolerance_mm(image):
        return "origin shifted by " + ", ".join(f"{value:.4g}" for value in shift) + " mm"
    return "rotated"


def structure_points(target: NDArray[np.uint8], scheme: LabelScheme, seed: int) -> NDArray[np.int32]:
    """Return up to 2000 random voxels of every structure in class indices (R, x, y, z): (structure, x, y, z)."""
    generator = np.random.Generator(np.random.Philox(seed))
    rows = []
    for index in range(len(scheme.structures)):
        # One softmax with several structures, or one structure in each of several.
        mask = target[0] == index + 1 if scheme.exclusive else target[index] == 1
        places = np.flatnonzero(mask)
        if places.size > POINTS_PER_STRUCTURE:
            places = np.sort(generator.choice(places, POINTS_PER_STRUCTURE, replace=False))
        coordinates = np.stack(np.unravel_index(places, mask.shape), axis=1)
        rows.append(np.column_stack([np.full(len(places), index), coordinates]))
    return np.concatenate(rows).astype(np.int32).reshape(-1, 4)
