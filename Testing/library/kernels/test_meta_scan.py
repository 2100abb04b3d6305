"""Tensors without data go through the kernels' public functions as tensors with data do: shapes, layouts, gradients."""

import pytest
import torch
from torch import Tensor

from MambaSegmentLib.errors import ShapeError
from MambaSegmentLib.kernels import all_directions, causal_conv_silu, directional_scan, selective_scan


def both_ways(call, arguments: dict[str, Tensor]):
    """What `call` gives with data and without: outputs and gradients."""
    for device in ("cpu", "meta"):
        tensors = {
            name: torch.empty_strided(tensor.shape, tensor.stride(), device=device).requires_grad_()
            for name, tensor in arguments.items()
        }
        with torch.no_grad():
            for tensor in tensors.values():
                tensor.zero_()
        outputs = call(**tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        gradients = torch.autograd.grad(outputs, tuple(tensors.values()), [torch.zeros_like(y) for y in outputs])
        yield [(tuple(tensor.shape), tensor.dtype) for tensor in (*outputs, *gradients)], outputs[0].stride()


def scan_arguments(layout: str) -> dict[str, Tensor]:
    def sequence(channels: int) -> Tensor:
        return torch.zeros(2, 100, channels).transpose(1, 2) if layout == "last" else torch.zeros(2, channels, 100)

    names = {"u": 6, "delta": 6, "B": 4, "C": 4, "z": 6}
    constants = {"A": torch.zeros(6, 4), "D": torch.zeros(6), "delta_bias": torch.zeros(6)}
    return {**{name: sequence(channels) for name, channels in names.items()}, **constants}


@pytest.mark.parametrize("layout", ["last", "first"])
def test_scan(layout):
    def call(**tensors: Tensor):
        return selective_scan(**tensors, delta_softplus=True, return_last_state=True)

    with_data, without = both_ways(call, scan_arguments(layout))
    assert with_data == without


def test_scan_along_directions():
    arguments = {
        "u": torch.zeros(2, 6, 3, 5),
        "delta": torch.zeros(2, 24, 3, 5),
        "A": torch.zeros(24, 4),
        "B": torch.zeros(2, 4, 4, 3, 5),
        "C": torch.zeros(2, 4, 4, 3, 5),
        "D": torch.zeros(24),
        "delta_bias": torch.zeros(24),
    }

    def call(**tensors: Tensor):
        return directional_scan(**tensors, directions=all_directions(2))

    (with_data, _), (without, _) = both_ways(call, arguments)
    assert with_data == without


def test_convolution():
    arguments = {
        "x": torch.zeros(2, 10, 6).transpose(1, 2),
        "weight": torch.zeros(6, 4),
        "bias": torch.zeros(6),
        "tail": torch.zeros(2, 6, 3),
    }
    with_data, without = both_ways(causal_conv_silu, arguments)
    assert with_data == without


def test_shapes_are_checked_without_data_as_well():
    arguments = {name: tensor.to("meta") for name, tensor in scan_arguments("last").items()}
    with pytest.raises(ShapeError, match="delta"):
        selective_scan(**{**arguments, "delta": arguments["delta"][:, :5]})
