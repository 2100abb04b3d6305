"""The rule of `auto`, backends that fail or compute wrong things, and what is said about them.

There is no GPU here: its backends are faked as rows of the table that run on the CPU, and every fake says so.
"""

import sys
import types
import warnings

import pytest
import torch

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.kernels import (
    all_directions,
    backends,
    chunked,
    directional_scan,
    numba_scan,
    selective_scan,
    trust,
)
from Testing.library.kernels import test_directions
from Testing.library.kernels.test_selective_scan import assert_same, run, scan_inputs

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def nothing_seen_yet(monkeypatch):
    monkeypatch.delenv(backends.OVERRIDE, raising=False)
    trust.forget()
    yield
    trust.forget()


@pytest.fixture
def installed(monkeypatch):
    """Fakes what is installed and found on the machine."""

    def pretend(*names):
        for name in ("numba", "cuda", "triton", "mamba_ssm"):
            there = name.replace("_", "-") in names
            monkeypatch.setattr(backends, f"_{name}_state", lambda there=there: (there, "faked by a test"))

    return pretend


@pytest.fixture
def a_backend(monkeypatch):
    """Puts a fake backend before all others on the CPU."""

    def add(scan, checked=True, directional=None):
        module = types.ModuleType("a_fake_backend")
        module.scan = scan
        if directional is not None:
            module.directional_scan = directional
        monkeypatch.setitem(sys.modules, "a_fake_backend", module)
        row = backends.Backend("a_fake_backend", lambda: (True, "fake"), ("cpu",), (torch.float32,), None, checked)
        monkeypatch.setattr(backends, "BACKENDS", {"fake": row, **backends.BACKENDS})

    return add


def a_scan(**changes):
    inputs = {name: tensor.float() for name, tensor in scan_inputs(channels=4, length=20, states=3).items()}
    return selective_scan(**{**inputs, **changes}, delta_softplus=True)


@pytest.mark.parametrize(
    ("there", "device", "dtype", "states", "expected"),
    [
        (("numba", "cuda", "triton", "mamba-ssm"), CPU, torch.float32, 16, "numba"),
        ((), CPU, torch.float32, 16, "chunked"),
        (("numba",), CPU, torch.float64, 16, "chunked"),
        (("numba", "cuda", "triton", "mamba-ssm"), GPU, torch.float32, 16, "cuda"),
        (("numba", "triton", "mamba-ssm"), GPU, torch.bfloat16, 16, "triton"),
        (("numba", "mamba-ssm"), GPU, torch.float16, 16, "mamba-ssm"),
        (("numba",), GPU, torch.float32, 16, "chunked"),
        (("cuda", "triton"), GPU, torch.float64, 16, "chunked"),
        (("cuda", "triton"), GPU, torch.float32, 64, "cuda"),
        (("cuda", "triton", "mamba-ssm"), GPU, torch.float32, 65, "chunked"),
        (("cuda", "numba"), torch.device("mps"), torch.float32, 16, "chunked"),
    ],
)
def test_the_rule(installed, there, device, dtype, states, expected):
    installed(*there)
    assert backends.choose_backend(device, dtype, states).name == expected
    assert backends.explain_choice(device, dtype, states).startswith(expected)


def test_the_environment_names_a_backend_for_what_it_can_take(installed, monkeypatch):
    installed("numba", "cuda", "triton")
    monkeypatch.setenv(backends.OVERRIDE, "triton")
    assert backends.choose_backend(GPU, torch.float32).name == "triton"
    assert backends.explain_choice(GPU) == "triton on cuda:0, as MAMBASEGMENT_BACKEND says"
    assert backends.choose_backend(CPU, torch.float32).name == "numba"  # which triton does not run on
    monkeypatch.setenv(backends.OVERRIDE, "fast")
    with pytest.raises(ConfigError, match="MAMBASEGMENT_BACKEND names 'fast'; known: auto, numba"):
        a_scan()


def test_the_explanation_says_what_was_passed_over_and_why(installed):
    installed("triton")
    assert backends.explain_choice(GPU) == "triton on cuda:0 (not cuda: faked by a test)"
    with pytest.warns(trust.BackendWarning):
        trust.give_up("triton", GPU, "no C compiler")
    assert "triton: no C compiler" in backends.explain_choice(GPU)


def test_a_named_backend_that_cannot_take_the_input_is_refused(installed):
    installed("numba", "cuda")
    with pytest.raises(ConfigError, match="'cuda' takes float16, bfloat16, float32 on cuda, at most 64 states"):
        selective_scan(**scan_inputs(), backend="cuda")


@pytest.mark.parametrize("with_gradients", [False, True])
def test_a_backend_that_is_right_is_believed_after_one_look(a_backend, with_gradients):
    calls = []
    a_backend(lambda arguments: calls.append(arguments.u.shape) or numba_scan.scan(arguments))
    u = scan_inputs(channels=4, length=20)["u"].float().requires_grad_(with_gradients)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            a_scan(u=u)
    assert calls == [(2, 35, 150), *[(1, 4, 20)] * 3]


@pytest.mark.parametrize(
    ("scan", "reason"),
    [
        (lambda a: tuple(1.001 * t for t in numba_scan.scan(a)), "its output 0 differs from that of 'chunked' by"),
        (lambda a: tuple(t * float("nan") for t in numba_scan.scan(a)), "differs from that of 'chunked' by nan"),
        (lambda a: 1 / 0, "ZeroDivisionError"),
    ],
    ids=["wrong", "not a number", "raises"],
)
def test_a_backend_that_is_wrong_is_given_up_with_one_warning(a_backend, scan, reason):
    a_backend(scan)
    with pytest.warns(trust.BackendWarning, match=f"'fake' is not used on cpu any more: .*{reason}") as seen:
        results = [a_scan() for _ in range(3)]
    assert len(seen) == 1
    expected = chunked_result()
    for y in results:
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_wrong_gradients_are_found_when_they_are_first_wanted(a_backend):
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    def scan(arguments):
        y, last = chunked.scan(arguments)
        return Doubled.apply(y), last

    a_backend(scan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        a_scan()
    u = scan_inputs(channels=4, length=20)["u"].float().requires_grad_()
    with pytest.warns(trust.BackendWarning, match="its gradient 0 differs"):
        a_scan(u=u)


def test_a_backend_that_fails_later_is_given_up_with_one_warning(a_backend):
    def scan(arguments):
        if arguments.u.shape[2] == 20:
            raise RuntimeError("CUDA says CUDA_ERROR_LAUNCH_FAILED")
        return numba_scan.scan(arguments)

    a_backend(scan)
    with pytest.warns(trust.BackendWarning, match="CUDA_ERROR_LAUNCH_FAILED") as seen:
        results = [a_scan() for _ in range(2)]
    assert len(seen) == 1
    torch.testing.assert_close(results[0], chunked_result(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("full"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        KeyboardInterrupt(),
        ConfigError("wrong"),
    ],
)
def test_what_is_no_fault_of_the_backend_is_passed_on(a_backend, error):
    def scan(arguments):
        raise error

    a_backend(scan, checked=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(type(error)):
            a_scan()
    assert trust.doubt("fake", CPU) is None


def test_what_cannot_be_checked_in_a_captured_graph_is_not_given_up(a_backend, monkeypatch):
    """Fakes that a CUDA graph is being captured."""
    a_backend(numba_scan.scan)
    monkeypatch.setattr(trust, "is_captured", lambda like: True)
    with pytest.warns(trust.BackendWarning, match="call it once before"):
        a_scan()
    assert trust.doubt("fake", CPU) is None


def test_a_named_backend_says_what_fails(a_backend):
    a_backend(lambda arguments: 1 / 0)
    inputs = {name: tensor.float() for name, tensor in scan_inputs().items()}
    with pytest.raises(ZeroDivisionError):
        selective_scan(**inputs, backend="fake")


def test_directions_that_are_wrong_are_composed_instead(a_backend):
    a_backend(numba_scan.scan, directional=lambda arguments: torch.zeros_like(arguments.u))
    directions = all_directions(2)
    inputs = {name: tensor.float() for name, tensor in test_directions.inputs_for(directions).items()}
    with pytest.warns(trust.BackendWarning, match="its output 0 differs"):
        y = directional_scan(**inputs, directions=directions)
    expected = directional_scan(**inputs, directions=directions, backend="chunked")
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_a_failing_backward_pass_is_computed_by_chunked():
    """Fakes a GPU's launcher whose kernels do nothing on the way forward and fail on the way back."""
    from MambaSegmentLib.kernels import gpu_autograd
    from MambaSegmentLib.kernels.arguments import check_arguments

    class Launcher:
        backend = "fake"

        def __init__(self, task, out_dtype):
            pass

        def launch(self, kernel, **buffers):
            if "back" in kernel:
                raise RuntimeError("CUDA says CUDA_ERROR_UNKNOWN")

    inputs = {name: tensor.float() for name, tensor in scan_inputs(channels=4, length=20).items()}
    inputs["u"].requires_grad_()
    initial = inputs.pop("initial_state")
    arguments = check_arguments(*inputs.values(), True, initial)
    y, _ = gpu_autograd.scan_with(Launcher, arguments)
    with pytest.warns(trust.BackendWarning, match="CUDA_ERROR_UNKNOWN"):
        (gradient,) = torch.autograd.grad(y.sum(), inputs["u"])
    expected = chunked.scan(arguments)[0].sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, inputs["u"])[0])


def test_mamba_ssm_gets_what_it_wants(monkeypatch):
    """Fakes the package by the recurrence, which refuses what the package would: strides, and dtypes that differ."""

    def selective_scan_fn(
        u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
    ):
        for tensor in (u, delta, B, C):
            assert tensor.dtype == u.dtype and tensor.stride(-1) == 1
        assert A.dtype == torch.float32 and B.dim() == 4
        arguments = (u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)
        return selective_scan(*arguments, backend="reference")

    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["mamba_ssm.ops.selective_scan_interface"].selective_scan_fn = selective_scan_fn
    monkeypatch.delitem(sys.modules, "MambaSegmentLib.kernels.mamba_ssm_scan", raising=False)
    row = backends.BACKENDS["mamba-ssm"]
    fake = backends.Backend(row.module, lambda: (True, "fake"), ("cpu",), row.dtypes, row.most_states)
    monkeypatch.setitem(backends.BACKENDS, "mamba-ssm", fake)
    for absent in ((), ("initial_state",), ("z", "D")):
        inputs = {n: t for n, t in scan_inputs(channels=6, groups=2, length=20).items() if n not in absent}
        assert_same(run(inputs, "mamba-ssm", torch.float32), run(inputs, "reference", torch.float64), 1e-5)


def chunked_result():
    inputs = {name: tensor.float() for name, tensor in scan_inputs(channels=4, length=20, states=3).items()}
    return selective_scan(**inputs, delta_softplus=True, backend="chunked")
