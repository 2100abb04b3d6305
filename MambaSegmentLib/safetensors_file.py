"""The outside of a safetensors file, read with the standard library alone: quick, and nothing in it is executed.

Layout: 8 bytes, little-endian length of the header; the header, a JSON object from tensor names to dtype, shape and
byte range, with texts under `__metadata__`; the tensors' bytes.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError

_LARGEST_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself
_CHUNK_BYTES = 1 << 22
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16}
_BITS |= {"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # zipped (torch.save) and plain
_IMPORT_IT = "Files of other projects come in through `mambasegment models import`"


@dataclass(frozen=True)
class Entry:
    """One tensor: dtype as safetensors names it, shape, and first and last+1 byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """Where everything is in a file."""

    path: Path
    metadata: dict[str, str]
    entries: dict[str, Entry]

    def blocks(self) -> Iterator[tuple[str, Entry, Iterator[bytes]]]:
        """Name, entry and bytes (in pieces) of each tensor, in the order of the names."""
        with self.path.open("rb") as stream:
            for name in sorted(self.entries):
                entry = self.entries[name]
                stream.seek(entry.start)
                yield name, entry, _pieces(stream, entry.stop - entry.start)


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        BundleError: missing, empty, cut off, damaged, or another kind of file.
    """
    path = Path(path)
    if path.is_dir():
        raise BundleError(f"{path} is a folder; expected a .safetensors file. {_IMPORT_IT}")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            _refuse_other_kinds(path, size, start)
            length = int.from_bytes(start, "little")
            if length > min(size - 8, _LARGEST_HEADER_BYTES):
                raise BundleError(f"{path} is no safetensors file, or it is cut off; fetch it again. {_IMPORT_IT}")
            text = stream.read(length)
    except FileNotFoundError as problem:
        raise BundleError(f"there is no model file {path}; check the path") from problem
    except OSError as problem:
        raise BundleError(f"the model file {path} cannot be read: {problem.strerror or problem}") from problem
    return _checked_header(path, _parsed(path, text), 8 + length, size)


def _refuse_other_kinds(path: Path, size: int, start: bytes) -> None:
    if size == 0:
        raise BundleError(f"the model file {path} is empty; fetch it again")
    if start.startswith(_PICKLES) or path.suffix.lower() in (".pth", ".pt", ".ckpt", ".bin"):
        raise BundleError(
            f"{path} is a PyTorch file, which could run foreign code when opened, so it is not read here. {_IMPORT_IT}"
        )
    if size < 8:
        raise BundleError(f"the model file {path} is cut off after {size} bytes; fetch it again")


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as problem:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise BundleError(f"the header of {path} is no JSON; the file is damaged or of another kind") from problem
    if not isinstance(header, dict):
        raise BundleError(f"the header of {path} is no JSON object; the file is damaged or of another kind")
    return header


def _checked_header(path: Path, header: dict[str, Any], data_start: int, size: int) -> Header:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise BundleError(f"the metadata of {path} is damaged; fetch the file again")
    entries = {}
    for name, fields in header.items():
        try:
            first, last = fields["data_offsets"]
            entry = Entry(fields["dtype"], tuple(fields["shape"]), data_start + first, data_start + last)
            fits = _fits(entry) and 0 <= first <= last
        except (KeyError, TypeError, ValueError) as problem:
            raise BundleError(f"the entry of tensor {name!r} in {path} is damaged; fetch the file again") from problem
        if not fits:
            raise BundleError(f"the size of tensor {name!r} in {path} is wrong; the file is damaged, fetch it again")
        entries[name] = entry
    end = max((entry.stop for entry in entries.values()), default=data_start)
    if end != size:
        raise BundleError(
            f"{path} has {size} bytes where its header says {end}; it is cut off or damaged, fetch it again"
        )
    return Header(path, metadata, entries)


def _fits(entry: Entry) -> bool:
    whole = all(type(number) is int and number >= 0 for number in (*entry.shape, entry.start, entry.stop))
    return whole and (entry.stop - entry.start) * 8 == math.prod(entry.shape) * _BITS[entry.dtype]


def _pieces(stream: Any, count: int) -> Iterator[bytes]:
    while count > 0:
        piece = stream.read(min(count, _CHUNK_BYTES))
        if not piece:
            return
        count -= len(piece)
        yield piece
