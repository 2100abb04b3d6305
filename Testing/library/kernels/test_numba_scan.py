"""What only the compiled scan has: chunks of the sequence, uninitialised memory, half precision, tiny values."""

import math
import os
import subprocess
import sys
import time

import pytest
import torch

from MambaSegmentLib.kernels import Direction, all_directions, directional_scan, selective_scan
from Testing.library.kernels import test_directions, test_selective_scan

numba_scan = pytest.importorskip("MambaSegmentLib.kernels.numba_scan", reason="needs numba")
scan_inputs, run, assert_same = (getattr(test_selective_scan, n) for n in ("scan_inputs", "run", "assert_same"))


@pytest.fixture
def four_chunks(monkeypatch):
    """As with four threads and few channels, whatever this machine has."""
    monkeypatch.setattr(numba_scan, "count_chunks", lambda blocks, tiles, threads: min(4, tiles))


@pytest.mark.parametrize("decay", [0.01, 16.0], ids=["long memory", "short memory"])
@pytest.mark.parametrize("length", [64, 65, 300, 512])
def test_chunks_give_the_result_of_one_walk(four_chunks, decay, length):
    inputs = scan_inputs(batch=2, channels=20, length=length)
    inputs["A"] = inputs["A"] / 16 * decay  # states that last through all chunks, or not to the end of one
    expected = run(inputs, "reference", torch.float64)
    assert_same(run(inputs, "numba", torch.float32), expected, 2e-5)


def test_chunks_of_several_directions(four_chunks):
    directions = all_directions(2)
    inputs = test_directions.inputs_for(directions, channels=16, spatial=(17, 19))
    actual = test_directions.run(inputs, directions, "numba", torch.float32)
    for key, wanted in test_directions.run(inputs, directions, "reference", torch.float64).items():
        torch.testing.assert_close(actual[key].double(), wanted, rtol=0, atol=1e-5 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize(
    ("blocks", "tiles", "threads", "chunks"),
    [
        (4, 4096, 2, 1),  # channels fill the threads
        (4, 4096, 4, 1),
        (1, 4096, 2, 2),  # half a thread's work saved for a second walk of at most 0.6
        (4, 4096, 16, 4),
        (4, 20, 16, 1),  # too short to cut
        (1, 4096, 1, 1),
    ],
)
def test_the_sequence_is_cut_only_where_channels_leave_threads_idle(blocks, tiles, threads, chunks):
    assert numba_scan.count_chunks(blocks, tiles, threads) == chunks


@pytest.mark.parametrize(
    ("sequences", "blocks", "threads", "together"),
    [(1, 4, 1, 4), (1, 4, 2, 2), (1, 4, 4, 1), (1, 12, 2, 3), (2, 5, 2, 1), (1, 1, 2, 1), (1, 96, 2, 4)],
)
def test_blocks_are_taken_together_as_long_as_no_thread_has_more_to_do(sequences, blocks, threads, together):
    assert numba_scan.count_together(sequences, blocks, threads) == together


@pytest.mark.parametrize("together", [2, 3, 4])
@pytest.mark.parametrize("groups", [1, 2])
def test_blocks_taken_together(monkeypatch, together, groups):
    monkeypatch.setattr(numba_scan, "count_together", lambda *_: together)
    inputs = scan_inputs(batch=2, channels=72 * groups, length=130, groups=groups)  # blocks of 16, 16, 16, 16 and 8
    assert_same(run(inputs, "numba", torch.float32), run(inputs, "reference", torch.float64), 1e-5)


@pytest.mark.parametrize("chunks", [1, 3])
def test_every_element_is_written(monkeypatch, chunks):
    """Memory that PyTorch hands out uninitialised is not a number here."""
    monkeypatch.setattr(numba_scan, "count_chunks", lambda blocks, tiles, threads: min(chunks, tiles))
    inputs = scan_inputs(batch=2, channels=33, length=200)
    expected = run(inputs, "numba", torch.float32)
    empty = torch.empty

    def poisoned(*sizes, **options):
        return empty(*sizes, **options).fill_(math.nan)

    monkeypatch.setattr(numba_scan.torch, "empty", poisoned)
    actual = run(inputs, "numba", torch.float32)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    directions = all_directions(3)
    mapped = test_directions.inputs_for(directions, channels=17)
    for value in test_directions.run(mapped, directions, "numba", torch.float32).values():
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("channels", [16, 20])
def test_half_precision_differs_from_single_by_the_rounding_of_results_alone(dtype, layout, channels):
    """Inputs that half precision holds exactly: the same arithmetic, so each result is the rounded one."""
    inputs = {n: t.to(dtype).double() for n, t in scan_inputs(channels=channels, length=70, layout=layout).items()}
    single, half = run(inputs, "numba", torch.float32), run(inputs, "numba", dtype)
    for name in ("y", "state", "d_A"):
        torch.testing.assert_close(half[name], single[name].to(half[name].dtype), rtol=0.02, atol=0.02, msg=name)
    leaves = {name: tensor.to(dtype) for name, tensor in inputs.items()}
    y = selective_scan(**leaves, delta_softplus=True, backend="numba")
    wanted = selective_scan(**{n: t.float() for n, t in leaves.items()}, delta_softplus=True, backend="numba")
    torch.testing.assert_close(y, wanted.to(dtype), rtol=0, atol=0)


def test_not_a_number_stays_so_in_half_precision():
    for dtype in (torch.float16, torch.bfloat16):
        inputs = {name: tensor.to(dtype) for name, tensor in scan_inputs(channels=16, length=40).items()}
        inputs["u"] = inputs["u"].clone()
        inputs["u"][:, 3, 7] = math.nan
        y = selective_scan(**inputs, delta_softplus=True, backend="numba")
        assert torch.isnan(y[:, 3, 7:]).all()
        assert torch.isfinite(y[:, :3]).all()


def test_values_below_the_smallest_normal_number_do_not_slow_the_scan_down():
    """States that fade to nothing, against states that stay: denormal arithmetic takes tens of times as long."""
    u = torch.zeros(1, 16, 1 << 15)
    u[..., 0] = 1
    rest = {"B": torch.ones(1, 16, 1 << 15), "C": torch.ones(1, 16, 1 << 15), "backend": "numba"}
    fading, staying = (torch.full_like(u, step) for step in (0.01, 0.0))  # 1e-38 after 8700 steps, 1e-45 after 10300
    A = -torch.ones(16, 16)
    seconds = {}
    for name, delta in {"fading": fading, "staying": staying}.items():
        rounds = []
        for _ in range(5):
            begin = time.perf_counter()
            selective_scan(u, delta, A, **rest)
            rounds.append(time.perf_counter() - begin)
        seconds[name] = min(rounds)
    assert seconds["fading"] < 5 * seconds["staying"]


def test_the_treatment_of_denormals_is_put_back():
    tiny = torch.tensor([1e-40])
    u = torch.ones(1, 16, 8)
    selective_scan(u, u, -torch.ones(16, 4), torch.ones(1, 4, 8), torch.ones(1, 4, 8), backend="numba")
    assert (tiny * 0.5).item() > 0


@pytest.mark.parametrize("step", [1e-30, 1e-8, 1e4, 1e30])
def test_huge_and_tiny_steps(step):
    inputs = {name: t for name, t in scan_inputs(channels=16, length=40, states=8).items() if name != "delta_bias"}
    inputs["delta"] = torch.full_like(inputs["delta"], step)
    inputs["u"] = inputs["u"] / max(step, 1.0)  # so that what comes in stays a float32
    expected = selective_scan(**inputs, backend="reference")
    y = selective_scan(**{name: t.float() for name, t in inputs.items()}, backend="numba")
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_more_spatial_axes_than_the_kernels_walk():
    direction = Direction((3, 1, 0, 2))
    u, delta = (torch.rand(1, 2, 2, 3, 2, 2) for _ in range(2))
    B, C = (torch.rand(1, 1, 4, 2, 3, 2, 2) for _ in range(2))
    y, expected = (
        directional_scan(u, delta, -torch.ones(2, 4), B, C, directions=[direction], backend=backend)
        for backend in ("numba", "reference")
    )
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


PORTABLE = """
import numpy as np
from numba import njit
from MambaSegmentLib.kernels.numba_loops import STATES, forward_states, prepare_rows_softplus, sigmoid_rows
from MambaSegmentLib.kernels.numba_simd import LANES, reads_half_precision
assert STATES == 2
assert not reads_half_precision()

@njit
def loops(raw, x, row, total, step, drive, y, gate, a_log2, states, b, c):
    rows, at = raw.shape[0], 4 * LANES
    prepare_rows_softplus(
        raw.ctypes.data, at, x.ctypes.data, at, row.ctypes.data, row.ctypes.data, step.ctypes.data,
        drive.ctypes.data, y.ctypes.data, total.ctypes.data, rows,
    )
    sigmoid_rows(raw.ctypes.data, row.ctypes.data, gate.ctypes.data, rows)
    near = x.ctypes.data
    forward_states(
        step.ctypes.data, drive.ctypes.data, y.ctypes.data, a_log2.ctypes.data, states.ctypes.data, b.ctypes.data, 8,
        c.ctypes.data, 8, at, rows, near, 0, 0, near, 0, 0,
    )

rng = np.random.default_rng(0)
raw, x, b, c = (rng.standard_normal((50, width)).astype(np.float32) for width in (16, 16, 2, 2))
raw[:4] *= 100
step, drive, y, gate = (np.zeros_like(raw) for _ in range(4))
A, states = -rng.random((2, 16)).astype(np.float32) * 30, np.zeros((2, 16), np.float32)
zeros, total = np.zeros((2, 16), np.float32)
loops(raw, x, zeros, total, step, drive, y, gate, A * np.float32(1.4426950408889634), states, b, c)
exact = np.logaddexp(0, raw.astype(float))
np.testing.assert_allclose(step, exact, rtol=1e-5, atol=1e-30)
np.testing.assert_allclose(gate, 1 / (1 + np.exp(-raw.astype(float))), rtol=1e-5, atol=1e-30)
s = np.zeros((2, 16))
for t in range(50):
    s = np.exp(exact[t] * A) * s + exact[t] * x[t] * b[t][:, None]
    np.testing.assert_allclose(y[t], (s * c[t][:, None]).sum(0), rtol=1e-4, atol=1e-4)
"""


@pytest.mark.skipif(sys.platform == "win32" or os.uname().machine != "x86_64", reason="names x86's vector units")
def test_a_processor_without_wide_vectors(tmp_path, repository):
    """The inner loops compiled for a generic x86-64, in a process of its own: another exponential, fewer states."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-c", PORTABLE], check=True, env=environment, cwd=tmp_path)


def test_a_dtype_the_kernels_do_not_read_is_converted(monkeypatch):
    """As float16 is on an old processor."""
    monkeypatch.setattr(numba_scan, "KINDS", {torch.float32: 0})
    inputs = {name: tensor.half() for name, tensor in scan_inputs(channels=16, length=40).items()}
    y = selective_scan(**inputs, delta_softplus=True, backend="numba")
    assert y.dtype == torch.float16
    expected = selective_scan(**{n: t.float() for n, t in inputs.items()}, delta_softplus=True, backend="numba")
    torch.testing.assert_close(y, expected.half(), rtol=0, atol=0)


@pytest.mark.parametrize("megabytes", [0, 1, 9])
def test_large_pages_change_nothing_but_time(megabytes):
    from MambaSegmentLib.kernels.huge_pages import on_huge_pages

    tensor = torch.empty(megabytes << 18)
    assert on_huge_pages(tensor) is tensor
    assert tensor.fill_(1).sum() == megabytes << 18
