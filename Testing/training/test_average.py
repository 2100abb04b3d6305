"""The running average of weights against its recursion by hand."""

import pytest
import torch
from mambasegment_training.average import WeightAverage
from torch import nn


def network_of(value: float) -> nn.Module:
    network = nn.BatchNorm1d(1)  # one weight, one bias, and buffers, one of them whole numbers
    with torch.no_grad():
        network.weight.fill_(value)
    return network


def test_early_updates_forget_the_start_quickly():
    network = network_of(0.0)
    average = WeightAverage(network, 0.999)
    expected = 0.0
    for update, value in enumerate([1.0, 2.0, 3.0]):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(network)
        decay = (1 + update) / (10 + update)  # 1/10, 2/11, 3/12: all below 0.999
        expected = decay * expected + (1 - decay) * value
    assert average.tensors["weight"].item() == pytest.approx(expected)
    assert average.updates == 3


def test_late_updates_have_the_wanted_decay():
    network = network_of(0.0)
    average = WeightAverage(network, 0.5)
    average.updates = 1000
    with torch.no_grad():
        network.weight.fill_(1.0)
    average.update(network)
    assert average.tensors["weight"].item() == pytest.approx(0.5)


def test_buffers_are_copied():
    network = network_of(0.0)
    average = WeightAverage(network, 0.9)
    network.train()
    network(torch.tensor([[1.0], [5.0]]))
    average.update(network)
    assert average.tensors["num_batches_tracked"].item() == 1
    assert average.tensors["running_mean"].item() == pytest.approx(network.running_mean.item())


def test_the_networks_own_weights_come_back_even_after_an_error():
    network = network_of(1.0)
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(7.0)
    with average.applied_to(network):
        assert network.weight.item() == 1.0
    assert network.weight.item() == 7.0
    with pytest.raises(RuntimeError, match="on purpose"), average.applied_to(network):
        raise RuntimeError("on purpose")
    assert network.weight.item() == 7.0
