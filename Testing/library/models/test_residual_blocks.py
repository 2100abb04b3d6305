"""The convolutional parts, by hand-made answers."""

import pytest
import torch
from torch import nn

from MambaSegmentLib.models.drop_path import DropPath
from MambaSegmentLib.models.residual_blocks import (
    PooledShortcut,
    plain_block,
    pooling_block,
    projecting_block,
    start_convolutions,
)
from MambaSegmentLib.models.residual_unet import DecoderLevel


def test_a_block_without_its_branch_is_the_activated_shortcut():
    block = plain_block(2, (3, 3))
    nn.init.zeros_(block.norm2.weight)
    x = torch.tensor([[[[1.0, -2.0]], [[-3.0, 4.0]]]])
    torch.testing.assert_close(block(x), torch.tensor([[[[1.0, -0.02]], [[-0.03, 4.0]]]]))


def test_the_pooling_shortcut_is_the_mean_where_the_width_stays():
    block = pooling_block(1, 1, (3, 3), (1, 2))
    nn.init.zeros_(block.norm2.weight)
    x = torch.tensor([[[[1.0, 3.0, 5.0, 9.0], [0.0, 2.0, 4.0, 6.0]]]])
    torch.testing.assert_close(block(x), torch.tensor([[[[2.0, 7.0], [1.0, 5.0]]]]))


def test_the_pooling_shortcut_projects_and_normalises_where_the_width_changes():
    block = pooling_block(1, 2, (3, 3, 3), (1, 2, 2))
    assert isinstance(block.shortcut, PooledShortcut)
    assert block.shortcut.conv.bias is None
    out = block.shortcut(torch.randn(1, 1, 2, 4, 4))
    assert out.shape == (1, 2, 2, 2, 2)
    torch.testing.assert_close(out.mean((2, 3, 4)), torch.zeros(1, 2), rtol=0, atol=1e-6)


def test_the_projecting_shortcut_takes_the_first_voxel_of_each_stride():
    block = projecting_block(1, 1, (3, 3), (2, 2))
    nn.init.zeros_(block.norm2.weight)
    nn.init.constant_(block.shortcut.weight, 2.0)
    nn.init.constant_(block.shortcut.bias, 1.0)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(block(x), torch.tensor([[[[1.0, 5.0], [17.0, 21.0]]]]))


def test_a_decoder_level_copies_voxels_and_joins_the_skip_behind_them():
    level = DecoderLevel(2, 1, (1, 2), nn.Identity(), nn.Identity(), 2)
    nn.init.ones_(level.reduce.weight)
    nn.init.zeros_(level.reduce.bias)
    x, skip = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]]]]), torch.full((1, 1, 1, 4), 7.0)
    torch.testing.assert_close(level(x, skip), torch.tensor([[[[11.0, 11.0, 22.0, 22.0]], [[7.0] * 4]]]))


def test_convolutions_start_as_kaiming_gives_them():
    torch.manual_seed(0)
    block = projecting_block(64, 64, (3, 3, 3))
    start_convolutions(block)
    expected = (2 / (1 + 0.01**2) / (64 * 27)) ** 0.5
    assert block.conv1.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert not block.conv1.bias.any()


def test_drop_path_loses_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop, ones = DropPath(0.25), torch.ones(4000, 2, 3)
    dropped = drop(ones)
    kept = dropped[:, 0, 0] > 0
    torch.testing.assert_close(dropped, kept[:, None, None] * ones / 0.75)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)  # four standard deviations
    assert drop.eval()(ones) is ones
