"""NRRD files of float32 voxels that are filled in any order, and so need no copy in memory.

One volume, or several as a fourth axis, each in one piece. Header: teem's "Definition of NRRD File Format", version 5
(`space` left-posterior-superior, as ours; axis kinds `domain` and `list`). Voxels are stored as they are, without
compression, so that they can be written out of order and mapped by whoever reads them.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .errors import ResourceError
from .files import atomic_path
from .volume import Volume

_MAPPED_BYTES = 64 << 20  # written to one mapping before it is let go, since what is mapped counts as memory
_BLOCK_BYTES = 16 << 20
_RESERVE_BYTES = 64 << 20  # for headers, labels and whoever else writes
_FLOAT32 = np.dtype("<f4")


class NrrdMap:
    """The voxels of a file that is being written.

    Args:
        path: a file that is long enough.
        offset: of its voxels.
        shape: (volumes, K, J, I).
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...]) -> None:
        self._path, self._offset, self._shape = path, offset, shape
        self._voxels: np.memmap | None = None
        self._since_bytes = 0

    @contextmanager
    def writing(self, count_bytes: int) -> Iterator[np.ndarray]:
        """The voxels, (volumes, K, J, I), to write about so many bytes into; not to be kept."""
        if self._voxels is None:
            self._voxels = np.memmap(self._path, _FLOAT32, "r+", self._offset, self._shape)
        yield self._voxels
        self._since_bytes += count_bytes
        if self._since_bytes >= _MAPPED_BYTES:
            self.close()

    def fill(self, volume: int, value: float) -> None:
        """Set all voxels of a volume, in pieces."""
        for plane in range(self._shape[1]):
            with self.writing(_FLOAT32.itemsize * self._shape[2] * self._shape[3]) as voxels:
                voxels[volume, plane] = value

    def close(self) -> None:
        """Let go of the mapping; the next write makes another."""
        self._voxels, self._since_bytes = None, 0


@contextmanager
def writable_nrrd(path: Path, grid: Volume, names: Sequence[str] | None = None) -> Iterator[NrrdMap]:
    """A file of zeros on a grid, to be filled; it appears as `path` when the block ends without an error.

    Args:
        names: of the volumes along the fourth axis, kept as `class 0 := background` and so on; None for one 3-D volume.
    Raises:
        ImageError: the place cannot be written. ResourceError: the disk is full.
    """
    header = _header(grid, names)
    shape = (1 if names is None else len(names), *grid.array.shape)
    with atomic_path(path) as temporary:
        with temporary.open("wb") as stream:
            stream.write(header)
            _extend(stream.fileno(), len(header), _FLOAT32.itemsize * int(np.prod(shape, dtype=np.int64)))
        voxels = NrrdMap(temporary, len(header), shape)
        try:
            yield voxels
        finally:
            voxels.close()  # Windows cannot rename a file that is mapped


def refuse_full_disk(wanted: Sequence[tuple[Path, int]]) -> None:
    """Look at the disks before work begins.

    Args:
        wanted: files and their bytes.
    Raises:
        ResourceError: those of one folder do not fit on its disk; the message names both figures.
    """
    for folder in {path.parent for path, _ in wanted}:
        needed = sum(count for path, count in wanted if path.parent == folder)
        free = shutil.disk_usage(folder).free
        if needed + _RESERVE_BYTES > free:
            raise ResourceError(
                f"uncertainty and probabilities need {needed / 1e9:.3g} GB in {folder}, and {free / 1e9:.3g} GB are "
                "free; free some space, choose another disk, or leave out --probabilities"
            )


def _extend(descriptor: int, start: int, count_bytes: int) -> None:
    """Really take the space: writing to a mapping of a file with holes on a full disk would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, start + count_bytes)
        return
    zeros = bytes(_BLOCK_BYTES)
    os.lseek(descriptor, start, os.SEEK_SET)
    while count_bytes > 0:
        count_bytes -= os.write(descriptor, zeros[:count_bytes])


def _header(grid: Volume, names: Sequence[str] | None) -> bytes:
    columns = (grid.ijk_to_lps[:3, axis] for axis in range(3))
    directions = [_vector(column) for column in columns]
    sizes, kinds = list(grid.array.shape[::-1]), ["domain"] * 3
    if names is not None:
        sizes, kinds, directions = [*sizes, len(names)], [*kinds, "list"], [*directions, "none"]
    lines = [
        "NRRD0005",
        "type: float",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {' '.join(directions)}",
        f"kinds: {' '.join(kinds)}",
        "endian: little",
        "encoding: raw",
        f"space origin: {_vector(np.asarray(grid.origin_mm))}",
        *(f"class {number}:={' '.join(name.split())}" for number, name in enumerate(names or ())),
    ]
    return ("\n".join(lines) + "\n\n").encode()


def _vector(numbers: np.ndarray) -> str:
    return f"({','.join(f'{number:.17g}' for number in numbers + 0.0)})"
