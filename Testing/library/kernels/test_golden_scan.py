"""The grouped scan against the numbers of the released VMamba code: values, last state and every gradient."""

import numpy as np
import pytest
import torch

from MambaSegmentLib.kernels import available_backends, selective_scan

ARGUMENTS = ("u", "delta", "A", "B", "C", "D", "delta_bias")


@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("backend", ["reference", "chunked", "numba"])
def test_golden_vectors_of_the_grouped_scan(backend, layout, shared):
    """Four groups of three channels, as one pass over the four directions of an image has them."""
    (info,) = (info for info in available_backends() if info.name == backend)
    if not info.available:
        pytest.skip(info.reason)
    dtype, tolerance = (torch.float64, 1e-11) if torch.float64 in info.dtypes else (torch.float32, 1e-5)
    with np.load(shared / "reference" / "ss2d" / "golden_scan.npz", allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]).to(dtype) for key in file}
    inputs = {name: arrays[name].clone().requires_grad_() for name in ARGUMENTS}
    given = dict(inputs)
    if layout == "channels-last":
        given |= {name: inputs[name].transpose(1, 2).contiguous().transpose(1, 2) for name in ("u", "delta")}
    y, last_state = selective_scan(**given, delta_softplus=True, return_last_state=True, backend=backend)
    y.backward(arrays["r"])
    results = {"y": y.detach(), "last_state": last_state.detach()}
    results |= {f"g_{name}": tensor.grad for name, tensor in inputs.items()}
    for key, actual in results.items():
        expected = arrays[key]
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()), msg=key)
