"""What the headers of all file formats are checked for: spacing, and sizes that the file cannot hold."""

import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from .errors import GeometryError, ImageError
from .memory import refuse_oversize

CHUNK_BYTES = 1 << 20
SPACING_AGREEMENT = 1e-3  # relative; NIfTI stores float32, other writers round
DEFLATE_RATIO_MAX = 1032  # no stream of zlib or gzip unpacks to more than this many times its length
_EXCESS_BYTES = 1 << 24  # that a file may unpack to beyond its voxels, before it counts as made to fill the memory


def check_spacing(path: Path, values: Sequence[float], field: str) -> None:
    """Raises: GeometryError, unless all are positive numbers; `field` is where the header says so."""
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise GeometryError(
            f"{path}: its header gives the voxel spacing as {numbers_text(values)} mm ({field}); positive numbers are "
            "needed, since volumes and distances would be wrong. Export the image again or correct the header"
        )


def check_claim(path: Path, claimed_bytes: int, *, inflate: bool, before_bytes: int = 0) -> None:
    """Refuse a size that the file cannot hold, or the memory, before anything is unpacked or allocated.

    Args:
        claimed_bytes: of all that follows the first `before_bytes` of the file, once it is unpacked.
        inflate: whether that is a stream of zlib or gzip.
    Raises:
        ImageError, ResourceError.
    """
    stored_bytes = max(path.stat().st_size - before_bytes, 0)
    if inflate and stored_bytes * DEFLATE_RATIO_MAX < claimed_bytes:
        raise damaged(path, f"{stored_bytes} compressed bytes cannot hold the {claimed_bytes} that its header promises")
    if not inflate:
        check_length(path, claimed_bytes, stored_bytes)
    refuse_oversize(str(path), claimed_bytes)


def check_length(path: Path, needed_bytes: int, found_bytes: int) -> None:
    """Raises: ImageError, when voxels are missing."""
    if found_bytes < needed_bytes:
        raise damaged(path, f"it holds {found_bytes} of the {needed_bytes} bytes that its header promises")


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def pieces_up_to(path: Path, stream: Readable, wanted_bytes: int) -> Iterator[bytes]:
    """Yield the next `wanted_bytes`, or what there is of them, in pieces; then read on to the end, for its checksum.

    Raises:
        ImageError: there is far more than that.
    """
    left = wanted_bytes
    while left > 0 and (piece := stream.read(min(CHUNK_BYTES, left))):
        left -= len(piece)
        yield piece
    excess = 0
    while piece := stream.read(CHUNK_BYTES):
        excess += len(piece)
        if excess > _EXCESS_BYTES:
            raise damaged(path, f"it goes on after the {wanted_bytes} bytes that its header promises")


def is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def open_unpacked(path: Path) -> gzip.GzipFile | BinaryIO:
    """The content of a file, unpacked on the way if it is a gzip file."""
    return gzip.open(path) if is_gzip(path) else path.open("rb")


def damaged(path: Path, how: str) -> ImageError:
    return ImageError(f"{path} is damaged or not what its name says: {how}; copy or export the image again")


def numbers_text(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
