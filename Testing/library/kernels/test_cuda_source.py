"""The text of the CUDA kernels, run on the CPU thread by thread against the recurrence, and compiled for GPUs by NVRTC.

What this shows is that the kernels compute the right thing in whichever order their threads run. Nothing here has run
on a GPU: the speed, its own exponentials and the launch through the driver are for Testing/benchmarks/gpu.py.
"""

import importlib.util
import re
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from MambaSegmentLib.kernels import all_directions, backends, directional_scan, row_major, selective_scan
from MambaSegmentLib.kernels.arguments import check_arguments
from MambaSegmentLib.kernels.gpu_plan import ChunkPlan
from MambaSegmentLib.models import ss2d
from Testing.library.kernels import cuda_on_cpu, test_directions
from Testing.library.kernels.test_selective_scan import assert_same, run, scan_inputs

NAME = "cuda-on-cpu"
HALF_AND_SINGLE = (torch.float16, torch.bfloat16, torch.float32)

pytestmark = pytest.mark.skipif(cuda_on_cpu.missing() is not None, reason=f"{cuda_on_cpu.missing()}")


@pytest.fixture(autouse=True)
def the_kernels_as_a_backend(monkeypatch):
    row = backends.Backend(cuda_on_cpu.__name__, lambda: (True, "for tests"), ("cpu",), HALF_AND_SINGLE, 64)
    monkeypatch.setitem(backends.BACKENDS, NAME, row)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN: what a kernel forgets to write shows
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def chunks_of(monkeypatch):
    def cut(steps):
        monkeypatch.setattr(
            "MambaSegmentLib.kernels.gpu_passes.plan_chunks",
            lambda batch, channels, groups, length, processors: ChunkPlan(steps, max(1, -(-length // steps))),
        )

    return cut


def compare(inputs, tolerance=2e-6, **options):
    assert_same(
        run(inputs, NAME, torch.float32, **options), run(inputs, "reference", torch.float64, **options), tolerance
    )


@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "strided"])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 63, 65, 130])
def test_matches_the_recurrence_with_gradients(layout, length):
    compare(scan_inputs(batch=2, channels=20, length=length, layout=layout))


@pytest.mark.parametrize("steps", [16, 32, 64])
@pytest.mark.parametrize("length", [33, 150, 300])
def test_chunks_join_without_a_seam(chunks_of, steps, length):
    chunks_of(steps)
    compare(scan_inputs(channels=40, length=length))


@pytest.mark.parametrize(("channels", "groups", "states"), [(48, 3, 16), (6, 2, 5), (1, 1, 1), (33, 1, 8), (32, 32, 4)])
def test_groups_odd_channel_counts_and_numbers_of_states(channels, groups, states):
    compare(scan_inputs(channels=channels, groups=groups, states=states, length=70))


@pytest.mark.parametrize(
    "absent", [("D",), ("z",), ("delta_bias",), ("initial_state",), ("D", "z", "delta_bias", "initial_state")]
)
@pytest.mark.parametrize("softplus", [True, False])
def test_optional_arguments_may_be_absent(chunks_of, absent, softplus):
    chunks_of(32)
    inputs = {name: tensor for name, tensor in scan_inputs(length=50).items() if name not in absent}
    if not softplus:
        for name in inputs.keys() & {"delta", "delta_bias"}:  # negative steps would let the state grow without bound
            inputs[name] = inputs[name].abs() * 0.1
    compare(inputs, softplus=softplus)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_half_precision_keeps_its_state_in_single_precision(dtype, tolerance):
    """Against the recurrence on the same rounded numbers in double precision: only what comes out is rounded."""
    inputs = {name: tensor.to(dtype).double() for name, tensor in scan_inputs(length=150, batch=2).items()}
    actual = run(inputs, NAME, dtype)
    assert actual["y"].dtype == dtype and actual["state"].dtype == torch.float32
    assert_same(actual, run(inputs, "reference", torch.float64), tolerance)


def test_mixed_dtypes_compute_in_single_precision():
    inputs = {name: tensor.float() for name, tensor in scan_inputs().items()}
    mixed = {**inputs, "z": inputs["z"].bfloat16(), "B": inputs["B"].half()}
    same = {name: tensor.double() for name, tensor in mixed.items()}
    y = selective_scan(**mixed, delta_softplus=True, backend=NAME)
    expected = selective_scan(**same, delta_softplus=True, backend="reference")
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("delta_scale", [1, 40])
def test_exponentials_by_polynomial(monkeypatch, delta_scale):
    monkeypatch.setattr(cuda_on_cpu.cuda_source_text, "EXPONENTIALS_ON_FMA", 16)
    inputs = scan_inputs(channels=16, length=66)
    inputs["delta"] = inputs["delta"] * delta_scale
    compare(inputs, 2e-5)


def test_extreme_values_stay_finite_and_right():
    inputs = scan_inputs(channels=16, length=66)
    inputs["delta"] = inputs["delta"] * 40  # softplus from 1e-35 to 100: decays from 1 to 0
    inputs["z"] = inputs["z"] * 60
    compare(inputs, 2e-5)


def test_what_lies_far_apart_is_copied(monkeypatch):
    """Fakes the limit of 2^29 elements, which no tensor here can reach."""
    monkeypatch.setattr("MambaSegmentLib.kernels.gpu_passes._FARTHEST", 8)
    compare(scan_inputs(channels=20, length=33, layout="strided"))


@pytest.mark.parametrize("name", ["u", "delta", "B", "z"])
def test_not_a_number_is_not_hidden(chunks_of, name):
    chunks_of(32)
    inputs = {key: tensor.float().clone() for key, tensor in scan_inputs(channels=16, length=70).items()}
    inputs[name][..., 40] = float("nan")
    y = selective_scan(**inputs, delta_softplus=True, backend=NAME)
    assert torch.isnan(y[..., 40]).all()
    assert torch.isfinite(y[..., :32]).all()


def test_an_empty_sequence_leaves_the_state_as_it_was():
    inputs = {name: tensor.float() for name, tensor in scan_inputs(length=3).items()}
    empty = {n: t[..., :0] if n in ("u", "delta", "B", "C", "z") else t for n, t in inputs.items()}
    results = run(empty, NAME, torch.float32)
    assert results["y"].shape == (1, 16, 0)
    torch.testing.assert_close(results["state"], inputs["initial_state"])
    assert torch.count_nonzero(results["d_A"]) == 0


def test_the_order_of_threads_does_not_matter(chunks_of, monkeypatch):
    """With a barrier missing, threads that take turns from the last one would read what is not written yet."""
    chunks_of(16)
    inputs = scan_inputs(channels=40, length=100, batch=2)
    expected = run(inputs, NAME, torch.float32)
    monkeypatch.setattr(cuda_on_cpu.HostLauncher, "reverse", True)
    actual = run(inputs, NAME, torch.float32)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_the_check_of_thread_order_can_fail(monkeypatch):
    """Fakes a kernel without barriers after its loads."""
    part = cuda_on_cpu.cuda_source_text.part
    monkeypatch.setattr(cuda_on_cpu.cuda_source_text, "part", lambda name: part(name).replace("__syncwarp();", ""))
    monkeypatch.setattr(cuda_on_cpu, "library", cuda_on_cpu.library.__wrapped__)
    inputs = scan_inputs(channels=32, length=40, layout="contiguous", states=7)
    with pytest.raises(AssertionError, match="relative error"):
        compare(inputs)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
@pytest.mark.parametrize("directions", [all_directions(2), all_directions(3), row_major(3)], ids=["four", "six", "one"])
def test_directions_with_gradients(chunks_of, monkeypatch, directions, layout, at_once):
    monkeypatch.setattr("MambaSegmentLib.kernels.gpu_directions.SMALL_MAP_WARPS", 1000 if at_once else 0)
    chunks_of(16)
    inputs = test_directions.inputs_for(directions, channels=33, layout=layout)
    actual = test_directions.run(inputs, directions, NAME, torch.float32)
    assert_same(actual, test_directions.run(inputs, directions, "reference", torch.float64), 1e-5)


def test_the_released_codes_ss2d_is_met(shared, monkeypatch):
    monkeypatch.setattr(ss2d, "directional_scan", partial(directional_scan, backend=NAME))
    with np.load(shared / "reference" / "ss2d" / "golden_ss2d.npz", allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]).float() for key in file}
    layer = ss2d.SS2D(6)
    layer.load_state_dict({key[3:]: value for key, value in arrays.items() if key.startswith("w::")})
    x = arrays["x"].requires_grad_()
    y = layer(x)
    y.backward(arrays["r"])
    gradients = {f"g::{name}": parameter.grad for name, parameter in layer.named_parameters()}
    actual = {"y": y.detach(), "gx": x.grad, **gradients}
    assert_same(actual, {key: arrays[key] for key in actual}, 2e-5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch=st.integers(1, 3), width=st.integers(1, 40), groups=st.integers(1, 3), length=st.integers(1, 120),
    layout=st.sampled_from(["channels_last", "contiguous", "strided"]), chunk=st.sampled_from([16, 48, 4096]),
    spread=st.sampled_from([0.1, 1.0, 10.0]), softplus=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_shape(chunks_of, batch, width, groups, length, layout, chunk, spread, softplus, seed):
    chunks_of(chunk)
    inputs = scan_inputs(batch, width * groups, length, 4, groups, layout, seed)
    inputs["delta"] = (inputs["delta"] * spread) if softplus else inputs["delta"].abs() * spread
    if not softplus:
        inputs["delta_bias"] = inputs["delta_bias"].abs()
    compare(inputs, 2e-5, softplus=softplus)


def test_directions_in_half_precision_are_added_in_single_precision():
    directions = all_directions(2)
    inputs = {n: t.bfloat16().double() for n, t in test_directions.inputs_for(directions, channels=4).items()}
    actual = test_directions.run(inputs, directions, NAME, torch.bfloat16)
    assert_same(actual, test_directions.run(inputs, directions, "reference", torch.float64), 2e-2)


def test_gradients_without_what_forward_keeps(chunks_of):
    """As the operator asks for them."""
    chunks_of(32)
    inputs = {name: tensor.float() for name, tensor in scan_inputs(length=100).items()}
    expected = run(inputs, "reference", torch.float64)
    order = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    arguments = check_arguments(*(inputs[name] for name in order), True, inputs["initial_state"])
    generator = torch.Generator().manual_seed(1)
    dy, d_last = (
        torch.randn(expected[n].shape, dtype=torch.float64, generator=generator).float() for n in ("y", "state")
    )
    found = cuda_on_cpu.gradients(arguments, dy, d_last)
    assert_same({"d_A": found[2], "d_u": found[0]}, {n: expected[n] for n in ("d_A", "d_u")}, 2e-6)


@pytest.mark.parametrize(("architecture", "dtype"), [(80, torch.float32), (90, torch.bfloat16), (120, torch.float16)])
def test_nvrtc_compiles_the_kernels(architecture, dtype, tmp_path, monkeypatch):
    for package in ("cuda.bindings", "nvidia.cu13"):
        try:
            found = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            found = None
        if found is None:
            pytest.skip("cuda-bindings and nvidia-cuda-nvrtc are not installed")
    from MambaSegmentLib.kernels import cuda_driver, cuda_scan, cuda_source_text

    monkeypatch.setenv("MAMBASEGMENT_KERNEL_CACHE", str(tmp_path))
    macros = cuda_scan.macros_of(16, dtype, torch.float32, dtype, on_fma=2)
    for names, kernels in (
        (cuda_source_text.FORWARD, (b"scan_summary", b"scan_finish", b"scan_combine")),
        (cuda_source_text.BACKWARD, (b"scan_back_summary", b"scan_back_finish")),
    ):
        code = cuda_driver.compiled(cuda_source_text.joined(names), architecture, macros)
        assert code.startswith(b"\x7fELF")
        assert all(kernel in code for kernel in kernels)


def test_the_struct_matches_the_text():
    """The struct of cuda_parameters.py has the members of ScanParameters in scan_common.cu, in their order."""
    from MambaSegmentLib.kernels import cuda_parameters, cuda_source_text

    text = cuda_source_text.part("scan_common.cu")
    body = re.search(r"struct ScanParameters \{(.*?)\n\};", text, re.DOTALL).group(1)
    lines = [re.sub(r"//.*", "", line).strip().rstrip(";") for line in body.splitlines()]
    members = [re.sub(r"^(const )?\w+\*? ", "", line) for line in lines if line]
    names = [re.sub(r"\[\w+\]", "", name).strip() for line in members for name in line.split(",")]
    assert names == [field[0] for field in cuda_parameters.ScanParameters._fields_]
