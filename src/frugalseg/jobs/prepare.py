"""Fill the store for a data set."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from frugalseg.data.choose import choose
from frugalseg.data.lock import test_lock
from frugalseg.data.manifest import Case, DataSource, Manifest, read_manifest, require_files
from frugalseg.data.placement import Placement
from frugalseg.data.prepare import prepare as prepare_cases
from frugalseg.data.preprocess import Preparation, PreprocessSettings, placed
from frugalseg.data.readers import read_header
from frugalseg.data.store import StoredCase, default_store
from frugalseg.errors import DataError, UserError
from frugalseg.geometry import Grid, Reorder
from frugalseg.jobs.needs import Volume, preparing
from frugalseg.jobs.needs_text import needs_line, require_disk, shortage
from frugalseg.jobs.resources import at_a_time, free_disk, look
from frugalseg.jobs.show import bar, say


def prepare(
    data: Path | DataSource,
    store: Path | None = None,
    settings: PreprocessSettings | None = None,
    workers: int | None = None,
) -> list[StoredCase]:
    """Prepare every training image of a data set and every training label; the test cases are not touched.

    Args:
        data: The data set: a folder with dataset.json, a CSV of paths, or a `DataSource` (images and label maps).
        store: Where prepared cases are kept; by default the user's cache folder.
        settings: What to do to the images.
        workers: Cases at a time; by default one per processor.

    Raises:
        DataError: A file is missing, cannot be read, or contradicts the data set.
        UserError: The settings do not fit the data.
    """
    manifest = read_manifest(data)
    require_files(manifest)
    names = {case.name for case in manifest.labelled}
    preparation, reasons = chosen(manifest, names, settings or PreprocessSettings(), workers)
    for what, why in reasons.items():
        say(f"{what}: {why}")
    return prepared(manifest, names, store, preparation, workers)


def chosen(
    manifest: Manifest, readable: Collection[str], settings: PreprocessSettings, workers: int | None = None
) -> tuple[Preparation, dict[str, str]]:
    """Choose what the settings leave open, and say why; of the labels only the `readable` ones are opened."""
    test_lock(manifest, readable)
    return choose(manifest, readable, settings, workers or at_a_time(bytes_reading(manifest.training)))


def bytes_reading(cases: Sequence[Case]) -> int:
    """Return what is held at most while a case's image and label are read, and looked at in double precision."""
    volumes = volumes_of([case.images for case in cases])
    return max((volume.voxels * (16 * volume.channels + 26) for volume in volumes), default=1)


def workers_that_fit(cases: Sequence[Case], root: Path, workers: int | None) -> int:
    """Say what preparing all of them needs, at most, and return how many can be under way at a time.

    Raises:
        UserError: Not even one fits into the memory, or not as many as were asked for; or all of them not onto the
            disk.
    """
    volumes = volumes_of([case.images for case in cases])
    here = look("cpu")
    count = min(workers or min(here.cpus, 16), max(1, len(cases)))
    need = preparing(volumes, count)
    while workers is None and count > 1 and shortage(need, here) is not None:
        count -= 1
        need = preparing(volumes, count)
    if (lacking := shortage(need, here)) is not None:
        what = (
            "take fewer --workers"
            if count > 1
            else "the largest case does not fit; take a machine with more memory"
        )
        raise UserError(f"{count} cases at a time need {lacking}; {what}", "prepare")
    free = free_disk(root)
    # What is in the store already needs no room; without a look into every file only the sum over all is known.
    if not root.exists():
        require_disk(need, free, root)
    say(f"prepare: {needs_line(need, here, free)} at most")
    return count


def cases_from_headers(manifest: Manifest, settings: Preparation) -> list[StoredCase]:
    """Return the training cases as they would be stored if no border of zeros were cut away; nothing is written."""
    found = []
    for case in manifest.training:
        try:
            grid = placed(whole_of(read_header(case.image).grid), settings).prepared_grid
        except ValueError as error:
            raise DataError(f"{error}; mend the image's header, or set preprocess.spacing", case.image) from error
        nothing = (0.0,) * len(manifest.channels)
        found.append(StoredCase(case.name, case.image, case.label, None, grid.shape, grid.spacing, nothing, ""))
    return found


def whole_of(grid: Grid) -> Placement:
    """Return the placement of an image of which no border is cut away."""
    reorder = Reorder.to_canonical(grid)
    a, b, c = reorder.apply_grid(grid).shape
    return Placement(grid, reorder, ((0, a), (0, b), (0, c)))


def volumes_of(cases: Sequence[Sequence[Path]], settings: Preparation | None = None) -> list[Volume]:
    """Return the sizes of cases, given as their files; those that cannot be read are left to whoever reads them.

    With what is done to them: as they become, where that is larger.
    """
    volumes = []
    for files in cases:
        try:
            header = read_header(files[0])
        except (DataError, OSError):
            continue
        channels = header.channels if len(files) == 1 else len(files)
        shape = header.grid.shape
        if settings is not None:
            with suppress(ValueError):  # far too many voxels: refused when it is read
                shape = max(shape, placed(whole_of(header.grid), settings).prepared_grid.shape, key=math.prod)
        volumes.append(Volume(math.prod(shape), channels, shape))
    return volumes


def prepared(
    manifest: Manifest,
    readable: Collection[str],
    store: Path | None,
    settings: Preparation,
    workers: int | None = None,
) -> list[StoredCase]:
    """Prepare all training cases; of their labels only the `readable` ones. Says where and how much."""
    test_lock(manifest, readable)
    root = store or default_store()
    workers = workers_that_fit(manifest.training, root, workers)
    made = 0
    with bar("preparing", len(manifest.training)) as advance:

        def progress(new: bool) -> None:
            nonlocal made
            made += new
            advance()

        cases = prepare_cases(manifest, manifest.training, readable, root, settings, workers, progress)
    size = sum(path.stat().st_size for case in cases for path in (case.image, case.label) if path is not None)
    say(f"store: {root} ({len(cases)} cases, {made} new, {size / 2**20:.1f} MiB)")
    return cases
