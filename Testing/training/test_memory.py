"""What a step is said to take, against what tensors add up to, and the batch that follows."""

from dataclasses import replace

import psutil
import pytest
import torch
from mambasegment_training.memory import step_memory, with_batch_that_fits
from mambasegment_training.network import build_network
from mambasegment_training.optimizer import build_optimizer

from MambaSegmentLib.errors import ConfigError, ResourceError
from MambaSegmentLib.models.counts import count_parameters

PLANNED = {"name": "resenc_unet", "options": {}}


def test_weights_count_with_gradients_moments_and_average(prepared, tiny_config):
    config = tiny_config(network=PLANNED)  # AdamW and an average of the weights: five of each weight
    weights = count_parameters(build_network(prepared, config))
    assert step_memory(prepared, config).weights_bytes == 5 * 4 * weights
    plain = tiny_config(network=PLANNED, optimizer={"name": "sgd"}, ema_decay=None)
    assert step_memory(prepared, plain).weights_bytes == 3 * 4 * weights


OPTIMIZERS = (
    {"name": "adamw"},
    {"name": "adam"},
    {"name": "sgd"},
    {"name": "sgd", "momentum": 0.0},
)


@pytest.mark.parametrize("options", OPTIMIZERS, ids=str)
def test_weights_count_what_the_optimizer_really_keeps(prepared, tiny_config, options):
    config = tiny_config(network=PLANNED, optimizer=options, ema_decay=None)
    network = build_network(prepared, config)
    optimizer = build_optimizer(config.optimizer, network)
    for weight in network.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    kept = [*network.parameters(), *(weight.grad for weight in network.parameters())]
    kept += [state for state in states if state.ndim > 0]  # one number for each tensor counts Adam's steps
    assert step_memory(prepared, config).weights_bytes == sum(tensor.nbytes for tensor in kept)


def test_a_larger_patch_takes_more(prepared, tiny_config):
    small, large = (
        step_memory(prepared, tiny_config(network=PLANNED, data={"patch_size": patch}))
        for patch in ([12, 14, 10], [24, 28, 20])
    )
    assert small.patch_size == (12, 14, 10)
    assert large.sample_bytes == pytest.approx(8 * small.sample_bytes, rel=0.01)


def test_computing_activations_again_takes_less(prepared, tiny_config):
    plain, again = (
        step_memory(prepared, tiny_config(network=PLANNED, activation_checkpointing=on)) for on in (False, True)
    )
    assert again.sample_bytes < 0.8 * plain.sample_bytes


def test_the_batch_fills_the_limit(prepared, tiny_config):
    config = tiny_config(network=PLANNED)
    needed = step_memory(prepared, config)
    roomy = replace(
        prepared,
        plan=replace(prepared.plan, topologies={3: replace(prepared.plan.topologies[3], batch_size=50)}),
    )
    for batch in (1, 7):
        fitted = with_batch_that_fits(roomy, config, (needed.of_batch(batch) + 10) / 1e9)
        assert fitted.data.batch_size == batch
    assert with_batch_that_fits(roomy, config, 1000.0).data.batch_size == 50  # as planned
    larger = tiny_config(network=PLANNED, data={"batch_size": 60})
    assert with_batch_that_fits(roomy, larger, 1000.0).data.batch_size == 60  # as the recipe has it


def test_what_does_not_fit_is_refused_with_advice(prepared, tiny_config):
    config = tiny_config(network=PLANNED)
    expected = (
        r"one image of 12 x 14 x 10 voxels takes about .* allowed: set activation_checkpointing to true, or choose"
    )
    with pytest.raises(ResourceError, match=expected):
        with_batch_that_fits(prepared, config, 1e-4)
    with pytest.raises(ConfigError, match="expected more than 0"):
        with_batch_that_fits(prepared, config, 0.0)


@pytest.mark.skipif(not psutil.LINUX, reason="the high-water mark of a process is read from /proc")
def test_a_real_step_takes_no_more_than_it_is_said_to(prepared, tiny_config):
    config = tiny_config(network=PLANNED, data={"patch_size": [32, 48, 48]}, ema_decay=None)
    said = step_memory(prepared, config)
    network = build_network(prepared, config)
    before = psutil.Process().memory_info().rss
    loss = network(torch.zeros(1, 1, 32, 48, 48)).sum()
    held = psutil.Process().memory_info().rss - before  # at its largest between the passes
    loss.backward()
    assert 0.3 * said.sample_bytes < held < said.of_batch(1)
