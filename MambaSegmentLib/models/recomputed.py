"""Activation checkpointing: blocks whose inner results are computed again in the backward pass instead of kept.

Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""

from typing import Any

import torch
from torch import nn
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
