"""Weights that anyone can make again from a tensor's name and shape, so that small files can pin a large network.

seed = CRC-32 of the name; g = NumPy's frozen legacy normal generator with that seed, float64. Then by kind of tensor:
norm scales 1 + 0.1 g; `A_log` and `A_logs` log(1..n) + 0.1 g; `D`, `Ds` and `skip_scale` 1 + 0.1 g; `dt_projs_bias`
-4 + 0.5 g; other vectors 0.1 g; matrices and kernels g / sqrt(fan in), where `x_proj_weight` and `dt_projs_weight`
are stacks of matrices.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def formula_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """A float64 tensor that follows from its name and shape alone."""
    g = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    if last in ("A_log", "A_logs"):
        return torch.from_numpy(np.log(np.arange(1, shape[-1] + 1)) + 0.1 * g)
    if last in ("D", "Ds", "skip_scale") or (last == "weight" and len(shape) == 1):
        return torch.from_numpy(1 + 0.1 * g)
    if last == "dt_projs_bias":
        return torch.from_numpy(-4 + 0.5 * g)
    if len(shape) == 1:
        return torch.from_numpy(0.1 * g)
    fan_in = shape[-1] if last in ("x_proj_weight", "dt_projs_weight") else math.prod(shape[1:])
    return torch.from_numpy(g / math.sqrt(fan_in))


def formula_state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: formula_tensor(name, tuple(shape)) for name, shape in shapes.items()}
