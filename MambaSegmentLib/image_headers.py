"""What a file's own header says, read without ITK, to refuse what ITK would quietly get wrong.

ITK 5.4 takes a negative NRRD or MetaImage spacing for a positive one, hands out the rubbish of a damaged compressed
MetaImage, and allocates whatever size a header claims before it looks for the voxels; NIfTI: see `nifti_header.py`.
Sources: teem's NRRD format description, ITK's MetaIO documentation.
"""

import gzip
import logging
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import ImageError
from .header_checks import (
    CHUNK_BYTES,
    check_claim,
    check_length,
    check_spacing,
    damaged,
    open_unpacked,
    pieces_up_to,
)
from .memory import refuse_oversize
from .nifti_header import HEADER_BYTES, NonFinite, check_nifti

_log = logging.getLogger(__name__)
_HEADER_BYTES_MAX = 1 << 22  # a text header longer than this is no header
_SHOWN = 80  # characters of a field that a message repeats
_LONGEST_COUNT = 18  # digits; a longer one is no size
_META_TYPE_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_NRRD_TYPE_BYTES = {
    name: size
    for size, names in {
        1: "signed char, int8, int8_t, uchar, unsigned char, uint8, uint8_t",
        2: "short, short int, signed short, signed short int, int16, int16_t, "
        "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        4: "int, signed int, int32, int32_t, uint, unsigned int, uint32, uint32_t, float",
        8: "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t, "
        "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t, double",
    }.items()
    for name in names.split(", ")
}


def check_header(path: Path) -> NonFinite | None:
    """Refuse an image file whose geometry or voxels ITK would silently replace; other formats pass unseen.

    Returns:
        The voxels that ITK will read as 0 although the file holds NaN or infinity there, if there are any.
    Raises:
        GeometryError: spacing that is zero, negative or no number; a NIfTI sform that is sheared or contradicts pixdim.
        ImageError: the file is empty, damaged or shorter than its header says. ResourceError: larger than the memory.
    """
    suffix = path.suffix.lower()
    if suffix == ".img" and path.with_suffix(".hdr").is_file():
        path = path.with_suffix(".hdr")
    try:
        with open_unpacked(path) as stream:
            start = stream.read(HEADER_BYTES)
        if not start:
            raise ImageError(f"{path} is empty; copy or export the image again")
        if start.startswith(b"NRRD"):
            _check_nrrd(path)
        elif suffix in (".mha", ".mhd"):
            _check_meta_image(path)
        else:
            return check_nifti(path, start)
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise damaged(path, f"its compressed data cannot be unpacked ({problem})") from problem
    except OSError as problem:
        raise ImageError(f"cannot read {path}: {problem.strerror or problem}") from problem
    return None


# --- NRRD -----------------------------------------------------------------------------------------------------------


def _check_nrrd(path: Path) -> None:
    with path.open("rb") as stream:
        fields = dict(_text_fields(stream, separator=":", last_key=None))
        _check_nrrd_spacing(path, fields)
        sizes = [_count(text) for text in fields.get("sizes", "").split()]
        if not sizes or 0 in sizes:
            raise damaged(path, f"its header gives the sizes {fields.get('sizes', '(none)')[:_SHOWN]}")
        voxels = math.prod(sizes)
        needed = voxels * _NRRD_TYPE_BYTES.get(fields.get("type", "").lower(), 1)
        if {"data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"} & fields.keys():
            refuse_oversize(str(path), needed)  # teem looks for the voxels
            return
        _check_nrrd_voxels(path, stream, fields.get("encoding", "").lower(), voxels, needed)


def _check_nrrd_voxels(path: Path, stream: BinaryIO, encoding: str, voxels: int, needed: int) -> None:
    """Missing voxels are refused by teem itself too, but after it has allocated them all."""
    begin = stream.tell()
    if encoding in ("gzip", "gz"):
        check_claim(path, needed, inflate=True, before_bytes=begin)
        check_length(path, needed, _unpacked_bytes(path, stream, needed))
    elif encoding == "raw":
        check_claim(path, needed, inflate=False, before_bytes=begin)
    elif encoding == "hex":
        check_claim(path, 2 * needed, inflate=False, before_bytes=begin)
    elif encoding in ("text", "txt", "ascii"):
        check_claim(path, 2 * voxels - 1, inflate=False, before_bytes=begin)  # a digit each, and what parts them
    refuse_oversize(str(path), needed)


def _check_nrrd_spacing(path: Path, fields: dict[str, str]) -> None:
    kinds = fields.get("kinds", "").split()
    if "spacings" in fields:
        values = [_number(text) for text in fields["spacings"].split()]
        spatial = [
            value
            for index, value in enumerate(values)
            if index >= len(kinds) or kinds[index] in ("domain", "space", "???", "none")
        ]
        check_spacing(path, spatial, "spacings")
    elif "space directions" in fields:
        vectors = [part.strip("( ") for part in fields["space directions"].replace("none", "").split(")")]
        norms = [math.hypot(*(_number(text) for text in vector.split(","))) for vector in vectors if vector]
        check_spacing(path, norms, "space directions")
    else:
        _log.warning("%s holds no voxel spacing; 1 mm is assumed", path)


# --- MetaImage ------------------------------------------------------------------------------------------------------


def _check_meta_image(path: Path) -> None:
    with path.open("rb") as stream:
        fields = dict(_text_fields(stream, separator="=", last_key="elementdatafile"))
        sizes = [_count(text) for text in fields.get("dimsize", "").split()]
        if not {"elementdatafile", "elementtype"} <= fields.keys() or not sizes or 0 in sizes:
            raise damaged(path, "its header lacks DimSize, ElementType or ElementDataFile, or a size is no number")
        if _count(fields.get("ndims", "")) != len(sizes):
            raise damaged(path, f"its header gives {len(sizes)} sizes and NDims = {fields.get('ndims', 'nothing')}")
        spacing_key = "elementspacing" if "elementspacing" in fields else "elementsize"
        if spacing_key in fields:
            values = [_number(text) for text in fields[spacing_key].split()]
            if len(values) != len(sizes):
                raise damaged(path, f"its header gives {len(values)} spacings for {len(sizes)} axes")
            check_spacing(path, values[:3], spacing_key)
        else:
            _log.warning("%s holds no voxel spacing; 1 mm is assumed", path)
        _check_meta_voxels(path, stream, fields, math.prod(sizes))


def _check_meta_voxels(path: Path, stream: BinaryIO, fields: dict[str, str], voxels: int) -> None:
    """Count the bytes of one block, beside the header or after it; lists of files are left to ITK."""
    binary, compressed = (fields.get(key, "false").lower() for key in ("binarydata", "compresseddata"))
    if not {binary, compressed} <= {"true", "false"} or (binary, compressed) == ("false", "true"):
        raise damaged(path, f"its header says BinaryData = {binary}, CompressedData = {compressed}")
    numbers = voxels * max(_count(fields.get("elementnumberofchannels", "1")), 1)
    voxel_bytes = _META_TYPE_BYTES.get(fields["elementtype"])
    data_file = fields["elementdatafile"]
    if voxel_bytes is None or "headersize" in fields or "%" in data_file or data_file.startswith("LIST"):
        refuse_oversize(str(path), numbers * (voxel_bytes or 1))
        return
    # As text, each number takes a digit and what parts it from the next one.
    needed = numbers * voxel_bytes if binary == "true" else 2 * numbers - 1
    inflate = compressed == "true"
    packed = _count(fields.get("compresseddatasize", "")) or None
    if data_file.upper() == "LOCAL":
        if inflate and packed is None:
            raise damaged(path, "its header lacks CompressedDataSize")  # ITK would hand out rubbish
        _check_meta_block(path, stream, needed, inflate, packed)
        return
    beside = path.parent / data_file
    if not beside.is_file():
        raise ImageError(f"{path} keeps its voxels in {data_file}, which is missing; put that file beside it")
    with beside.open("rb") as voxel_stream:
        _check_meta_block(beside, voxel_stream, needed, inflate, packed)


def _check_meta_block(path: Path, stream: BinaryIO, needed: int, inflate: bool, packed: int | None) -> None:
    check_claim(path, needed, inflate=inflate, before_bytes=stream.tell())
    if inflate:
        check_length(path, needed, _unpacked_bytes(path, stream, needed, packed))


# --- pieces shared by the formats -----------------------------------------------------------------------------------


class _Inflated:
    """The content of a zlib or gzip stream that begins here and may have a known length, read piece by piece."""

    def __init__(self, stream: BinaryIO, packed_bytes: int | None) -> None:
        self._stream = stream
        self._left = math.inf if packed_bytes is None else packed_bytes
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: zlib or gzip, as the data says

    def read(self, size: int) -> bytes:
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._next_packed()
            data = self._unpacker.decompress(packed, size)
            if data:
                return data
            if not packed:  # zlib itself only complains once it has reached the checksum
                raise EOFError("the end of the data is missing")
        return b""

    def _next_packed(self) -> bytes:
        packed = self._stream.read(int(min(self._left, CHUNK_BYTES)))
        self._left -= len(packed)
        return packed


def _unpacked_bytes(path: Path, stream: BinaryIO, wanted_bytes: int, packed_bytes: int | None = None) -> int:
    """How much of `wanted_bytes` there is; unpacking to the end also verifies the checksum."""
    return sum(map(len, pieces_up_to(path, _Inflated(stream, packed_bytes), wanted_bytes)))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _count(text: str) -> int:
    """A whole number; 0 where the text is none, or one that nothing can have."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_COUNT else 0


def _text_fields(stream: BinaryIO, *, separator: str, last_key: str | None) -> Iterator[tuple[str, str]]:
    """`key separator value` lines, keys in lower case, up to an empty line or `last_key`; the stream is left there."""
    while stream.tell() < _HEADER_BYTES_MAX:
        line = stream.readline(_HEADER_BYTES_MAX).decode("utf-8", "replace").strip()
        if not line:
            return
        key, found, value = line.partition(separator)
        if found:
            yield key.strip().lower(), value.strip()
            if key.strip().lower() == last_key:
                return
