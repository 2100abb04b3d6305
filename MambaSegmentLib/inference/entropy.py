"""How unsure an answer is, and how far its members, folds and mirrored copies, disagree.

Entropy of the averaged answer does not tell a voxel of which all members say "half and half" from one that half of them
call liver and half kidney, each of them sure. Their mutual information does: the entropy of the mean probabilities less
the mean of the members' entropies, 0 where all members say the same. Sources: Houlsby et al. 2011 (arXiv:1112.5745) for
the measure; Lakshminarayanan et al. 2017 (arXiv:1612.01474) for networks trained apart as members; Wang et al. 2019
(doi:10.1016/j.neucom.2019.01.103) for copies of the image as members.

It is taken tile by tile and then blended as scores are, so that it takes the memory of one class more, however many
members there are. What is blended is thus the mean of the tiles' figures, not the figure of blended probabilities.
"""

import math

import torch
import torch.nn.functional as F


class Disagreement:
    """Adds up members of one tile after another.

    Args:
        temperature: what scores are divided by before they are taken for probabilities.
        regions: the classes are regions, each a yes or no of its own: the mean of their figures.
    """

    def __init__(self, temperature: float = 1.0, *, regions: bool = False) -> None:
        self._temperature, self._regions = temperature, regions
        self.clear()

    def clear(self) -> None:
        """Begin another tile."""
        self._members = 0
        self._probabilities = self._entropy = torch.zeros(())

    def add(self, logits: torch.Tensor) -> None:
        """A member's scores (B, classes, *patch)."""
        scaled = logits.float() / self._temperature
        probabilities = torch.sigmoid(scaled) if self._regions else torch.softmax(scaled, dim=1)
        entropy = self._entropy_of(probabilities)
        first = self._members == 0
        self._probabilities = probabilities if first else self._probabilities + probabilities
        self._entropy = entropy if first else self._entropy + entropy
        self._members += 1

    def result(self) -> torch.Tensor:
        """(B, 1, *patch), 0 to 1: in units of the largest entropy that there can be."""
        total = self._entropy_of(self._probabilities / self._members)
        return (total - self._entropy / self._members).clamp_(0.0, 1.0)

    def _entropy_of(self, probabilities: torch.Tensor) -> torch.Tensor:
        if not self._regions:
            return -torch.special.xlogy(probabilities, probabilities).sum(dim=1, keepdim=True) / _largest(probabilities)
        no = 1 - probabilities
        nats = -torch.special.xlogy(probabilities, probabilities) - torch.special.xlogy(no, no)
        return nats.mean(dim=1, keepdim=True) / math.log(2)


def class_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Of the softmax over the first axis, over its largest value log(classes): (classes, J, I) -> (J, I), 0 to 1."""
    logs = F.log_softmax(scores, dim=0)
    return (-(logs.exp() * logs).sum(dim=0) / math.log(len(scores))).clamp_(0.0, 1.0)


def region_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Mean over the regions of the entropy of yes and no, in bits: (regions, J, I) -> (J, I), 0 to 1."""
    yes = torch.sigmoid(scores)
    nats = -(yes * F.logsigmoid(scores) + (1 - yes) * F.logsigmoid(-scores))
    return (nats.mean(dim=0) / math.log(2)).clamp_(0.0, 1.0)


def _largest(probabilities: torch.Tensor) -> float:
    return math.log(probabilities.shape[1])
