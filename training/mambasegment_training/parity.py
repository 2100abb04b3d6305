"""Whether a written model computes what the checkpoint computed: logits of whole validation cases, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from MambaSegmentLib.errors import BundleError
from MambaSegmentLib.inference.sliding import SlidingWindow

# In standard deviations of the logits. The same weights give the same bits on a CPU; a GPU adds up in changing order.
LARGEST_DIFFERENCE = 1e-4
# 16 bits hold 11 binary digits, so that each weight is off by up to 1 / 2048; what a sum of many is off by is less than
# a tenth of what augmentation or another seed changes.
LARGEST_RMS_OF_HALF = 2e-2


@dataclass(frozen=True)
class Parity:
    """Two answers to one image.

    Attributes:
        largest, rms: difference of the logits, in standard deviations of the checkpoint's logits.
        same_labels: share of the voxels that get the same label.
    """

    largest: float
    rms: float
    same_labels: float

    def to_json(self) -> dict[str, float]:
        return {
            "largest_logit_difference_sd": self.largest,
            "rms_logit_difference_sd": self.rms,
            "same_labels": self.same_labels,
        }


def compare(
    written: nn.Module,
    checkpoint: nn.Module,
    image: np.ndarray,
    *,
    outputs: int,
    patch_size: Sequence[int],
    step: float,
    device: torch.device,
    overlapping: bool = False,
) -> Parity:
    """Let both networks segment a prepared image (C, K, J, I) in one pass.

    Args:
        outputs: classes, or regions where `overlapping`.
    """
    expected, found = (
        SlidingWindow([network.to(device).eval()], outputs, patch_size, device=device, step=step).scores(image)
        for network in (checkpoint, written)
    )
    difference = (found - expected) / max(float(expected.std()), np.finfo(np.float32).tiny)
    same = (found > 0) == (expected > 0) if overlapping else found.argmax(0) == expected.argmax(0)
    return Parity(float(np.abs(difference).max()), float(np.sqrt(np.mean(difference**2))), float(np.mean(same)))


def check(parities: Mapping[str, Parity], *, half: bool) -> None:
    """Raises BundleError when a fold of the written model is not the network of its checkpoint.

    Args:
        parities: name of each fold -> what was measured.
        half: its weights were stored in 16 bits.
    """
    for name, parity in parities.items():
        value, allowed = (parity.rms, LARGEST_RMS_OF_HALF) if half else (parity.largest, LARGEST_DIFFERENCE)
        if not value <= allowed:  # NaN fits nothing
            advice = "export without --half" if half else "this is a bug of the exporter; please report it"
            raise BundleError(
                f"{name}: the exported model computes other logits than the checkpoint (off by {value:.2g} of their "
                f"standard deviation, {allowed:g} allowed; {parity.same_labels:.2%} of the labels agree), so it is "
                f"not written; {advice}"
            )
