"""A running average of the weights, which generalises better than the last ones where data is scarce."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a network's parameters; buffers are copied.

    Early on the decay is smaller, min(decay, (1 + n) / (10 + n)) after n updates, so that the random initial weights
    are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        self._averaged = {name for name, _ in network.named_parameters(remove_duplicate=False)}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after an optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, tensor in network.state_dict().items():
            if name in self._averaged and tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1.0 - decay)
            else:
                self.tensors[name].copy_(tensor)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Within, the network has the averaged weights."""
        own: dict[str, Tensor] = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.tensors)
        try:
            yield
        finally:
            network.load_state_dict(own)
