"""A batch computed image by image: the gradient of the whole, and refused where it would be another."""

from types import SimpleNamespace

import pytest
import torch
from mambasegment_training.images_at_once import images_at_once
from mambasegment_training.losses import build_loss
from mambasegment_training.ranks import ALONE
from mambasegment_training.run_parts import build_parts
from torch import nn

from MambaSegmentLib.errors import ConfigError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL, USUAL = (12, 14, 10), (40, 56, 40)
REGIONS = {"name": "rs_tversky", "regions_per_axis": [2, 2, 2]}


def gradients(prepared, config) -> tuple[float, dict[str, torch.Tensor], list[int]]:
    """Loss and gradients of the first batch in float64, and of how many images the network saw each time."""
    parts = build_parts(prepared, config, "cpu", ALONE)
    network, seen = parts.state.network.double(), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    images, labels = parts.sampler.batch(0)
    parts.stepper.take((images.double(), labels), 1e-3, say=print)
    return parts.state.loss_sum, {name: one.grad for name, one in network.named_parameters()}, seen


@pytest.mark.parametrize("loss", [{"name": "dice_ce"}, REGIONS, {"name": "arsl", "regions_per_axis": [2, 3, 2]}])
def test_the_gradient_is_that_of_the_whole_batch(prepared, tiny_config, loss):
    found = {}
    for at_once in (5, 2):
        data = {"batch_size": 5, "images_at_once": at_once}
        found[at_once] = gradients(prepared, tiny_config(data=data, loss=loss, ema_decay=None))
    (value, expected, seen), (other_value, other, taken) = found[5], found[2]
    assert (seen, taken) == ([5], [2, 2, 1])
    assert other_value == pytest.approx(value, rel=1e-12)
    assert max(float(one.abs().max()) for one in expected.values()) > 1e-4
    for name, one in expected.items():
        torch.testing.assert_close(other[name], one, rtol=1e-9, atol=1e-12)


def test_parts_of_accumulated_batches_weigh_the_same(prepared, tiny_config):
    data = {"batch_size": 2, "accumulate": 2}
    whole = gradients(prepared, tiny_config(data=data, ema_decay=None))
    apart = gradients(prepared, tiny_config(data=data | {"images_at_once": 1}, ema_decay=None))
    assert (whole[2], apart[2]) == ([2, 2], [1, 1, 1, 1])  # patches this small are taken together by themselves
    assert apart[0] == pytest.approx(whole[0], rel=1e-12)
    for name, one in whole[1].items():
        torch.testing.assert_close(apart[1][name], one, rtol=1e-9, atol=1e-12)


def chosen(data, patch=USUAL, device=CPU, network=None, **loss) -> int:
    config = SimpleNamespace(data=SimpleNamespace(**{"batch_size": 8, "images_at_once": None} | data))
    net = network or nn.Conv3d(1, 2, 3)
    return images_at_once(config, net, build_loss("dice_ce", **loss), patch, device)


def test_a_cpu_takes_few_and_a_gpu_all():
    assert chosen({}) == 1
    assert chosen({}, patch=(128, 128)) == 4
    assert chosen({}, patch=SMALL) == 8
    assert chosen({}, device=GPU) == 8
    assert chosen({"images_at_once": 3}, device=GPU) == 3
    assert chosen({"images_at_once": 20}) == 8
    assert chosen({}, deep_supervision_weights=[1.0, 0.5]) == 1


LOOKING_AT_ALL = [
    {"batch_dice": True},
    {"ignore_label": 2},
    {"batch_dice": True, "deep_supervision_weights": [1.0]},
]


@pytest.mark.parametrize("loss", LOOKING_AT_ALL)
def test_a_loss_that_looks_at_the_batch_gets_all_of_it(loss):
    assert chosen({}, **loss) == 8
    with pytest.raises(ConfigError, match=r"images_at_once is 2 of a batch of 8, but this loss .* data\.accumulate"):
        chosen({"images_at_once": 2}, **loss)


def test_batch_normalisation_gets_all_of_it():
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2))
    assert chosen({}, network=network) == 8
    with pytest.raises(ConfigError, match="normalises over the images"):
        chosen({"images_at_once": 1}, network=network)
    assert chosen({}, network=nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2))) == 1


def test_a_part_of_nothing_is_no_part(tiny_config):
    with pytest.raises(ConfigError, match=r"data\.images_at_once"):
        tiny_config(data={"images_at_once": 0})
