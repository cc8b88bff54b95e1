"""Mend one case in a copy: only what has one right answer, or what was asked for, and every change is recorded.

Mended without being asked: a label whose header is off by less than a limit gets its image's; a header that
contradicts itself by less than the limit is made to say what its sform says; label values that are almost integers
become integers. On request: values are remapped, channels resampled to the first one's grid, voxels that are not
finite set to zero. The check of the result says whether that was enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from frugalseg.data.check_geometry import NOISE_MM, apart, contradiction, mend_limit, nifti_header
from frugalseg.data.imagetypes import image_kind
from frugalseg.data.manifest import Case
from frugalseg.data.mend_files import harmonise, place, resample
from frugalseg.data.readers import LABEL_TOLERANCE, read_header, read_image, write_label, write_map
from frugalseg.data.scheme import LabelScheme
from frugalseg.errors import DataError, UserError
from frugalseg.files import hash_file
from frugalseg.geometry import tolerance_mm

LEAST_COVER = 0.5


@dataclass(frozen=True)
class MendSettings:
    """What may be mended.

    `limit`: how many millimetres a header may be wrong; None: 0.1, at most half a voxel. `remap`: label values
    outside the scheme to values of it.
    """

    limit: float | None = None
    remap: Mapping[int, int] = field(default_factory=dict)
    resample_channels: bool = False
    nan_to_zero: bool = False

    def require(self, scheme: LabelScheme) -> None:
        """Refuse what makes no sense for a data set with this scheme.

        Raises:
            UserError: A negative limit, or a value that is remapped from within the scheme, or to outside.
        """
        if self.limit is not None and not 0 <= self.limit < float("inf"):
            raise UserError(f"must be a number of millimetres, 0 or more, not {self.limit:g}", "--mend-limit")
        known = ", ".join(map(str, scheme.allowed))
        for old, new in self.remap.items():
            if old in scheme.allowed:
                raise UserError(f"{old} is a value of the scheme ({known}); only others can be remapped", "--remap")
            if new not in scheme.allowed:
                raise UserError(f"{new} is no value of the scheme ({known}), so nothing can become it", "--remap")


@dataclass(frozen=True)
class Change:
    """What was wrong with a file, what was done, by how much, and the SHA-256 of the file before and after.

    `channel`: the one that a picture should show.
    """

    file: str
    wrong: str
    done: str
    amount: float
    unit: str
    before: str
    after: str
    channel: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def mend_case(case: Case, target: Case, scheme: LabelScheme, settings: MendSettings) -> list[Change]:
    """Put a case's files where `target` says, mended as far as may be; the originals are only read.

    Raises:
        DataError: A file is missing, or cannot be written.
    """
    changes: list[Change] = []
    for index, (file, new) in enumerate(zip(case.images, target.images, strict=True)):
        place(file, new, link=True)
        changes += _step(_mend_image(index, target, settings), file, new)
    if case.label is not None and target.label is not None:
        if not target.label.exists():  # two cases may have one label
            # Never a link: people go on correcting labels, and some programs write into the file that is there.
            place(case.label, target.label, link=False)
        changes += _step(_mend_label(target, scheme, settings), case.label, target.label)
    return changes


@dataclass(frozen=True)
class _Done:
    wrong: str
    done: str
    amount: float
    unit: str
    channel: int = 0


def _step(done: list[_Done], source: Path, new: Path) -> list[Change]:
    if not done:
        return []
    before, after = hash_file(source), hash_file(new)
    return [
        Change(f"{source.parent.name}/{source.name}", d.wrong, d.done, d.amount, d.unit, before, after, d.channel)
        for d in done
    ]


def _mend_image(index: int, case: Case, settings: MendSettings) -> list[_Done]:
    """Mend the image file of that number where it lies."""
    path, first = case.images[index], case.images[0]
    try:
        done = _mend_header(path, settings)
        for finish in (_fill, _resample):
            done += finish(index, path, first, settings)
    except DataError:  # what cannot be read cannot be mended; the check says so
        return []
    return done


def _mend_header(path: Path, settings: MendSettings) -> list[_Done]:
    grid = read_header(path).grid  # first: it says of a damaged file that it is one
    header = nifti_header(path)
    size = 0.0 if header is None else contradiction(header, grid)
    if size == np.inf:
        harmonise(path, grid)
        return [_Done("the qform was damaged", "the sform was written into it", 1, "transform")]
    if not NOISE_MM < size <= mend_limit(grid, settings.limit):
        return []
    harmonise(path, grid)
    other = "qform" if int(header["qform_code"]) > 0 else "spacing (pixdim)"
    return [_Done(f"sform and {other} differed", f"the sform was written into the {other}", size, "mm")]


def _resample(index: int, path: Path, first: Path, settings: MendSettings) -> list[_Done]:
    one, header = read_header(first), read_header(path)
    told = apart(header.grid, one.grid, "it", first.name)
    if index == 0 or not told or not settings.resample_channels or header.channels != 1:
        return []
    values, cover = resample(read_image(path)[1][0], header.grid, one.grid)
    if cover < LEAST_COVER:
        return []
    write_map(path, values, first)
    size = one.grid.difference(replace(header.grid, shape=one.grid.shape))
    done = f"resampled linearly to the grid of {first.name}, of which it covers {cover:.1%}; float32"
    return [_Done(told, done, size, "mm", index)]


def _fill(index: int, path: Path, first: Path, settings: MendSettings) -> list[_Done]:
    if not settings.nan_to_zero:
        return []
    image = read_image(path)[1]
    bad = ~np.isfinite(image)
    if not bad.any():
        return []
    channel = index or int(bad.any(axis=(1, 2, 3)).argmax())
    values = np.where(bad, np.float32(0), image)
    write_map(path, values[0] if len(values) == 1 else np.ascontiguousarray(np.moveaxis(values, 0, 3)), path)
    return [_Done("voxels were NaN or infinite", "they were set to 0; float32", int(bad.sum()), "voxels", channel)]


def _mend_label(case: Case, scheme: LabelScheme, settings: MendSettings) -> list[_Done]:
    """Mend the label of a case, whose images are mended, where it lies."""
    assert case.label is not None
    try:
        header = read_header(case.label)
        done = _mend_header(case.label, settings)
        image = read_header(case.image).grid
        voxels = read_image(case.label)[1][0]
    except DataError:
        return []
    if header.channels != 1 or not np.isfinite(voxels).all():
        return done
    nearest = np.rint(voxels)
    away = np.abs(voxels - nearest)
    if (away > LABEL_TOLERANCE).any():
        return done
    values = nearest.astype(np.int64)
    steps = []
    if count := int((away > 0).sum()):
        steps.append(_Done(f"label values were off by up to {away.max():.2g}", "rounded", count, "voxels"))
    for old, new in settings.remap.items():
        if count := int((nearest == old).sum()):
            values[nearest == old] = new
            steps.append(_Done(f"value {old} is not in the scheme", f"it became {new}", count, "voxels"))
    if not np.isin(values, scheme.allowed).all():
        return done
    like = case.label
    if header.grid.shape == image.shape:
        size = image.difference(header.grid)
        # A file of another type cannot hold that header: the case stays out, and the check says why.
        alike = image_kind(case.label) == image_kind(case.image)
        if alike and tolerance_mm(image) < size <= mend_limit(image, settings.limit):
            told = apart(header.grid, image, "label", "its image")
            steps.append(_Done(told, "the image's header was taken", size, "mm"))
            like = case.image
    if steps:
        write_label(case.label, values, like)
    return done + steps
