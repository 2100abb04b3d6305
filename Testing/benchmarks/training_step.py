"""One training step of the shipped model's network on a volume of the size of a hippocampus crop."""

from typing import Any

import torch

from MambaSegmentLib.kernels import backends
from MambaSegmentLib.models import build_model

from .timing import median_seconds

OPTIONS = {"in_channels": 1, "num_classes": 3, "spatial_dims": 3, "init_filters": 16, "blocks_down": [1, 2, 2, 2]}
PATCH = (40, 56, 40)


def run() -> dict[str, Any]:
    """Seconds with the compiled kernels, and once with the chunked scan in plain PyTorch for comparison."""
    step = make_step()
    seconds = median_seconds({"numba": step}, rounds=5)["numba"]
    real = backends._numba_state
    backends._numba_state = lambda: (False, "switched off to compare")  # type: ignore[assignment]
    try:
        chunked = median_seconds({"chunked": step}, rounds=1)["chunked"]
    finally:
        backends._numba_state = real
    return {"network": OPTIONS, "patch": PATCH, "batch": 1, "numba_s": seconds, "chunked_s": chunked}


def make_step() -> Any:
    torch.manual_seed(0)
    net = build_model("lightm_unet", OPTIONS)
    x, labels = torch.randn(1, 1, *PATCH), torch.randint(0, 3, (1, *PATCH))
    optimizer = torch.optim.AdamW(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()

    return step
