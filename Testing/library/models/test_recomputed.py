"""Activation checkpointing: the same numbers in less memory, for every network."""

import copy
import dataclasses

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.models import ARCHITECTURES, build_model
from MambaSegmentLib.models.drop_path import DropPath
from MambaSegmentLib.models.recomputed import Recomputed
from Testing.library.models.tiny_networks import TINY, Tiny, all_outputs


def a_step(net, x):
    """Outputs and gradients of one training step whose random numbers start from a fixed seed."""
    torch.manual_seed(5)
    outputs = all_outputs(net.train(), x)
    sum((y.float() * torch.randn(y.shape)).sum() for y in outputs).backward()
    return outputs, {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", TINY)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["single", "bfloat16"])
def test_outputs_and_gradients_are_the_same_to_the_bit(case, dtype):
    """Branches are dropped at random in some networks: the second computation must drop the same ones."""
    tiny, steps = TINY[case], []
    for recompute in (False, True):
        net = tiny.build(activation_checkpointing=recompute)
        for module in net.modules():
            if isinstance(module, DropPath):
                module.rate = 0.5
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            steps.append(a_step(net, tiny.image()))
    (outputs, gradients), (others, other_gradients) = steps
    assert all(torch.equal(one, other) for one, other in zip(outputs, others, strict=True))
    assert gradients.keys() == other_gradients.keys()
    assert [name for name in gradients if not torch.equal(gradients[name], other_gradients[name])] == []


@pytest.mark.parametrize("case", TINY)
def test_blocks_are_computed_twice_in_training_and_once_otherwise(case):
    tiny = TINY[case]
    net = tiny.build(activation_checkpointing=True)
    blocks = [module for module in net.modules() if isinstance(module, Recomputed)]
    calls = dict.fromkeys(blocks, 0)
    for block in blocks:
        block.register_forward_pre_hook(lambda module, _: calls.__setitem__(module, calls[module] + 1))
    with torch.inference_mode():
        net.eval()(tiny.image())
    assert set(calls.values()) == {1}
    a_step(net, tiny.image())
    assert set(calls.values()) == {3}


def test_it_is_off_unless_asked_for_and_a_copy_has_its_own():
    net = TINY["mamba_unet"].build()
    assert not any(module.recompute for module in net.modules() if isinstance(module, Recomputed))
    copied = copy.deepcopy(TINY["mamba_unet"].build(activation_checkpointing=True))
    torch.nn.init.zeros_(copied.encoder.stages[0][0].norm.weight)
    _, gradients = a_step(copied, TINY["mamba_unet"].image())
    assert gradients["encoder.stages.0.0.norm.weight"].abs().sum() > 0
    assert set(net.state_dict()) == set(copied.state_dict())


def test_something_else_than_true_or_false_is_refused():
    with pytest.raises(ConfigError, match="activation_checkpointing is 'yes'; expected true or false"):
        build_model("lightm_unet", {"in_channels": 1, "num_classes": 2, "activation_checkpointing": "yes"})


def test_a_network_without_such_blocks_is_refused(monkeypatch):
    """There is none among ours; here a single layer stands for one of somebody else's."""
    plain = dataclasses.replace(ARCHITECTURES["lightm_unet"], model=lambda config: torch.nn.Linear(1, 1))
    monkeypatch.setitem(ARCHITECTURES, "lightm_unet", plain)
    with pytest.raises(ConfigError, match="lightm_unet has no blocks that can be computed again"):
        TINY["lightm_unet_2d"].build(activation_checkpointing=True)


def peak_bytes(net, x):
    """The most memory that a step holds at once beyond weights and gradients."""
    a_step(net, x)
    net.zero_grad(set_to_none=False)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        a_step(net, x)
    now = peak = 0
    events = profiler.profiler.kineto_results.events()
    for event in sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("case", ["lightm_unet", "swin_umamba_d"])
def test_a_step_needs_less_memory(case):
    light = {"spatial_dims": 2, "init_filters": 16, "blocks_down": [1, 2, 2], "blocks_up": [1, 1]}
    dagger = {"dims": [8, 16, 32, 64], "encoder_depths": [2, 2, 4, 2]}
    tiny = Tiny(case, light if case == "lightm_unet" else dagger, (1, 1, 128, 128))
    without, recomputing = (peak_bytes(tiny.build(activation_checkpointing=on), tiny.image()) for on in (False, True))
    assert recomputing < 0.6 * without
