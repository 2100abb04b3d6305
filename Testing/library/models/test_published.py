"""Weights under the authors' names: several names for one tensor, and files that hold something else."""

import pytest
import torch

from MambaSegmentLib.errors import BundleError
from MambaSegmentLib.models import build_model, load_published_weights

OPTIONS = {
    "in_channels": 1,
    "num_classes": 2,
    "spatial_dims": 2,
    "init_filters": 8,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}


def a_net_and_its_own_names():
    """Our names stand for the authors' here: no pattern of the renaming matches them."""
    torch.manual_seed(0)
    net = build_model("lightm_unet", OPTIONS)
    return net, {name: torch.randn_like(tensor) for name, tensor in net.state_dict().items()}


def test_a_tensor_may_come_twice_if_it_is_the_same():
    net, weights = a_net_and_its_own_names()
    twice = {**weights, **{f"module.{name}": tensor.clone() for name, tensor in weights.items()}}
    assert len(load_published_weights(net, twice).loaded) == len(weights)
    assert torch.equal(net.state_dict()["stem.depthwise.weight"], weights["stem.depthwise.weight"])


def test_two_values_for_one_tensor_are_refused_with_both_names():
    net, weights = a_net_and_its_own_names()
    other = {"module.head_norm.bias": weights["head_norm.bias"] + 1}
    with pytest.raises(BundleError, match=r"given twice .*: head_norm\.bias and module\.head_norm\.bias"):
        load_published_weights(net, {**weights, **other})


def test_a_tensor_that_holds_nan_is_not_taken_for_two():
    net, weights = a_net_and_its_own_names()
    weights["head_norm.bias"].fill_(torch.nan)
    assert len(load_published_weights(net, weights).loaded) == len(weights)


def test_a_checkpoint_whose_tensors_lie_elsewhere_is_refused():
    net, weights = a_net_and_its_own_names()
    with pytest.raises(BundleError, match="no tensors: model, epoch"):
        load_published_weights(net, {"model": weights, "epoch": 3})
