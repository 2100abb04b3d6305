"""What is compared: a label by itself, or a region of several labels, such as a whole tumour of three parts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError


@dataclass(frozen=True)
class Structure:
    """A named set of label values whose voxels count as one mask.

    Attributes:
        values: one for a label, several for a region; none is 0.
    Raises:
        ConfigError: no value, 0, or a value twice.
    """

    name: str
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or 0 in self.values or len(set(self.values)) != len(self.values):
            raise ConfigError(
                f"{self.name!r} stands for the label values {list(self.values)}; expected different ones, without the "
                "background 0"
            )

    @property
    def is_region(self) -> bool:
        return len(self.values) > 1

    def mask(self, labels: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Where `labels` hold one of the values; same shape."""
        return np.equal(labels, self.values[0]) if len(self.values) == 1 else np.isin(labels, self.values)


def labels_and_regions(
    names: Mapping[int, str], regions: Mapping[str, Sequence[int]] | None = None
) -> tuple[Structure, ...]:
    """Each label by itself, and then the regions.

    Raises:
        ConfigError: a name twice, or a region of values that are no labels.
    """
    structures = [Structure(name, (value,)) for value, name in sorted(names.items())]
    for name, values in (regions or {}).items():
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ConfigError(f"region {name!r} holds the label {unknown[0]}; known are {_listed(sorted(names))}")
        structures.append(Structure(name, tuple(values)))
    doubled = _first_doubled(structure.name for structure in structures)
    if doubled is not None:
        raise ConfigError(f"two labels or regions are named {doubled!r}; give each a name of its own")
    return tuple(structures)


def _first_doubled(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) or "none"
