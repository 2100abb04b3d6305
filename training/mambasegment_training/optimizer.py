"""The optimiser of a run: which parameters decay, and whether several processes share its moments."""

from typing import Any

import torch
from torch import Tensor, nn

from .config import OptimizerConfig
from .ranks import ALONE, Ranks


def build_optimizer(config: OptimizerConfig, network: nn.Module, ranks: Ranks = ALONE) -> torch.optim.Optimizer:
    """The configured optimiser; scales, biases and other vectors are not decayed, since they do not overfit by size."""
    decayed: list[Tensor] = []
    kept: list[Tensor] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (decayed if config.decay_all or _decays(name, parameter) else kept).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in ((decayed, config.weight_decay), (kept, 0.0))
        if parameters
    ]
    kind, options = _kind(config)
    if config.shard and ranks.size > 1:
        from torch.distributed.optim import ZeroRedundancyOptimizer  # here, since it takes a second to import

        return ZeroRedundancyOptimizer(groups, kind, lr=config.learning_rate, **options)
    return kind(groups, lr=config.learning_rate, **options)


def moments_per_weight(config: OptimizerConfig) -> int:
    """How many numbers the optimiser keeps of each weight once it has made a step; without momentum SGD keeps none."""
    if config.name == "sgd":
        return 1 if config.momentum > 0 else 0
    return 2  # Adam and AdamW: running means of the gradient and of its square


def gathered(optimizer: torch.optim.Optimizer) -> None:
    """Bring the shares of a sharded optimiser to the first process, which saves them; all processes call it."""
    gather = getattr(optimizer, "consolidate_state_dict", None)
    if gather is not None:
        gather(to=0)


def _kind(config: OptimizerConfig) -> tuple[type[Any], dict[str, Any]]:
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD, {"momentum": config.momentum, "nesterov": nesterov}
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[config.name], {"betas": (config.betas[0], config.betas[1]), "eps": config.eps}


def _decays(name: str, parameter: Tensor) -> bool:
    # A_log of a Mamba block is a matrix by shape, but shrinking it towards 0 would change the memory of its states
    return parameter.ndim > 1 and not name.endswith("A_log")
