"""The one place where nnU-Net (nnunetv2 2.8) is called; a test holds the signatures that are relied on.

Its planning needs nothing of it but one file of NumPy, so `pip install --no-deps nnunetv2` is enough: the package's own
list of dependencies would bring another PyTorch.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from MambaSegmentLib.errors import ConfigError

INSTALL = 'pip install --no-deps "nnunetv2>=2.8.1,<2.9"'
_TOPOLOGY = "nnunetv2.experiment_planning.experiment_planners.network_topology"
_TRAINER = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
_NO_LIMIT = 999_999  # poolings per axis; nnU-Net leaves it to the size of the feature maps


@dataclass(frozen=True)
class Pooling:
    """Attributes:
    strides, kernel_sizes: per stage and axis.
    patch: padded to `multiples`.
    multiples: what a size must be a multiple of, along each axis.
    """

    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    patch: tuple[int, ...]
    multiples: tuple[int, ...]


def trainer_class() -> type:
    """nnU-Net's trainer, imported by its place: a look-up by name would import every trainer, some of which need more.

    Raises:
        ConfigError: nnU-Net, or something that its trainer needs, is not installed.
    """
    try:
        return importlib.import_module(_TRAINER).nnUNetTrainer
    except ImportError as problem:
        raise ConfigError(f"this needs nnU-Net with what it needs itself ({problem}); {INSTALL}") from problem


def nnunet_version() -> str | None:
    """The version that is installed, or None."""
    try:
        return version("nnunetv2")
    except PackageNotFoundError:
        return None


def pooling_for(spacing_mm: Sequence[float], patch: Sequence[float], min_feature_map_size: int) -> Pooling:
    """How nnU-Net pools a patch: the finest axes first, as long as the feature map keeps its smallest size.

    Raises:
        ConfigError: nnU-Net is not installed.
    """
    try:
        topology = importlib.import_module(_TOPOLOGY)
    except ImportError as problem:
        raise ConfigError(f"planning a network needs nnU-Net ({problem}); {INSTALL}") from problem
    found = topology.get_pool_and_conv_props(list(spacing_mm), list(patch), min_feature_map_size, _NO_LIMIT)
    _, strides, kernel_sizes, padded, multiples = found
    return Pooling(_rows(strides), _rows(kernel_sizes), _whole(padded), _whole(multiples))


def _rows(table: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(_whole(row) for row in table)


def _whole(numbers: Sequence[float]) -> tuple[int, ...]:
    return tuple(int(number) for number in numbers)
