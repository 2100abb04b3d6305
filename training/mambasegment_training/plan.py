"""What follows from the prepared cases for a network: patch, stages, widths, kernels, strides, batch.

The rules are nnU-Net's (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z, supplementary note 4): start from a patch
of the data's proportions no larger than the median case, pool its finest axes first, and shrink it where it is longest
against the median case until the feature maps of a plain U-Net fit a memory target. How to pool is asked of nnU-Net
itself; a test compares whole plans with its planner's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from MambaSegmentLib.errors import ConfigError

from .compat_nnunet import Pooling, nnunet_version, pooling_for

MAX_PATCH_VOXELS = 128**3  # where nnU-Net is not there to plan
SMALLEST_FEATURE_MAP = 4
_BASE_WIDTH = 32
_LARGEST_WIDTH = {2: 512, 3: 320}
_EDGE_OF_LARGEST_PATCH = {2: 2048, 3: 256}
# elements of a plain U-Net's feature maps that correspond to 8 GB at the reference batch
_REFERENCE_ELEMENTS = {2: 85_000_000, 3: 560_000_000}
_REFERENCE_BATCH = {2: 12, 3: 2}
_SMALLEST_BATCH = 2
_SHARE_OF_DATASET = 0.05  # a batch shows no more of the data than this


@dataclass(frozen=True)
class Topology:
    """A U-Net as nnU-Net would plan it for the data, in 2 or 3 dimensions.

    Attributes:
        patch_size: voxels (K, J, I), or (J, I) of slices across K.
        batch_size: nnU-Net's, for 8 GB; not what a run takes unless it is told to.
        features_per_stage, kernel_sizes, strides: options of `build_model`; a row per stage, a number per axis.
    """

    patch_size: tuple[int, ...]
    batch_size: int
    features_per_stage: tuple[int, ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]

    @property
    def network_options(self) -> dict[str, Any]:
        """Those of a residual U-Net of this project."""
        rows = {"kernel_sizes": self.kernel_sizes, "strides": self.strides}
        lists = {name: [list(row) for row in table] for name, table in rows.items()}
        return {"features_per_stage": list(self.features_per_stage), **lists}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Topology":
        return cls(
            tuple(content["patch_size"]),
            content["batch_size"],
            tuple(content["features_per_stage"]),
            tuple(tuple(row) for row in content["kernel_sizes"]),
            tuple(tuple(row) for row in content["strides"]),
        )


@dataclass(frozen=True)
class Plan:
    """Attributes:
    patch_size: voxels (K, J, I), multiples of `size_multiple`, for networks with stages of their own; K is 1 where all
        cases are single slices.
    planner: what planned: "nnunetv2 2.8.1", or "built-in" where nnU-Net was not installed.
    topologies: dimensions -> plan for networks with stages from the data; empty if built-in. Of single slices only 2.
    """

    patch_size: tuple[int, int, int]
    size_multiple: int
    planner: str
    topologies: Mapping[int, Topology]

    @property
    def flat(self) -> bool:
        return self.patch_size[0] == 1

    def to_json(self) -> dict[str, Any]:
        return {
            "patch_size": list(self.patch_size),
            "size_multiple": self.size_multiple,
            "planner": self.planner,
            "topologies": {f"{dims}d": topology.to_json() for dims, topology in self.topologies.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Plan":
        """Read dataset.json's `plan`; those of before there were topologies have a patch alone."""
        first, second, third = content["patch_size"]
        topologies = {int(key[0]): Topology.from_json(entry) for key, entry in content.get("topologies", {}).items()}
        return cls((first, second, third), content["size_multiple"], content.get("planner", "built-in"), topologies)


def plan_networks(
    shapes: Sequence[Sequence[int]],
    spacing_mm: Sequence[float],
    class_count: int,
    size_multiple: int = 8,
    given_patches: Mapping[int, Sequence[int]] | None = None,
) -> Plan:
    """Plan for prepared cases.

    Args:
        shapes: (K, J, I) of each prepared case; spacing_mm along the same axes.
        class_count: outputs of the network.
        given_patches: dimensions -> patch that the user wants; its stages are planned all the same.
    Raises:
        ConfigError: a multiple or a patch that makes no sense.
    """
    if size_multiple < 1:
        raise ConfigError(f"the size multiple is {size_multiple}; expected 1 or more")
    median = np.median(np.asarray(shapes, dtype=float), axis=0)
    flat = all(shape[0] == 1 for shape in shapes)
    given = dict(given_patches or {})
    if flat and 3 in given:
        raise ConfigError(f"the data are single slices; the patch {tuple(given[3])} has three sizes, expected J,I")
    dimensions = (2,) if flat else (2, 3)
    topologies = {}
    if nnunet_version() is not None:
        voxels = float(np.prod(median) * len(shapes))
        for dims in dimensions:
            topologies[dims] = plan_topology(spacing_mm[-dims:], median[-dims:], class_count, voxels, given.get(dims))
    largest = topologies.get(max(dimensions))
    if largest is not None:
        patch = _rounded_up(largest.patch_size, size_multiple)
    else:
        wanted = given.get(max(dimensions))
        patch = tuple(wanted) if wanted else plan_patch(median[-max(dimensions) :], size_multiple)
    first, second, third = patch if len(patch) == 3 else (1, *patch)
    planner = f"nnunetv2 {nnunet_version()}" if topologies else "built-in"
    return Plan((first, second, third), size_multiple, planner, topologies)


def plan_topology(
    spacing_mm: Sequence[float],
    median_shape: Sequence[float],
    class_count: int,
    dataset_voxels: float,
    given_patch: Sequence[int] | None = None,
) -> Topology:
    """Plan for slices or volumes, by the number of axes.

    Args:
        median_shape: of the prepared cases along these axes.
        dataset_voxels: of all cases together; bounds the batch.
        given_patch: instead of the planned one; it is rounded up to what its own stages need.
    """
    dims = len(spacing_mm)
    if given_patch is not None:
        pooling = pooling_for(spacing_mm, given_patch, SMALLEST_FEATURE_MAP)
    else:
        pooling = _largest_that_fits(spacing_mm, median_shape, class_count)
    elements = _feature_map_elements(pooling, class_count)
    batch = round(_REFERENCE_ELEMENTS[dims] / elements * _REFERENCE_BATCH[dims])
    enough = round(dataset_voxels * _SHARE_OF_DATASET / math.prod(pooling.patch))
    return Topology(
        patch_size=pooling.patch,
        batch_size=max(min(batch, enough), _SMALLEST_BATCH),
        features_per_stage=_widths(pooling),
        kernel_sizes=pooling.kernel_sizes,
        strides=pooling.strides,
    )


def plan_patch(median_shape: Sequence[float], multiple: int) -> tuple[int, ...]:
    """Without nnU-Net: a patch that holds the median case, rounded up to a multiple, within a voxel limit.

    Where the median case is larger than the limit, the longest edge gives way first.
    """
    patch = np.array(_rounded_up(median_shape, multiple))
    while np.prod(patch) > MAX_PATCH_VOXELS and patch.max() > multiple:
        patch[int(np.argmax(patch))] -= multiple
    return tuple(int(size) for size in patch)


def _largest_that_fits(spacing_mm: Sequence[float], median_shape: Sequence[float], class_count: int) -> Pooling:
    dims = len(spacing_mm)
    fineness = 1 / np.asarray(spacing_mm, dtype=float)
    edges = fineness * (_EDGE_OF_LARGEST_PATCH[dims] ** dims / fineness.prod()) ** (1 / dims)
    patch = [min(round(float(edge)), size) for edge, size in zip(edges, median_shape, strict=True)]
    pooling = pooling_for(spacing_mm, patch, SMALLEST_FEATURE_MAP)
    while _feature_map_elements(pooling, class_count) / _REFERENCE_BATCH[dims] * 2 > _REFERENCE_ELEMENTS[dims]:
        ratios = [size / median for size, median in zip(pooling.patch, median_shape, strict=True)]
        longest = int(np.argsort(ratios)[-1])
        # a smaller patch may be pooled less often, and then be reduced in smaller steps: ask before the step is taken
        reduced = list(pooling.patch)
        reduced[longest] -= pooling.multiples[longest]
        step = pooling_for(spacing_mm, reduced, SMALLEST_FEATURE_MAP).multiples[longest]
        reduced[longest] = pooling.patch[longest] - step
        pooling = pooling_for(spacing_mm, reduced, SMALLEST_FEATURE_MAP)
    return pooling


def _widths(pooling: Pooling) -> tuple[int, ...]:
    largest = _LARGEST_WIDTH[len(pooling.patch)]
    return tuple(min(_BASE_WIDTH * 2**stage, largest) for stage in range(len(pooling.strides)))


def _feature_map_elements(pooling: Pooling, class_count: int) -> int:
    """Outputs of all convolutions of a plain U-Net with two per stage and level, one image."""
    widths = _widths(pooling)
    sizes = np.asarray(pooling.patch) // np.cumprod(pooling.strides, axis=0)
    voxels = [int(size.prod()) for size in sizes]
    encoder = sum(2 * width * count for width, count in zip(widths, voxels, strict=True))
    # on each level of the decoder a transposed convolution comes before the two
    decoder = sum(3 * width * count for width, count in zip(widths[:-1], voxels[:-1], strict=True))
    return encoder + decoder + class_count * voxels[0]


def _rounded_up(sizes: Sequence[float], multiple: int) -> tuple[int, ...]:
    return tuple(math.ceil(size / multiple) * multiple for size in sizes)
