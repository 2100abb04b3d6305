"""Stochastic depth: a residual branch that is left out at random while training."""

from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero the branch for a random part of the samples, scale the others up so that the mean stays.

    Args:
        rate: the probability that a sample loses the branch; outside training nothing is lost.
    Source: Huang et al. 2016, arXiv:1603.09382.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty(branch.shape[0], *[1] * (branch.dim() - 1)).bernoulli_(1 - self.rate)
        return branch * (kept / (1 - self.rate))
