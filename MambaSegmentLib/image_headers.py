"""What a file's own header says, read without ITK, to refuse what ITK would quietly get wrong.

ITK 5.4 takes a NIfTI `pixdim` of 0 or NaN for 1 and a negative NRRD or MetaImage spacing for a positive one, ignores a
NIfTI sform whose scale contradicts `pixdim`, fills the missing voxels of a truncated NIfTI file with whatever memory
held, and hands out the rubbish of a damaged compressed MetaImage.
Sources: nifti1.h (NIfTI-1.1), teem's NRRD format description, ITK's MetaIO documentation.
"""

import gzip
import logging
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import GeometryError, ImageError

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_HEADER_BYTES_MAX = 1 << 22  # a text header longer than this is no header
_SPACING_AGREEMENT = 1e-3  # relative; NIfTI stores float32, other writers round
_NIFTI_TYPE_BITS = {
    2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64,
    1536: 128, 1792: 128, 2048: 256, 2304: 32,
}  # fmt: skip
_META_TYPE_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


def check_header(path: Path) -> None:
    """Refuse an image file whose geometry or voxels ITK would silently replace; other formats pass unseen.

    Raises:
        GeometryError: spacing that is zero, negative or no number; a NIfTI sform that is sheared or contradicts pixdim.
        ImageError: the file is empty, damaged or shorter than its header says.
    """
    suffix = path.suffix.lower()
    if suffix == ".img" and path.with_suffix(".hdr").is_file():
        path = path.with_suffix(".hdr")
    try:
        start = _first_bytes(path, 348)
        if not start:
            raise ImageError(f"{path} is empty; copy or export the image again")
        if start.startswith(b"NRRD"):
            _check_nrrd(path)
        elif suffix in (".mha", ".mhd"):
            _check_meta_image(path)
        elif (header := _parse_nifti(path, start)) is not None:
            _check_nifti(path, header)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise _damaged(path, f"its compressed data cannot be unpacked ({problem})") from problem
    except OSError as problem:
        raise ImageError(f"cannot read {path}: {problem.strerror or problem}") from problem


# --- NIfTI ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Nifti:
    single_file: bool
    sizes: tuple[int, ...]
    datatype: int
    bits_per_voxel: int
    pixdim: tuple[float, ...]  # of the axes in `sizes`
    data_offset: int
    qform_code: int
    sform_code: int
    sform: np.ndarray  # (3, 4)


def _parse_nifti(path: Path, start: bytes) -> _Nifti | None:
    """The header in the first bytes of a file; None where these are no NIfTI-1 header."""
    for order in "<>":
        length = struct.unpack_from(order + "i", start)[0] if len(start) >= 348 else 0
        if length == 540 and start[4:6] == b"n+":
            raise ImageError(f"{path} is a NIfTI-2 file, which cannot be read; convert it to NIfTI-1 or NRRD")
        if length == 348:
            return _nifti_fields(start, order)
    return None


def _nifti_fields(start: bytes, order: str) -> _Nifti:
    dim = struct.unpack_from(order + "8h", start, 40)
    pixdim = struct.unpack_from(order + "8f", start, 76)
    (offset,) = struct.unpack_from(order + "f", start, 108)
    qform_code, sform_code = struct.unpack_from(order + "2h", start, 252)
    axes = dim[0] if 1 <= dim[0] <= 7 else 0
    datatype, bits_per_voxel = struct.unpack_from(order + "2h", start, 70)
    return _Nifti(
        single_file=start[344:347] == b"n+1",
        sizes=dim[1 : axes + 1],
        datatype=datatype,
        bits_per_voxel=bits_per_voxel,
        pixdim=pixdim[1 : axes + 1],
        data_offset=int(offset) if math.isfinite(offset) else -1,
        qform_code=qform_code,
        sform_code=sform_code,
        sform=np.reshape(struct.unpack_from(order + "12f", start, 280), (3, 4)),
    )


def _check_nifti(path: Path, header: _Nifti) -> None:
    if not header.sizes or min(header.sizes) < 1 or header.data_offset < 0:
        raise _damaged(path, f"its header gives the size {header.sizes}")
    if _NIFTI_TYPE_BITS.get(header.datatype) != header.bits_per_voxel:
        raise _damaged(path, f"its header gives voxels of type {header.datatype} and {header.bits_per_voxel} bits")
    _check_spacing(path, header.pixdim[:3], "pixdim")
    if header.sform_code > 0 and header.qform_code <= 0:
        _check_sform(path, header)
    if header.sform_code <= 0 and header.qform_code <= 0:
        _log.warning("%s says nothing about orientation (qform and sform codes are 0); its axes are taken as LPS", path)
    if header.single_file:
        needed = header.data_offset + math.prod(header.sizes) * header.bits_per_voxel // 8
        _check_length(path, needed, _unpacked_bytes(path))


def _check_sform(path: Path, header: _Nifti) -> None:
    """ITK uses the sform only where there is no qform; then it must be straight and agree with pixdim."""
    columns = header.sform[:, :3]
    norms = np.linalg.norm(columns, axis=0)
    if not (np.isfinite(columns).all() and norms.min() > 0):
        raise GeometryError(f"{path}: the sform in its header is {columns.tolist()}, which is no orientation")
    axes = columns / norms
    if np.abs(axes.T @ axes - np.eye(3)).max() > _SPACING_AGREEMENT:
        raise GeometryError(
            f"{path}: the axes given by its sform are not perpendicular (a sheared volume), which cannot be segmented "
            "as it is; resample it to a straight grid first"
        )
    spacing = np.array(header.pixdim[:3])
    if not np.allclose(norms[: len(spacing)], spacing, rtol=_SPACING_AGREEMENT, atol=0):
        raise GeometryError(
            f"{path}: its header contradicts itself: pixdim says {_text(header.pixdim[:3])}, the sform "
            f"{_text(norms.tolist())} as voxel spacing. Correct the wrong one"
        )


# --- NRRD -----------------------------------------------------------------------------------------------------------


def _check_nrrd(path: Path) -> None:
    """Missing voxels are refused by teem itself, except for the last bytes of a compressed file."""
    with path.open("rb") as stream:
        fields = dict(_text_fields(stream, separator=":", last_key=None))
        _check_nrrd_spacing(path, fields)
        apart = {"data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"} & fields.keys()
        if fields.get("encoding", "").lower() in ("gzip", "gz") and not apart:
            _count_bytes(stream, inflate=True)


def _check_nrrd_spacing(path: Path, fields: dict[str, str]) -> None:
    kinds = fields.get("kinds", "").split()
    if "spacings" in fields:
        values = [_number(text) for text in fields["spacings"].split()]
        spatial = [
            value
            for index, value in enumerate(values)
            if index >= len(kinds) or kinds[index] in ("domain", "space", "???", "none")
        ]
        _check_spacing(path, spatial, "spacings")
    elif "space directions" in fields:
        vectors = [part.strip("( ") for part in fields["space directions"].replace("none", "").split(")")]
        norms = [math.hypot(*(_number(text) for text in vector.split(","))) for vector in vectors if vector]
        _check_spacing(path, norms, "space directions")
    else:
        _log.warning("%s holds no voxel spacing; 1 mm is assumed", path)


# --- MetaImage ------------------------------------------------------------------------------------------------------


def _check_meta_image(path: Path) -> None:
    with path.open("rb") as stream:
        fields = dict(_text_fields(stream, separator="=", last_key="elementdatafile"))
        sizes = [_count(text) for text in fields.get("dimsize", "").split()]
        if not {"elementdatafile", "elementtype"} <= fields.keys() or 0 in sizes:
            raise _damaged(path, "its header lacks DimSize, ElementType or ElementDataFile, or a size is no number")
        if _count(fields.get("ndims", "")) != len(sizes):
            raise _damaged(path, f"its header gives {len(sizes)} sizes and NDims = {fields.get('ndims', 'nothing')}")
        spacing_key = "elementspacing" if "elementspacing" in fields else "elementsize"
        if spacing_key in fields:
            values = [_number(text) for text in fields[spacing_key].split()]
            if len(values) != len(sizes):
                raise _damaged(path, f"its header gives {len(values)} spacings for {len(sizes)} axes")
            _check_spacing(path, values[:3], spacing_key)
        else:
            _log.warning("%s holds no voxel spacing; 1 mm is assumed", path)
        _check_meta_voxels(path, stream, fields, math.prod(sizes))


def _check_meta_voxels(path: Path, stream: BinaryIO, fields: dict[str, str], voxels: int) -> None:
    """Count the bytes of one binary block, beside the header or after it; lists of files are left to ITK."""
    binary, compressed = (fields.get(key, "false").lower() for key in ("binarydata", "compresseddata"))
    if not {binary, compressed} <= {"true", "false"} or (binary, compressed) == ("false", "true"):
        raise _damaged(path, f"its header says BinaryData = {binary}, CompressedData = {compressed}")
    voxel_bytes = _META_TYPE_BYTES.get(fields["elementtype"])
    data_file = fields["elementdatafile"]
    several_files = "%" in data_file or data_file.startswith("LIST")
    if voxel_bytes is None or binary == "false" or "headersize" in fields or several_files:
        return
    needed = voxels * voxel_bytes * _count(fields.get("elementnumberofchannels", "1"))
    inflate = compressed == "true"
    packed = _count(fields.get("compresseddatasize", "")) or None
    if data_file.upper() == "LOCAL":
        if inflate and packed is None:
            raise _damaged(path, "its header lacks CompressedDataSize")  # ITK would hand out rubbish
        _check_length(path, needed, _count_bytes(stream, inflate=inflate, packed_bytes=packed))
        return
    beside = path.parent / data_file
    if not beside.is_file():
        raise ImageError(f"{path} keeps its voxels in {data_file}, which is missing; put that file beside it")
    with beside.open("rb") as voxel_stream:
        _check_length(beside, needed, _count_bytes(voxel_stream, inflate=inflate, packed_bytes=packed))


# --- pieces shared by the formats -----------------------------------------------------------------------------------


def _check_spacing(path: Path, values: Sequence[float], field: str) -> None:
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise GeometryError(
            f"{path}: its header gives the voxel spacing as {_text(values)} mm ({field}); positive numbers are needed, "
            "since volumes and distances would be wrong. Export the image again or correct the header"
        )


def _check_length(path: Path, needed_bytes: int, found_bytes: int) -> None:
    if found_bytes < needed_bytes:
        raise _damaged(path, f"it holds {found_bytes} of the {needed_bytes} bytes that its header promises")


def _damaged(path: Path, how: str) -> ImageError:
    return ImageError(f"{path} is damaged or not what its name says: {how}; copy or export the image again")


def _text(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _count(text: str) -> int:
    """A whole number; 0 where the text is none."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def _first_bytes(path: Path, count: int) -> bytes:
    with gzip.open(path) if _is_gzip(path) else path.open("rb") as stream:
        return stream.read(count)


def _unpacked_bytes(path: Path) -> int:
    """Length of the content; unpacking a gzip file to its end also verifies its checksum."""
    if not _is_gzip(path):
        return path.stat().st_size
    with gzip.open(path) as stream:
        return sum(len(chunk) for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""))


def _count_bytes(stream: BinaryIO, *, inflate: bool, packed_bytes: int | None = None) -> int:
    """Bytes from here to the end, after unpacking a zlib or gzip stream (of a known length, perhaps) if asked."""
    if not inflate:
        return sum(len(chunk) for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""))
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: zlib or gzip, as the data says
    total, left = 0, math.inf if packed_bytes is None else packed_bytes
    while not unpacker.eof and (chunk := stream.read(int(min(left, _CHUNK_BYTES)))):
        total += len(unpacker.decompress(chunk))
        left -= len(chunk)
    if not unpacker.eof:  # zlib itself only complains once it has reached the checksum
        raise EOFError("the end of the data is missing")
    return total


def _text_fields(stream: BinaryIO, *, separator: str, last_key: str | None) -> list[tuple[str, str]]:
    """`key separator value` lines, keys in lower case, up to an empty line or `last_key`; the stream is left there."""
    fields = []
    while stream.tell() < _HEADER_BYTES_MAX:
        line = stream.readline(_HEADER_BYTES_MAX).decode("utf-8", "replace").strip()
        if not line:
            break
        key, found, value = line.partition(separator)
        if found:
            fields.append((key.strip().lower(), value.strip()))
            if fields[-1][0] == last_key:
                break
    return fields
