"""How many sub-regions a patch has follows from their edge, and from the spacing."""

import pytest
from mambasegment_training.config import LossConfig
from mambasegment_training.region_grid import regions_per_axis

from MambaSegmentLib.errors import ConfigError

PATCH = (16, 96, 96)


def test_voxels():
    # 96 / 20 is 4.8, so 5 regions of about 19; 16 / 20 is 0.8, so one
    assert regions_per_axis(LossConfig(region_edge_voxels=20.0), PATCH, None) == (1, 5, 5)
    assert regions_per_axis(LossConfig(region_edge_voxels=1000.0), PATCH, None) == (1, 1, 1)


def test_millimetres_follow_the_spacing_of_each_axis():
    # 16 slices of 5 mm are 80 mm, 96 voxels of 0.5 mm are 48 mm
    assert regions_per_axis(LossConfig(region_edge_mm=10.0), PATCH, (5.0, 0.5, 0.5)) == (8, 5, 5)
    assert regions_per_axis(LossConfig(region_edge_mm=10.0), PATCH[1:], (5.0, 0.5, 1.0)) == (5, 10)  # of a slice


def test_nothing_said_is_the_losses_default():
    assert regions_per_axis(LossConfig(), PATCH, None) is None
    assert regions_per_axis(LossConfig(regions_per_axis=(8, 8, 14)), PATCH, None) == (8, 8, 14)


@pytest.mark.parametrize("spacing", [None, (None, 1.0, 1.0)])
def test_millimetres_need_a_spacing(spacing):
    with pytest.raises(ConfigError, match=r"kept as stored; set loss\.region_edge_voxels"):
        regions_per_axis(LossConfig(region_edge_mm=10.0), PATCH, spacing)
