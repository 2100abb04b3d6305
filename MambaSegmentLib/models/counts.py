"""What a network costs at a given input size: parameters, multiply-adds, memory of its activations.

Found by walking a copy of the network through its input on the meta device, where tensors have shapes and no data: the
operators that really run are counted, in seconds and in next to no memory, whatever the size.

Our rule for multiply-adds counts each multiplication together with the addition that may follow it once:

    convolution    output elements x kernel voxels x input channels per group (transposed: input elements instead)
    linear layer   rows x inputs x outputs; the same for every other product of matrices, attention's included
    normalisation  per element 3 (sum, sum of squares, scaling), 4 with learned weights
    scan           per token and channel: 4 N for N states (delta A; delta u times B; decay s + drive; s C),
                   1 for delta u, 1 for the skip D, 1 for a gate

Biases, activations, exponentials, additions of whole maps, pooling and interpolation are not counted: a few operations
per element, where the products have hundreds. The scan's exponentials, one per token, channel and state, are told
apart.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..kernels.meta_scan import CAUSAL_CONV, SCAN
from .memory_trace import MemoryTrace


@dataclass
class Operations:
    """What a forward pass computes, in units from which any counting rule can be put together.

    Attributes:
        convolution, linear: multiply-adds of convolutions, and of all other products of matrices.
        norm_elements, plain_norm_elements: elements that are normalised, with and without learned weights.
        scan_states: batch x channels x tokens x states of all scans, SS2D's four directions each for itself.
        scan_tokens, skipped_scan_tokens, gated_scan_tokens: batch x channels x tokens of all scans, of those with the
            skip D, and of those with a gate inside the scan.
    """

    convolution: int = 0
    linear: int = 0
    norm_elements: int = 0
    plain_norm_elements: int = 0
    scan_states: int = 0
    scan_tokens: int = 0
    skipped_scan_tokens: int = 0
    gated_scan_tokens: int = 0

    @property
    def normalisation(self) -> int:
        """Multiply-adds by our rule, as `scan` and `multiply_adds`."""
        return 4 * self.norm_elements + 3 * self.plain_norm_elements

    @property
    def scan(self) -> int:
        return 4 * self.scan_states + self.scan_tokens + self.skipped_scan_tokens + self.gated_scan_tokens

    @property
    def multiply_adds(self) -> int:
        return self.convolution + self.linear + self.normalisation + self.scan


@dataclass(frozen=True)
class Counts:
    """What a network costs for one input, batch included.

    Attributes:
        parameters: numbers in all weights, those under several names once.
        input_shape: (B, C, *spatial).
        operations: of one forward pass in evaluation.
        inference_memory_bytes, training_memory_bytes: the largest sum of all tensors alive at one moment of a forward
            pass without gradients, and of a forward and backward pass in training; in single precision, the input
            included, without weights and their gradients, and without what an operator needs inside for itself. With
            the compiled scan kernels; the scan in plain PyTorch needs more.
    """

    parameters: int
    input_shape: tuple[int, ...]
    operations: Operations
    inference_memory_bytes: int
    training_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        operations = self.operations
        return {
            "parameters": self.parameters,
            "input_shape": list(self.input_shape),
            "multiply_adds": {
                "total": operations.multiply_adds,
                "convolution": operations.convolution,
                "linear": operations.linear,
                "normalisation": operations.normalisation,
                "scan": operations.scan,
            },
            "scan_exponentials": operations.scan_states,
            "operations": asdict(operations),
            "activation_memory_bytes": {
                "inference": self.inference_memory_bytes,
                "training": self.training_memory_bytes,
            },
        }


def count(network: nn.Module, input_shape: Sequence[int]) -> Counts:
    """Count what `network` costs for an input of this shape; the network itself is not touched.

    Args:
        network: any of this library's, on any device; only the shapes of its weights are looked at.
        input_shape: (B, C, *spatial).
    Raises:
        ShapeError: an input that the network cannot take.
    """
    shadow = without_data(network)
    shape = tuple(input_shape)
    operations, inference = _forward(shadow.eval(), shape)
    return Counts(count_parameters(shadow), shape, operations, inference, _training_memory(shadow.train(), shape))


def count_architecture(name: str, options: Mapping[str, Any], input_shape: Sequence[int]) -> Counts:
    """Count what `build_model(name, options)` would cost, without making its weights.

    Raises:
        ConfigError: as `build_model`. ShapeError: as `count`.
    """
    from . import build_model

    with torch.device("meta"):
        network = build_model(name, options)
    return count(network, input_shape)


def count_parameters(network: nn.Module) -> int:
    """Numbers in all weights; `parameters()` names shared ones once."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_operations(network: nn.Module, input_shape: Sequence[int]) -> Operations:
    """The operations alone, of a network in the state it is in (training or evaluation, deep supervision on or off)."""
    shadow = without_data(network).requires_grad_(False)
    tally = _Tally()
    with torch.enable_grad(), tally:  # then no layer streams its input in slabs: the same operations in fewer calls
        shadow(torch.empty(tuple(input_shape), device="meta"))
    return tally.operations


def count_inference_memory(network: nn.Module, input_shape: Sequence[int]) -> int:
    """`Counts.inference_memory_bytes` alone: layer by layer. LightM-UNet's compiled layers take less on a CPU.

    Raises:
        ShapeError: as `count`.
    """
    trace = MemoryTrace()
    with torch.no_grad(), trace:
        without_hooks(without_data(network)).eval()(torch.empty(tuple(input_shape), device="meta"))
    return trace.peak_bytes


def without_hooks(shadow: nn.Module) -> nn.Module:
    """The same network; whoever watches the original is not called for this copy."""
    for module in shadow.modules():
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    return shadow


def without_data(network: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes but no data."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


def _forward(shadow: nn.Module, shape: tuple[int, ...]) -> tuple[Operations, int]:
    tally, trace = _Tally(), MemoryTrace()
    with torch.no_grad(), trace, tally:
        shadow(torch.empty(shape, device="meta"))
    return tally.operations, trace.peak_bytes


def _training_memory(shadow: nn.Module, shape: tuple[int, ...]) -> int:
    trace = MemoryTrace()
    with torch.enable_grad(), _weight_gradients_dropped(shadow), trace:
        logits = shadow(torch.empty(shape, device="meta"))
        outputs = [output for output in (logits if isinstance(logits, list) else [logits]) if output.requires_grad]
        if outputs:  # else nothing is there to be trained
            torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
    return trace.peak_bytes


@contextmanager
def _weight_gradients_dropped(network: nn.Module) -> Iterator[None]:
    """Gradients of weights have the size of the weights, whatever the input: they are not counted as activations."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    handles = [parameter.register_post_accumulate_grad_hook(drop) for parameter in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Tally(TorchDispatchMode):
    """Adds up what each operator computes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = Operations()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        add = _COUNTED.get(func.overloadpacket)
        if add is not None:
            add(self.operations, args, result)
        return result


def _add_convolution(total: Operations, args: Any, result: Tensor) -> None:
    x, weight, transposed = args[0], args[1], args[6]
    per_element = math.prod(weight.shape[1:])  # of the output, or of the input of a transposed one
    total.convolution += (x if transposed else result).numel() * per_element


def _add_product(total: Operations, args: Any, result: Tensor) -> None:
    left = args[-2]  # addmm and baddbmm have what is added in front
    total.linear += result.numel() * left.shape[-1]


def _add_norm(weight: int) -> Callable[[Operations, Any, Any], None]:
    """For an operator whose argument number `weight` is the learned scale or None."""

    def add(total: Operations, args: Any, result: Any) -> None:
        if args[weight] is None:
            total.plain_norm_elements += args[0].numel()
        else:
            total.norm_elements += args[0].numel()

    return add


def _add_scan(total: Operations, args: Any, result: Tensor) -> None:
    _, A, skip, gate = args  # A has the rows of each direction, one after the other
    tokens = result.numel() // result.shape[1] * A.shape[0]
    total.scan_states += tokens * A.shape[1]
    total.scan_tokens += tokens
    total.skipped_scan_tokens += tokens * skip
    total.gated_scan_tokens += tokens * gate


def _add_causal_convolution(total: Operations, args: Any, result: Tensor) -> None:
    total.convolution += result.numel() * args[1].shape[1]


_aten = torch.ops.aten
_COUNTED: dict[Any, Callable[[Operations, Any, Any], None]] = {
    _aten.convolution: _add_convolution,
    _aten.mm: _add_product,
    _aten.addmm: _add_product,
    _aten.bmm: _add_product,
    _aten.baddbmm: _add_product,
    _aten.native_layer_norm: _add_norm(2),
    _aten.native_group_norm: _add_norm(1),
    _aten.native_batch_norm: _add_norm(1),
    SCAN: _add_scan,
    CAUSAL_CONV: _add_causal_convolution,
}
