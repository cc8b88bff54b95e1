"""What a NIfTI header claims, held to what can be, before anything is allocated or handed on.

A library that reads images mends odd headers as well as it can, with a line in its log: a spacing of zero becomes 1
mm. A wrong millimetre must not pass for a right one here, so the raw fields are looked at first (NIfTI-1 and
NIfTI-2, either byte order) and a line says which one cannot be, and what to do.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalseg.errors import DataError

MAX_VOXELS = 2**32  # 16 GiB in float32: over this a header is taken for damaged
MAX_OFFSET = 2**26  # bytes before the voxels: an extension is held in memory
SPARE = 2**20  # bytes behind the voxels: some writers pad
MAX_RATIO = 1032  # deflate makes content at most this many times smaller
_GZIP = b"\x1f\x8b"
_ANEW = "copy the file anew"
_EXPORT = "export it anew"
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64,
         1536: 128, 1792: 128, 2048: 256, 2304: 32}  # fmt: skip


@dataclass(frozen=True)
class RawHeader:
    """The fields of a header that are looked at, as they stand there, and the order of its bytes."""

    size: int
    order: str
    magic: bytes
    dim: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    offset: float
    slope: float
    inter: float
    qform: int
    sform: int
    quaternion: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides in voxels, as many as the header says it has."""
        return self.dim[1 : 1 + self.dim[0]]

    @property
    def content(self) -> int:
        """Bytes of header and voxels, not compressed."""
        return int(self.offset) + math.prod(self.shape) * _BITS[self.datatype] // 8


def require_nifti(path: Path) -> RawHeader:
    """Read and check the header of a single NIfTI file (.nii, .nii.gz).

    Raises:
        DataError: Names the field that cannot be.
    """
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(2)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", path) from error
    if not length:
        raise DataError(f"is empty; {_ANEW}", path)
    packed = path.name.lower().endswith(".gz")
    raw = _beginning(path, packed, begin)
    header = _parse(raw, path)
    _require_shape(header, path)
    _require_voxels(header, path)
    _require_extension(header, raw, path)
    _require_spacing(header, path)
    _require_size(header, packed, length, path)
    return header


def _beginning(path: Path, packed: bool, begin: bytes) -> bytes:
    if packed and begin != _GZIP:
        with path.open("rb") as file:
            plain = _is_header(file.read(4))
        todo = f"rename it to {path.name[:-3]}" if plain else "compress it, or export it anew"
        raise DataError(f"is not compressed, though its name ends in .gz; {todo}", path)
    if not packed and begin == _GZIP:
        raise DataError(f"is compressed (gzip), though its name does not say so; rename it to {path.name}.gz", path)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read(1024)
    except EOFError as error:
        raise DataError(f"cannot be decompressed ({error}); {_ANEW}", path) from error
    except (OSError, zlib.error) as error:
        raise DataError(f"is damaged or cut short ({error}); {_ANEW}", path) from error


def _is_header(begin: bytes) -> bool:
    return (
        len(begin) >= 4
        and {struct.unpack("<i", begin[:4])[0], struct.unpack(">i", begin[:4])[0]} & {348, 540} != set()
    )


def _parse(raw: bytes, path: Path) -> RawHeader:
    if not _is_header(raw):
        raise DataError("is no NIfTI file; export it as NIfTI", path)
    order = "<" if struct.unpack("<i", raw[:4])[0] in (348, 540) else ">"
    size = struct.unpack(order + "i", raw[:4])[0]
    if len(raw) < size + 4:
        raise DataError(f"holds only {len(raw)} bytes, a header has {size}: cut short; {_ANEW}", path)

    def at(place: int, layout: str) -> tuple[Any, ...]:
        return struct.unpack_from(order + layout, raw, place)

    if size == 348:
        header = RawHeader(
            size, order, raw[344:348], at(40, "8h"), at(70, "h")[0], at(76, "8f"), at(108, "f")[0], at(112, "f")[0],
            at(116, "f")[0], at(252, "h")[0], at(254, "h")[0], at(256, "3f"),
        )  # fmt: skip
    else:
        header = RawHeader(
            size, order, raw[4:8], at(16, "8q"), at(12, "h")[0], at(104, "8d"), float(at(168, "q")[0]),
            at(176, "d")[0], at(184, "d")[0], at(344, "i")[0], at(348, "i")[0], at(352, "3d"),
        )  # fmt: skip
    if header.magic[:3] in (b"ni1", b"ni2"):
        raise DataError("is the header of a pair (.hdr, .img); convert it to a single .nii.gz", path)
    if header.magic[:3] not in (b"n+1", b"n+2"):
        raise DataError("is no NIfTI file (its header lacks the magic word); export it as NIfTI", path)
    return header


def _require_shape(header: RawHeader, path: Path) -> None:
    expected = "3D, or 4D with channels last, was expected; convert or split it"
    if not 1 <= header.dim[0] <= 7:
        raise DataError(f"claims {header.dim[0]} axes; {expected}", path)
    claims = f"claims {' x '.join(map(str, header.shape))} voxels"
    if len(header.shape) not in (2, 3, 4):
        raise DataError(f"{claims}; {expected}", path)
    if min(header.shape) < 1:
        raise DataError(f"{claims}, every side must be 1 or more; {_EXPORT}", path)
    if math.prod(header.shape) > MAX_VOXELS:
        raise DataError(f"{claims}, over the limit of {MAX_VOXELS}: its header is damaged; {_ANEW}", path)


def _require_voxels(header: RawHeader, path: Path) -> None:
    if header.datatype not in _BITS:
        raise DataError(f"has voxels of type {header.datatype}, which is no type of numbers; {_EXPORT}", path)
    least = header.size + 4
    if not (math.isfinite(header.offset) and least <= header.offset <= MAX_OFFSET):
        raise DataError(
            f"its voxels begin at byte {header.offset:g}, {least} to {MAX_OFFSET} was expected; {_EXPORT}", path
        )
    scaled = math.isfinite(header.slope) and header.slope != 0
    if scaled and not math.isfinite(header.inter):
        raise DataError(
            f"has scl_slope {header.slope:g} with scl_inter {header.inter:g}: its values are not known; {_EXPORT}",
            path,
        )


def _require_extension(header: RawHeader, raw: bytes, path: Path) -> None:
    place = header.size
    if len(raw) < place + 12 or not raw[place] or header.offset < place + 12:
        return
    length = struct.unpack_from(header.order + "i", raw, place + 4)[0]
    if length < 8 or length % 16 or place + 4 + length > header.offset:
        raise DataError(
            f"has a header extension of {length} bytes, which does not fit before its voxels; {_EXPORT}", path
        )


def _require_spacing(header: RawHeader, path: Path) -> None:
    """Hold the spacing to lengths, unless there is an affine, which overrules it."""
    if header.sform > 0:
        return
    used = header.pixdim[1 : 1 + min(3, len(header.shape))]
    if not all(math.isfinite(side) and side > 0 for side in used):
        told = " x ".join(f"{side:.6g}" for side in header.pixdim[1:4])
        raise DataError(f"has spacing {told} mm, lengths above 0 were expected; correct the header", path)
    length = sum(value * value for value in header.quaternion)
    if header.qform > 0 and not length <= 1 + 1e-5:
        raise DataError(
            "has no usable geometry: its quaternion is no rotation; correct quatern_b, _c and _d in the header",
            path,
        )


def _require_size(header: RawHeader, packed: bool, length: int, path: Path) -> None:
    if packed and header.content > MAX_RATIO * length + 1024:
        claims = " x ".join(map(str, header.shape))
        raise DataError(
            f"claims {claims} voxels, more than a file of {length} bytes can hold: cut short, or its header is "
            f"damaged; {_ANEW}",
            path,
        )
    if not packed and not header.content <= length <= header.content + SPARE:
        raise DataError(f"has {length} bytes, its header tells of {header.content}; {_ANEW}", path)
