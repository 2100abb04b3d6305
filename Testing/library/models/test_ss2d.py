"""SS2D against the released code's numbers with all gradients, and properties that can be seen by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from MambaSegmentLib.models import ss2d
from MambaSegmentLib.models.ss2d import SS2D
from Testing.formula_weights import formula_state_dict, formula_tensor

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "ss2d.json").read_text())


def load(shared):
    with np.load(shared / "reference" / "ss2d" / "golden_ss2d.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.mark.parametrize("backend", ["reference", "chunked", "numba"])
def test_golden_vectors_and_gradients_of_the_released_code(backend, shared, monkeypatch):
    arrays, scan = load(shared), ss2d.directional_scan
    dtype, tolerance = (torch.float32, 2e-5) if backend == "numba" else (torch.float64, 1e-11)
    monkeypatch.setattr(ss2d, "directional_scan", lambda *a, **k: scan(*a, **k, backend=backend))
    layer = SS2D(6).to(dtype)
    layer.load_state_dict({key[3:]: value for key, value in arrays.items() if key.startswith("w::")})
    x = arrays["x"].to(dtype).requires_grad_()
    y = layer(x)
    y.backward(arrays["r"].to(dtype))
    gradients = {f"g::{name}": parameter.grad for name, parameter in layer.named_parameters()}
    for key, actual in {"y": y.detach(), "gx": x.grad, **gradients}.items():
        expected = arrays[key].to(dtype)
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.abs().max()), msg=key)


def test_small_vectors_of_this_repository():
    """Weights and input by formula; float64 outputs kept when the released code's vectors were met."""
    layer = SS2D(6, d_state=4).double()
    layer.load_state_dict(formula_state_dict({name: tensor.shape for name, tensor in layer.state_dict().items()}))
    x = formula_tensor("input|ss2d", (2, 3, 5, 6))
    expected = torch.tensor(VECTORS, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[:, :, ::2, ::3], expected, rtol=1e-10, atol=1e-12)
    single = layer.float()(x.float())[:, :, ::2, ::3]
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("direction", "reached"),
    [
        (0, [[0, 0, 0], [0, 1, 1]]),  # rows, from the token at (1, 1) on
        (1, [[0, 0, 1], [0, 1, 1]]),  # columns
        (2, [[1, 1, 1], [1, 1, 0]]),  # rows backwards
        (3, [[1, 1, 0], [1, 1, 0]]),  # columns backwards
    ],
)
def test_each_direction_reaches_the_tokens_behind_it(direction, reached, monkeypatch):
    torch.manual_seed(0)
    layer, u = SS2D(4).double(), torch.randn(1, 2, 3, 8, dtype=torch.float64)
    scan, chosen = ss2d.directional_scan, torch.zeros(4, 1, 1, 1, dtype=torch.float64)
    chosen[direction] = 1  # the others read nothing out of their states

    def of_one_direction(u, delta, A, B, C, *others, **named):
        return scan(u, delta, A, B, C * chosen, *others, **named)

    monkeypatch.setattr(ss2d, "directional_scan", of_one_direction)
    changed = u.clone()
    changed[0, 1, 1] += 1
    differs = (layer.scan(u) != layer.scan(changed)).any(dim=-1)[0]
    assert differs.int().tolist() == reached


def test_a_transposed_image_swaps_the_directions():
    torch.manual_seed(0)
    layer, u = SS2D(4).double(), torch.randn(2, 3, 5, 8, dtype=torch.float64)
    expected = layer.scan(u)
    swapped = [1, 0, 3, 2]
    with torch.no_grad():
        for name in ("x_proj_weight", "dt_projs_weight", "dt_projs_bias"):
            parameter = getattr(layer, name)
            parameter.copy_(parameter[swapped])
    torch.testing.assert_close(layer.scan(u.transpose(1, 2)).transpose(1, 2), expected)


def test_starting_values():
    torch.manual_seed(0)
    layer = SS2D(96)
    steps = F.softplus(layer.dt_projs_bias)
    assert steps.min() >= 1e-3 * 0.999
    assert steps.max() <= 1e-1 * 1.001
    torch.testing.assert_close(layer.A_logs.exp(), torch.arange(1.0, 17).repeat(4 * 192, 1))
    assert (layer.Ds == 1).all()
    for weight, bound in ((layer.x_proj_weight, 192**-0.5), (layer.dt_projs_weight, 6**-0.5)):
        assert bound * 0.95 < weight.abs().max() <= bound
    assert layer.x_proj_weight.shape == (4, 6 + 2 * 16, 192)
