"""Training samples: a pure function of (seed, epoch, index), so that order, threads and restarts change nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from MambaSegmentLib.errors import ConfigError

from .storage import read_array

_SHUFFLE, _SAMPLE = 0, 1  # keep the random numbers of the two purposes apart


@dataclass(frozen=True, eq=False)
class Case:
    """A prepared case.

    Attributes:
        image: float32 (C, K, J, I).
        labels: uint8 (K, J, I).
        foreground: int32 (M, 4), rows of label, k, j, i.
    """

    image: np.ndarray
    labels: np.ndarray
    foreground: np.ndarray


class Cases(Protocol):
    """Prepared cases by identifier, wherever they come from."""

    @property
    def identifiers(self) -> tuple[str, ...]: ...

    def __getitem__(self, identifier: str) -> Case: ...


class CaseStore:
    """The prepared cases of a work folder, in memory if they fit the limit, else mapped from disk."""

    def __init__(self, folder: Path, identifiers: tuple[str, ...], memory_limit_bytes: float) -> None:
        files = [folder / f"{name}.{kind}.npy" for name in identifiers for kind in ("image", "labels")]
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise ConfigError(f"{missing[0]} does not exist; run `mambatrain prepare` again")
        in_memory = sum(path.stat().st_size for path in files) <= memory_limit_bytes
        self.identifiers = identifiers
        self._folder = folder
        self._cases = {name: _open_case(folder, name, in_memory) for name in identifiers}

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process the files are mapped, so that many processes hold one copy."""
        return CaseStore, (self._folder, self.identifiers, -1.0)

    def __len__(self) -> int:
        return len(self.identifiers)

    def __getitem__(self, identifier: str) -> Case:
        return self._cases[identifier]


def _open_case(folder: Path, name: str, in_memory: bool) -> Case:
    return Case(
        image=read_array(folder / f"{name}.image.npy", in_memory=in_memory),
        labels=read_array(folder / f"{name}.labels.npy", in_memory=in_memory),
        foreground=read_array(folder / f"{name}.foreground.npy", in_memory=True),
    )


def sample_seed(seed: int, epoch: int, index: int) -> np.random.SeedSequence:
    """The source of all random numbers of sample `index` of an epoch."""
    return np.random.SeedSequence((seed, _SAMPLE, epoch, index))


def case_at(position: int, case_count: int, seed: int) -> int:
    """The case for the sample at `position` of the whole training: each round shows every case once, in a new order."""
    round_number, place = divmod(position, case_count)
    return int(np.random.default_rng((seed, _SHUFFLE, round_number)).permutation(case_count)[place])


def cut_patch(
    case: Case,
    size: tuple[int, ...],
    rng: np.random.Generator,
    foreground_fraction: float,
    source_size: tuple[int, ...] | None = None,
    small_cases: str = "centred",
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a random patch.

    With probability `foreground_fraction` it is centred on a voxel of a label drawn evenly from the case's labels;
    otherwise it lies anywhere. Along an axis where the case is smaller, the patch holds the whole case.

    Args:
        size: voxels (K, J, I) of the patch.
        source_size: of what is cut, with the patch in its middle (voxel n // 2 on voxel n // 2) and no further than
            the case reaches, since beyond are zeros anyway; None: the patch alone.
        small_cases: "centred" as in prediction, or "anywhere", along an axis where the case is smaller than the patch.
    Returns:
        image float32 (C, K, J, I), with 0, the mean of a normalised channel, outside the case; labels int16 (K, J, I),
        with 0 outside. Copies.
    """
    centre = None
    if rng.random() < foreground_fraction and len(case.foreground):
        label = rng.choice(np.unique(case.foreground[:, 0]))
        candidates = case.foreground[case.foreground[:, 0] == label]
        centre = candidates[rng.integers(len(candidates)), 1:]
    edges: list[int] = []
    start = [
        _start(case.labels.shape[axis], size[axis], None if centre is None else int(centre[axis]), rng, small_cases)
        for axis in range(3)
    ]
    for axis, largest in enumerate(source_size or size):
        middle = start[axis] + size[axis] // 2
        reach = max(middle, case.labels.shape[axis] - middle)
        edge = min(largest, max(size[axis], 2 * reach))
        start[axis] = middle - edge // 2
        edges.append(edge)
    return _cut(case.image, start, edges, np.float32), _cut(case.labels[None], start, edges, np.int16)[0]


def _start(extent: int, size: int, centre: int | None, rng: np.random.Generator, small_cases: str) -> int:
    """First voxel of the patch along an axis; negative where the case is smaller than the patch."""
    if extent <= size:
        return -((size - extent) // 2 if small_cases == "centred" else int(rng.integers(size - extent + 1)))
    if centre is None:
        return int(rng.integers(extent - size + 1))
    return min(max(centre - size // 2, 0), extent - size)


def _cut(array: np.ndarray, start: Sequence[int], size: Sequence[int], dtype: type) -> np.ndarray:
    patch = np.zeros((array.shape[0], *size), dtype)
    source, target = [slice(None)], [slice(None)]
    for first, length, extent in zip(start, size, array.shape[1:], strict=True):
        low, high = max(first, 0), min(first + length, extent)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    patch[tuple(target)] = array[tuple(source)]
    return patch
