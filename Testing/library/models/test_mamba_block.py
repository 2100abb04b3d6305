"""The Mamba block against published numbers, hand-checkable properties, and itself in pieces."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from MambaSegmentLib.models.mamba_block import Mamba
from Testing.formula_weights import formula_state_dict, formula_tensor

CASES = {"a": {"d_model": 24}, "b": {"d_model": 33, "d_state": 8, "d_conv": 3, "expand": 1}}
VECTORS = json.loads((Path(__file__).parents[1] / "data" / "mamba_block.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_golden_vectors_of_the_released_software(case, golden):
    arrays = golden("mamba_block")
    block = Mamba(**CASES[case])
    prefix = f"{case}::w::"
    block.load_state_dict({key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)})
    torch.testing.assert_close(block(arrays[f"{case}::input"]), arrays[f"{case}::y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_small_vectors_of_this_repository(case):
    """Weights and input by formula; float64 outputs kept when the released software's vectors were met."""
    block = Mamba(**CASES[case]).double()
    block.load_state_dict(formula_state_dict({name: tensor.shape for name, tensor in block.state_dict().items()}))
    y = block(formula_tensor(f"input|{case}", (2, 21, CASES[case]["d_model"])))
    expected = torch.tensor(VECTORS[case], dtype=torch.float64)
    torch.testing.assert_close(y[:, ::5, ::7], expected, rtol=1e-10, atol=1e-12)
    single = block.float()(formula_tensor(f"input|{case}", (2, 21, CASES[case]["d_model"])).float())
    torch.testing.assert_close(single[:, ::5, ::7], expected.float(), rtol=1e-4, atol=1e-5)


def test_a_token_sees_only_those_before_it():
    torch.manual_seed(0)
    block, tokens = Mamba(16), torch.randn(1, 40, 16)
    changed = tokens.clone()
    changed[:, 25:] += 1
    before, after = block(tokens), block(changed)
    torch.testing.assert_close(before[:, :25], after[:, :25], rtol=0, atol=0)
    assert (before[:, 25:] != after[:, 25:]).any(dim=2).all()


@pytest.mark.parametrize("cut", [1, 2, 3, 17, 39])
def test_pieces_give_what_the_whole_gives(cut):
    torch.manual_seed(0)
    block, tokens = Mamba(16), torch.randn(2, 40, 16)
    first, state = block.step(tokens[:, :cut], block.start(2, tokens))
    second, _ = block.step(tokens[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), block(tokens), rtol=1e-5, atol=1e-6)


def test_starting_values_let_states_forget_at_many_rates():
    torch.manual_seed(0)
    block = Mamba(64)
    steps = F.softplus(block.dt_proj.bias)
    assert steps.min() >= 1e-3 * 0.999
    assert steps.max() <= 1e-1 * 1.001
    assert steps.log().std() > 0.8  # log-uniform over two decades: 4.6 / sqrt(12) = 1.33
    torch.testing.assert_close(block.A_log.exp(), torch.arange(1.0, 17).repeat(128, 1))


@pytest.mark.parametrize(("d_model", "expected"), [(32, 9_920), (64, 32_640), (128, 116_480), (256, 437_760)])
def test_number_of_parameters(d_model, expected):
    """6 d^2 + 4 d R + 110 d with R = ceil(d / 16)."""
    assert sum(parameter.numel() for parameter in Mamba(d_model).parameters()) == expected
