"""torch.compile in a training: the same losses, and what happens where PyTorch finds no compiler."""

import os
import shutil

import pytest
import torch
from mambasegment_training.config import config_from_json
from mambasegment_training.ranks import ALONE
from mambasegment_training.run_parts import build_parts

from .conftest import TINY

# a convolution and a scan; Adam, which divides by gradients, would enlarge rounding
NETWORK = {"name": "umamba_bot", "options": {"features_per_stage": [4, 8], "kernel_sizes": 3, "strides": [1, 2]}}
OPTIMIZER = {"name": "sgd", "learning_rate": 1e-2, "momentum": 0.9}


def two_losses(prepared, said: list[str], **changes) -> list[float]:
    config = config_from_json(TINY | {"network": NETWORK, "optimizer": OPTIMIZER, "ema_decay": None} | changes)
    parts = build_parts(prepared, config, "cpu", ALONE)
    losses = []
    for step in range(2):
        before = parts.state.loss_sum
        parts.stepper.take(parts.sampler.batch(step), 1e-2, said.append)
        losses.append(parts.state.loss_sum - before)
    return losses


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="PyTorch compiles with a C++ compiler")
@pytest.mark.skipif(" " in torch.__file__, reason="PyTorch cannot link from a folder with a space in its path")
def test_a_compiled_training_has_the_losses_of_one_that_is_not(prepared):
    said: list[str] = []
    expected = two_losses(prepared, said)
    assert expected[0] != expected[1]
    assert two_losses(prepared, said, compile=True) == pytest.approx(expected, rel=1e-4)
    assert said == []


def raising(monkeypatch, problem: Exception) -> None:
    """torch.compile that is found wanting when the network is first called, as PyTorch's is."""

    def compiled(_network):
        def forward(_images):
            raise problem

        return forward

    monkeypatch.setattr(torch, "compile", compiled)


def test_the_space_in_its_path_that_pytorch_stumbles_over_is_named(prepared, monkeypatch, tmp_path):
    from torch._dynamo.exc import BackendCompilerFailed

    raising(monkeypatch, BackendCompilerFailed(print, RuntimeError("C++ compile error"), None))
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "my programs" / "torch" / "__init__.py"))
    said: list[str] = []
    two_losses(prepared, said, compile=True)
    assert f"while its own folder, {tmp_path / 'my programs' / 'torch'}, has a space in its path" in said[0]


def test_without_a_compiler_it_says_so_once_and_goes_on(prepared, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    raising(monkeypatch, BackendCompilerFailed(print, RuntimeError("no working C++ compiler"), None))
    said: list[str] = []
    assert two_losses(prepared, said, compile=True) == two_losses(prepared, [])
    (message,) = said
    assert "no working C++ compiler" in message
    assert "going on uncompiled" in message


def test_errors_of_the_network_are_not_taken_for_the_compilers(prepared, monkeypatch):
    raising(monkeypatch, RuntimeError("out of luck"))
    with pytest.raises(RuntimeError, match="out of luck"):
        two_losses(prepared, [], compile=True)
