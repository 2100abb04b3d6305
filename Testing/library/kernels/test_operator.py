"""The scan as an operator: PyTorch's own checks, compilation, fake tensors, and the count of its operations."""

import sys
import types

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from MambaSegmentLib.kernels import all_directions, backends, directional_scan, numba_scan, selective_scan, trust
from MambaSegmentLib.kernels.arguments import check_arguments
from MambaSegmentLib.kernels.gradients import gradients_by_autograd
from MambaSegmentLib.kernels.operator import scan_operator, somebody_looks
from Testing.library.kernels import test_directions
from Testing.library.kernels.test_selective_scan import run, scan_inputs

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def leaves(**sizes):
    inputs = {name: tensor.float() for name, tensor in scan_inputs(channels=6, length=20, states=3, **sizes).items()}
    return {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}


def both(**inputs):
    return selective_scan(**inputs, delta_softplus=True, return_last_state=True)


@pytest.mark.parametrize("backend", ["auto", "chunked"])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("absent", [(), ("D", "z", "initial_state")])
def test_pytorch_accepts_the_operator(backend, layout, absent):
    given = {name: tensor for name, tensor in leaves(layout=layout).items() if name not in absent}
    a = check_arguments(*(given.get(name) for name in NAMES), True, given.get("initial_state"))
    tensors = (a.u, a.delta, a.A, a.B, a.C, a.D, a.z, a.delta_bias, a.initial_state)
    torch.library.opcheck(scan_operator, (*tensors, True, backend))


def test_a_compiled_function_gives_the_same_values_and_gradients():
    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    results = []
    for function in (compiled, both):
        inputs = leaves()
        y, state = function(**inputs)
        results.append((y, state, *torch.autograd.grad(y.square().sum() + state.sum(), list(inputs.values()))))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_fake_tensors_have_the_right_shape_dtype_and_layout():
    with torch._subclasses.FakeTensorMode() as mode:
        y, state = both(**{name: mode.from_tensor(tensor.detach()) for name, tensor in leaves().items()})
    real = both(**leaves())
    for fake, expected in zip((y, state), real, strict=True):
        assert (fake.shape, fake.dtype, fake.stride()) == (expected.shape, expected.dtype, expected.stride())


def test_operations_are_counted():
    with FlopCounterMode(display=False) as counter:
        inputs = leaves()
        y, _ = both(**inputs)
        y.sum().backward()
    assert counter.get_total_flops() == 6 * 20 * 3 * (7 + 21)


def test_a_backends_own_gradients_are_used_once_they_are_checked(monkeypatch):
    """Fakes a backend that is right until it was checked: its kernels are then called without a second forward pass."""
    module, calls = types.ModuleType("a_fake_backend"), []
    module.scan = lambda arguments: calls.append("scan") or numba_scan.scan(arguments)
    module.gradients = lambda *given: calls.append("gradients") or gradients_by_autograd(numba_scan.scan, *given)
    monkeypatch.setitem(sys.modules, "a_fake_backend", module)
    row = backends.Backend("a_fake_backend", lambda: (True, "fake"), ("cpu",), (torch.float32,), None, checked=True)
    monkeypatch.setattr(backends, "BACKENDS", {"fake": row, **backends.BACKENDS})
    monkeypatch.setattr("MambaSegmentLib.kernels.operator.BACKENDS", backends.BACKENDS)
    monkeypatch.setattr("MambaSegmentLib.kernels.api.somebody_looks", lambda u: True)
    trust.forget()
    for expected in (["scan"] * 4, ["scan", "gradients"]):  # two scans and two small ones to check them; then one
        calls.clear()
        inputs = leaves()
        y, state = both(**inputs)
        torch.autograd.grad(y.sum() + state.sum(), list(inputs.values()))
        assert calls == expected
    trust.forget()


def test_directions_are_traced_and_counted_as_single_scans():
    directions = all_directions(2)
    inputs = {name: tensor.float() for name, tensor in test_directions.inputs_for(directions).items()}
    with FlopCounterMode(display=False) as counter:
        directional_scan(**inputs, directions=directions)
    assert counter.get_total_flops() == 4 * inputs["u"].numel() * 3 * 7
    compiled = torch.compile(directional_scan, backend="aot_eager", fullgraph=True)
    expected = directional_scan(**inputs, directions=directions)
    torch.testing.assert_close(compiled(**inputs, directions=directions), expected, rtol=1e-5, atol=1e-5)


def test_an_ordinary_call_does_not_pass_through_the_operator(monkeypatch):
    """Nobody looks, so nobody pays for it."""
    assert not somebody_looks(torch.zeros(1))
    monkeypatch.setattr("MambaSegmentLib.kernels.api.scan_operator", None)
    both(**leaves())


def test_the_operator_agrees_with_an_ordinary_call(monkeypatch):
    inputs = scan_inputs(batch=2, channels=6, length=20, states=3)
    expected = run(inputs, "numba", torch.float32)
    monkeypatch.setattr("MambaSegmentLib.kernels.api.somebody_looks", lambda u: True)
    actual = run(inputs, "numba", torch.float32)
    for name, wanted in expected.items():
        torch.testing.assert_close(actual[name], wanted)
