"""The grid of sub-regions that the region terms of the losses look at, fitted to the patch."""

from collections.abc import Sequence

from MambaSegmentLib.errors import ConfigError

from .config import LossConfig


def regions_per_axis(
    config: LossConfig, patch_size: Sequence[int], spacing_mm: Sequence[float | None] | None
) -> tuple[int, ...] | None:
    """How many sub-regions a patch has along each axis; None where nothing is configured.

    Args:
        config: with `regions_per_axis`, or the edge of a sub-region in voxels or millimetres; the number is the one
            whose regions come nearest to that edge, and at least 1.
        patch_size: voxels (K, J, I), or (J, I) of slices.
        spacing_mm: of the prepared grid, (K, J, I); None where it is as stored.
    Raises:
        ConfigError: millimetres on a grid of unknown spacing.
    """
    if config.region_edge_mm is not None:
        spacings = [step for step in spacing_mm or () if step is not None]
        if len(spacings) < 3:
            raise ConfigError(
                "loss.region_edge_mm needs the spacing of the prepared data, which was kept as stored; set "
                "loss.region_edge_voxels"
            )
        edges = [config.region_edge_mm / step for step in spacings[-len(patch_size) :]]
    elif config.region_edge_voxels is not None:
        edges = [config.region_edge_voxels] * len(patch_size)
    else:
        return config.regions_per_axis
    return tuple(max(1, round(size / edge)) for size, edge in zip(patch_size, edges, strict=True))
