"""How many images of a batch the network sees together, where the mean over the images may be taken in parts.

A GPU needs whole batches to be busy. A CPU is nearly as busy with one patch of usual size, and its memory then holds
the activations of one patch instead of all: of two patches of 40 x 56 x 40 voxels 1.03 instead of 1.34 GB for a
LightM-UNet and 1.3 instead of 1.65 for a residual U-Net, at 0 to 10 % more time (medians of 2 to 4 runs each, which
scatter by more). The gradient is the same up to rounding, unless the loss or a batch normalisation looks at several
images together.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from MambaSegmentLib.errors import ConfigError

from .config import TrainingConfig

_ENOUGH_VOXELS = 1 << 16  # computed together on a CPU; small slices one by one would cost more in calls than they save


def images_at_once(
    config: TrainingConfig, network: nn.Module, loss: nn.Module, patch_size: Sequence[int], device: torch.device
) -> int:
    """At most `data.batch_size`; as configured, or on a CPU as few as keep it busy, where the gradient stays the same.

    Raises:
        ConfigError: parts of a batch are asked for where they would change what is learnt.
    """
    whole, given = config.data.batch_size, config.data.images_at_once
    if given is not None and given >= whole:
        return whole
    together = _what_looks_at_all(network, loss)
    if given is not None:
        if together is not None:
            raise ConfigError(
                f"data.images_at_once is {given} of a batch of {whole}, but {together}; leave it out, or give "
                "data.batch_size and data.accumulate, which says that the parts are batches of their own"
            )
        return given
    if together is not None or device.type != "cpu":
        return whole
    return min(whole, max(1, _ENOUGH_VOXELS // math.prod(patch_size)))


def _what_looks_at_all(network: nn.Module, loss: nn.Module) -> str | None:
    """Why a batch cannot be taken apart, or None."""
    if any(isinstance(module, _BatchNorm) for module in network.modules()):
        return "the network normalises over the images of a batch"
    if not getattr(loss, "adds_up_by_image", False):
        return "this loss is no mean over the images of a batch (loss.batch_dice, or voxels that are ignored)"
    return None
