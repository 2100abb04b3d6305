"""Every backend against the recurrence step by step, values and gradients, on the shapes that break kernels."""

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from MambaSegmentLib.errors import ConfigError, ShapeError
from MambaSegmentLib.kernels import available_backends, choose_backend, selective_scan

FAST = ["chunked", "numba"]
OPTIONAL = ("D", "z", "delta_bias", "initial_state")


def scan_inputs(batch=1, channels=16, length=65, states=16, groups=1, layout="channels_last", seed=0):
    """float64 arguments; B and C are slices of one projection, as a Mamba block has them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def sequence():
        if layout == "channels_last":
            return normal(batch, length, channels).transpose(1, 2)
        if layout == "strided":
            return normal(batch, 2 * channels, 3 * length)[:, ::2, ::3]
        return normal(batch, channels, length)

    projected = normal(batch, groups, length, 3 + 2 * states)
    return {
        "u": sequence(),
        "delta": 0.5 * sequence() - 2,
        "A": -torch.rand(channels, states, dtype=torch.float64, generator=generator) * 16 - 0.1,
        "B": projected[..., 3 : 3 + states].transpose(2, 3),
        "C": projected[..., 3 + states :].transpose(2, 3),
        "D": normal(channels),
        "z": sequence(),
        "delta_bias": normal(channels),
        "initial_state": normal(batch, channels, states),
    }


def run(inputs, backend, dtype, softplus=True):
    """y, the last state and every gradient under fixed random upstream gradients."""
    leaves = {name: tensor.to(dtype).detach().requires_grad_() for name, tensor in inputs.items()}
    y, state = selective_scan(**leaves, delta_softplus=softplus, return_last_state=True, backend=backend)
    generator = torch.Generator().manual_seed(1)  # .sum() would weigh every output alike and hide errors
    upstream = [torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x.dtype) for x in (y, state)]
    gradients = torch.autograd.grad((y, state), list(leaves.values()), upstream)
    return {"y": y, "state": state, **{f"d_{name}": g for name, g in zip(leaves, gradients, strict=True)}}


def assert_same(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name in expected:
        scale = expected[name].abs().max().item() + 1e-30
        error = (actual[name].double() - expected[name].double()).abs().max().item() / scale
        assert error < tolerance, f"{name}: relative error {error:.2e}"


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "strided"])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 130])  # around and off the tile of 64 steps
def test_matches_the_recurrence_with_gradients(backend, layout, length):
    inputs = scan_inputs(batch=2, channels=20, length=length, layout=layout)
    assert_same(run(inputs, backend, torch.float32), run(inputs, "reference", torch.float64), 1e-5)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("channels", "groups", "states"), [(48, 3, 16), (6, 2, 5), (1, 1, 1), (33, 1, 8), (32, 32, 4)])
def test_groups_odd_channel_counts_and_numbers_of_states(backend, channels, groups, states):
    inputs = scan_inputs(channels=channels, groups=groups, states=states, length=70)
    assert_same(run(inputs, backend, torch.float32), run(inputs, "reference", torch.float64), 1e-5)


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 150), st.integers(1, 20), st.integers(1, 3)),
    layout=st.sampled_from(["channels_last", "contiguous", "strided"]),
    absent=st.sets(st.sampled_from(OPTIONAL)),
    softplus=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape(backend, shape, layout, absent, softplus, seed):
    """Drawn at random: a fault that only some combination of sizes, strides and arguments shows."""
    batch, per_group, length, states, groups = shape
    inputs = scan_inputs(batch, groups * per_group, length, states, groups, layout, seed)
    inputs = {name: tensor for name, tensor in inputs.items() if name not in absent}
    if not softplus:
        inputs["delta"] = inputs["delta"].abs() * 0.1
        inputs |= {"delta_bias": inputs["delta_bias"].abs() * 0.1} if "delta_bias" in inputs else {}
    expected = run(inputs, "reference", torch.float64, softplus)
    assert_same(run(inputs, backend, torch.float32, softplus), expected, 5e-5)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("absent", [c for r in (1, 2, 4) for c in itertools.combinations(OPTIONAL, r)])
def test_optional_arguments_may_be_absent(backend, absent):
    inputs = {name: tensor for name, tensor in scan_inputs().items() if name not in absent}
    assert_same(run(inputs, backend, torch.float32), run(inputs, "reference", torch.float64), 1e-5)


@pytest.mark.parametrize("backend", FAST)
def test_without_softplus_delta_enters_as_it_is(backend):
    inputs = scan_inputs()
    inputs["delta"] = inputs["delta"].abs() * 0.1
    inputs["delta_bias"] = inputs["delta_bias"].abs() * 0.1
    expected = run(inputs, "reference", torch.float64, softplus=False)
    assert_same(run(inputs, backend, torch.float32, softplus=False), expected, 1e-5)


def test_chunked_keeps_double_precision():
    inputs = scan_inputs(batch=2, channels=5, length=150, groups=1)
    assert_same(run(inputs, "chunked", torch.float64), run(inputs, "reference", torch.float64), 1e-12)


def test_chunked_crosses_its_spans(monkeypatch):
    from MambaSegmentLib.kernels import chunked

    monkeypatch.setattr(chunked, "LONGEST_SPAN", 7)
    inputs = scan_inputs(channels=4, states=3, length=40)
    assert_same(run(inputs, "chunked", torch.float64), run(inputs, "reference", torch.float64), 1e-12)


def test_hand_made_answer():
    """One channel, one state, A = -ln 2, delta = 1: the state halves at each step and u_t B_t comes in."""
    u = torch.tensor([[[1.0, 0.0, 2.0]]])
    ones = torch.ones(1, 1, 3)
    A = torch.tensor([[-float(np.log(2))]])
    for backend in ("reference", *FAST):
        y, state = selective_scan(u, ones, A, ones, 3 * ones, return_last_state=True, backend=backend)
        torch.testing.assert_close(y, torch.tensor([[[3.0, 1.5, 6.75]]]))  # states 1, 1/2, 2 1/4, read out times 3
        torch.testing.assert_close(state, torch.tensor([[[2.25]]]))


@pytest.mark.parametrize("backend", ["reference", *FAST])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 149), max_size=4))
def test_a_streamed_sequence_gives_the_result_of_one_pass(backend, cuts):
    inputs = {name: tensor.float() for name, tensor in scan_inputs(channels=8, length=150, states=4).items()}
    whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True, backend=backend)
    state, pieces = inputs.pop("initial_state"), []
    for begin, end in itertools.pairwise([0, *sorted(set(cuts) - {0}), 150]):
        piece = {n: t[..., begin:end] if n in ("u", "delta", "B", "C", "z") else t for n, t in inputs.items()}
        y, state = selective_scan(
            **piece, delta_softplus=True, return_last_state=True, initial_state=state, backend=backend
        )
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 2), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", FAST)
def test_constant_B_and_C(backend):
    inputs = scan_inputs(channels=12, length=40, states=4)
    for name in ("B", "C"):
        inputs[name] = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    assert_same(run(inputs, backend, torch.float32), run(inputs, "reference", torch.float64), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", FAST)
def test_half_precision_comes_out_in_its_own_dtype_with_a_float32_state(backend, dtype):
    inputs = {name: tensor.to(dtype) for name, tensor in scan_inputs().items()}
    y, state = selective_scan(**inputs, delta_softplus=True, return_last_state=True, backend=backend)
    expected = selective_scan(**{n: t.double() for n, t in inputs.items()}, delta_softplus=True, backend="reference")
    assert y.dtype == dtype
    assert state.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("backend", FAST)
def test_extreme_values_stay_finite_and_right(backend):
    inputs = scan_inputs(channels=16, length=66)
    inputs["delta"] = inputs["delta"] * 40  # softplus from 1e-35 to 100: decays from 1 to 0
    inputs["z"] = inputs["z"] * 60
    assert_same(run(inputs, backend, torch.float32), run(inputs, "reference", torch.float64), 2e-5)


@pytest.mark.parametrize("backend", ["reference", *FAST])
@pytest.mark.parametrize("name", ["u", "delta", "B", "z"])
def test_not_a_number_is_not_hidden(backend, name):
    inputs = {key: tensor.float().clone() for key, tensor in scan_inputs(channels=16, length=70).items()}
    inputs[name][..., 10] = float("nan")
    y = selective_scan(**inputs, delta_softplus=True, backend=backend)
    assert torch.isnan(y[..., 10]).all()
    assert torch.isfinite(y[..., :10]).all()


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_an_empty_sequence_leaves_the_state_as_it_was(backend):
    inputs = {name: tensor.float() for name, tensor in scan_inputs(length=3).items()}
    empty = {n: t[..., :0] if n in ("u", "delta", "B", "C", "z") else t for n, t in inputs.items()}
    y, state = selective_scan(**empty, delta_softplus=True, return_last_state=True, backend=backend)
    assert y.shape == (1, 16, 0)
    torch.testing.assert_close(state, inputs["initial_state"])


def test_results_do_not_depend_on_the_run_and_threads_may_call_at_once():
    inputs = scan_inputs(batch=2, channels=64, length=300)
    expected = run(inputs, "numba", torch.float32)
    results = []
    threads = [threading.Thread(target=lambda: results.append(run(inputs, "numba", torch.float32))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        assert all(torch.equal(result[name], expected[name]) for name in expected)


def test_channels_last_input_gives_channels_last_output():
    inputs = {name: tensor.float() for name, tensor in scan_inputs().items()}
    assert selective_scan(**inputs, backend="numba").stride(1) == 1


def test_auto_takes_numba_for_single_and_chunked_for_double_precision():
    assert choose_backend(torch.device("cpu"), torch.float32).name == "numba"
    assert choose_backend(torch.device("cpu"), torch.float64).name == "chunked"
    assert choose_backend(torch.device("cuda"), torch.float32).name == "chunked"
    for info in available_backends():
        assert info.available or "cpu" not in info.devices
        assert info.reason


def test_without_numba_auto_steps_back_and_says_why(monkeypatch):
    from MambaSegmentLib.kernels import backends

    monkeypatch.setattr(backends, "_numba_state", lambda: (False, "numba is not installed"))  # fakes a missing package
    assert choose_backend(torch.device("cpu"), torch.float32).name == "chunked"
    inputs = {name: tensor.float() for name, tensor in scan_inputs(length=3).items()}
    with pytest.raises(ConfigError, match="numba is not installed"):
        selective_scan(**inputs, backend="numba")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("delta", lambda t: t[..., 1:], "delta has shape"),
        ("B", lambda t: t[..., 1:], "B has shape"),
        ("C", lambda t: t[:, :, :3], "C has shape"),
        ("A", lambda t: t[1:], "A has shape"),
        ("D", lambda t: t[1:], "D has shape"),
        ("z", lambda t: t[:, 1:], "z has shape"),
        ("initial_state", lambda t: t[..., 1:], "initial_state has shape"),
        ("u", lambda t: t[0], "u has shape"),
        ("A", lambda t: t.to(torch.complex64), "A has dtype torch.complex64"),
        ("delta", lambda t: t.long(), "delta has dtype torch.int64"),
        ("z", lambda t: t.to("meta"), "z is on meta and u on cpu"),
    ],
)
def test_a_wrong_shape_dtype_or_device_is_named(name, change, message):
    inputs = scan_inputs()
    inputs[name] = change(inputs[name])
    with pytest.raises(ShapeError, match=message):
        selective_scan(**inputs)


def test_unusable_arguments_are_refused():
    inputs = scan_inputs()
    with pytest.raises(ConfigError, match="unknown scan backend 'fast'"):
        selective_scan(**inputs, backend="fast")
    with pytest.raises(ConfigError, match="float64"):
        selective_scan(**inputs, backend="numba")


def test_values_are_checked_where_that_is_asked_for(monkeypatch):
    from MambaSegmentLib.kernels import arguments

    inputs = scan_inputs()
    inputs["C"][0, 0, 2, 5] = float("inf")
    selective_scan(**inputs)
    monkeypatch.setattr(arguments, "CHECKS_VALUES", True)  # as MAMBASEGMENT_CHECK_VALUES=1 does at the start
    with pytest.raises(FloatingPointError, match=r"C of the selective scan.* 1 values .*first at \[0, 0, 2, 5\]"):
        selective_scan(**inputs)
