"""What the backward pass computes again instead of keeping.

**Whole blocks**, on request: activation checkpointing, which costs about another forward pass. Source: Chen et al.
2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174.

**Single results that are cheap to make**, on a CPU always: what normalisation and activation make of the output of a
convolution, and two tensors joined. Beside the convolutions around them they cost next to nothing.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint


class Recomputed(nn.Module):
    """A block that keeps its inputs alone while gradients are recorded, if `recompute` is set.

    The second computation sees the same random numbers and the same precision as the first, so that output and
    gradients are those of the block without. It must not change its inputs, nor may what comes after it.
    """

    recompute = False

    def __call__(self, *inputs: Any) -> Any:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(super().__call__, *inputs, use_reentrant=False)
        return super().__call__(*inputs)


def recompute_activations(net: nn.Module) -> int:
    """Switch it on in every block of a network that can; how many there are."""
    blocks = [module for module in net.modules() if isinstance(module, Recomputed)]
    for block in blocks:
        block.recompute = True
    return len(blocks)


def worth_making_again(x: Tensor) -> bool:
    """Whether results that are cheap to compute are made again in the backward pass: in training on a CPU.

    Not under autocast, which ends before the backward pass and would then round otherwise, nor while compiling. A GPU
    is bound by the bandwidth of its memory, so that there it would not be cheap.
    """
    return (
        torch.is_grad_enabled()
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def made_again(result: Tensor, make: Callable[[], Tensor] | None) -> AbstractContextManager[Any]:
    """Within, whoever saves `result` for the backward pass gets it by `make` then; None: `result` itself is kept.

    Args:
        result: must not be changed within but in place by what `make` does too.
        make: computes the very same values, without gradients.
    """
    if make is None:
        return nullcontext()
    recipe, place, shape = _Recipe(make), result.data_ptr(), result.shape

    def keep(tensor: Tensor) -> "Tensor | _Recipe":
        return recipe.ordered() if tensor.data_ptr() == place and tensor.shape == shape else tensor

    return saved_tensors_hooks(keep, lambda kept: kept.made() if isinstance(kept, _Recipe) else kept)


class _Recipe:
    """Makes a tensor for several who want it one after another, once."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self._make, self._orders, self._waiting = make, 0, 0
        self._result: Tensor | None = None

    def ordered(self) -> "_Recipe":
        self._orders += 1
        return self

    def made(self) -> Tensor:
        if self._result is None:
            with torch.no_grad():
                self._result = self._make()
            self._waiting = self._orders
        result, self._waiting = self._result, self._waiting - 1
        if self._waiting == 0:
            self._result = None
        return result
