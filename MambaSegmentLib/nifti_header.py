"""What a NIfTI file says, and what it holds that ITK changes.

ITK 5.4 takes a `pixdim` of 0 or NaN for 1, ignores an sform whose scale contradicts `pixdim`, fills the missing voxels
of a truncated file with whatever memory held, and turns voxels that are NaN or infinite into 0.
Source: nifti1.h (NIfTI-1.1), nifti2.h.
"""

import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import GeometryError, ImageError
from .header_checks import (
    SPACING_AGREEMENT,
    check_claim,
    check_length,
    check_spacing,
    damaged,
    is_gzip,
    numbers_text,
    open_unpacked,
    pieces_up_to,
)

_log = logging.getLogger(__name__)
HEADER_BYTES = 348
_TYPE_BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64,
    1536: 128, 1792: 128, 2048: 256, 2304: 32,
}  # fmt: skip
_FLOATS = {16: "f4", 64: "f8"}


@dataclass(frozen=True, eq=False)
class NonFinite:
    """The voxels of a file that are NaN or infinite: where in the order of the file, and what they hold."""

    places: np.ndarray  # (n,) int64
    values: np.ndarray  # (n,) float


@dataclass(frozen=True)
class _Nifti:
    single_file: bool
    order: str  # of the bytes, "<" or ">"
    sizes: tuple[int, ...]
    datatype: int
    bits_per_voxel: int
    pixdim: tuple[float, ...]  # of the axes in `sizes`
    data_offset: int
    qform_code: int
    sform_code: int
    sform: np.ndarray  # (3, 4)

    @property
    def voxel_bytes(self) -> int:
        return math.prod(self.sizes) * self.bits_per_voxel // 8


def check_nifti(path: Path, start: bytes) -> NonFinite | None:
    """Look at a file if its first bytes are a NIfTI-1 header.

    Returns:
        What ITK will read as 0 though it is not; None where there is no such voxel, and for other files.
    Raises:
        ImageError, GeometryError: as `image_headers.check_header`.
    """
    header = _parsed(path, start)
    if header is None:
        return None
    if not header.sizes or min(header.sizes) < 1 or header.data_offset < 0:
        raise damaged(path, f"its header gives the size {header.sizes}")
    if _TYPE_BITS.get(header.datatype) != header.bits_per_voxel:
        raise damaged(path, f"its header gives voxels of type {header.datatype} and {header.bits_per_voxel} bits")
    check_spacing(path, header.pixdim[:3], "pixdim")
    if header.sform_code > 0 and header.qform_code <= 0:
        _check_sform(path, header)
    if header.sform_code <= 0 and header.qform_code <= 0:
        _log.warning("%s says nothing about orientation (qform and sform codes are 0); its axes are taken as LPS", path)
    return _checked_voxels(path, header)


def _parsed(path: Path, start: bytes) -> _Nifti | None:
    for order in "<>":
        length = struct.unpack_from(order + "i", start)[0] if len(start) >= HEADER_BYTES else 0
        if length == 540 and start[4:6] == b"n+":
            raise ImageError(f"{path} is a NIfTI-2 file, which cannot be read; convert it to NIfTI-1 or NRRD")
        if length == HEADER_BYTES:
            return _fields(start, order)
    return None


def _fields(start: bytes, order: str) -> _Nifti:
    dim = struct.unpack_from(order + "8h", start, 40)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    (offset,) = struct.unpack_from(order + "f", start, 108)
    qform_code, sform_code = struct.unpack_from(order + "2h", start, 252)
    axes = dim[0] if 1 <= dim[0] <= 7 else 0
    datatype, bits_per_voxel = struct.unpack_from(order + "2h", start, 70)
    return _Nifti(
        single_file=start[344:347] == b"n+1",
        order=order,
        sizes=dim[1 : axes + 1],
        datatype=datatype,
        bits_per_voxel=bits_per_voxel,
        pixdim=pixdim[1 : axes + 1],
        data_offset=int(offset) if math.isfinite(offset) else -1,
        qform_code=qform_code,
        sform_code=sform_code,
        sform=np.reshape(struct.unpack_from(order + "12f", start, 280), (3, 4)),
    )


def _check_sform(path: Path, header: _Nifti) -> None:
    """ITK uses the sform only where there is no qform; then it must be straight and agree with pixdim."""
    columns = header.sform[:, :3]
    norms = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(columns).all() and norms.min() > 0):
        raise GeometryError(f"{path}: the sform in its header is {columns.tolist()}, which is no orientation")
    axes = columns / norms
    if np.abs(axes.T @ axes - np.eye(3)).max() > SPACING_AGREEMENT:
        raise GeometryError(
            f"{path}: the axes given by its sform are not perpendicular (a sheared volume), which cannot be segmented "
            "as it is; resample it to a straight grid first"
        )
    spacing = np.array(header.pixdim[:3])
    if not np.allclose(norms[: len(spacing)], spacing, rtol=SPACING_AGREEMENT, atol=0):
        raise GeometryError(
            f"{path}: its header contradicts itself: pixdim says {numbers_text(header.pixdim[:3])}, the sform "
            f"{numbers_text(norms.tolist())} as voxel spacing. Correct the wrong one"
        )


def _checked_voxels(path: Path, header: _Nifti) -> NonFinite | None:
    """All voxels must be there; those of a compressed file are unpacked to the end, which verifies its checksum."""
    # As niftilib does: behind a header the voxels begin after it, whatever it says.
    header_bytes = max(header.data_offset, HEADER_BYTES) if header.single_file else header.data_offset
    path = path if header.single_file else _beside(path)
    check_claim(path, header_bytes + header.voxel_bytes, inflate=is_gzip(path))
    if header.datatype not in _FLOATS and not is_gzip(path):
        return None  # its length, which was just compared, says all
    with open_unpacked(path) as stream:
        stream.seek(header_bytes)
        voxels = pieces_up_to(path, stream, header.voxel_bytes)
        if header.datatype in _FLOATS:
            return _non_finite(path, voxels, header)
        check_length(path, header.voxel_bytes, sum(map(len, voxels)))
    return None


def _beside(path: Path) -> Path:
    """The voxels of a header that lies in a file of its own."""
    for candidate in (path.with_suffix(".img"), path.with_suffix(".img.gz")):
        if candidate.is_file():
            return candidate
    raise ImageError(f"{path} keeps its voxels in {path.with_suffix('.img').name}, which is missing; put it beside it")


def _non_finite(path: Path, pieces: Iterator[bytes], header: _Nifti) -> NonFinite | None:
    dtype = np.dtype(header.order + _FLOATS[header.datatype])
    places, values = [], []
    found_bytes, rest = 0, b""
    for piece in pieces:
        data = rest + piece
        whole = len(data) // dtype.itemsize
        numbers = np.frombuffer(data, dtype, whole)
        odd = np.flatnonzero(~np.isfinite(numbers))
        if odd.size:
            places.append(odd + (found_bytes - len(rest)) // dtype.itemsize)
            values.append(numbers[odd])
        found_bytes += len(piece)
        rest = data[whole * dtype.itemsize :]
    check_length(path, header.voxel_bytes, found_bytes)
    return NonFinite(np.concatenate(places), np.concatenate(values)) if places else None
