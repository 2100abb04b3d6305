"""Small vectors of every network: weights and input follow from names, a sample of the outputs is in the repository.

They stand in for the authors' vectors where those are not at hand; `write_vectors.py` says how they were made.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MambaSegmentLib.models import build_model, load_published_weights
from Testing.formula_weights import formula_state_dict, formula_tensor

FILE = Path(__file__).parents[1] / "data" / "network_vectors.json"
_SAMPLES = 40


@dataclass(frozen=True)
class Vector:
    """One case.

    Attributes:
        architecture, options: of `build_model`.
        input_shape: (B, C, *spatial).
        published_shapes: the authors' names of the weights and their shapes; None where no published network has these
            options, and the weights follow from our own names.
        outputs: every so many-th number of all logits, in double precision.
    """

    case: str
    architecture: str
    options: dict[str, Any]
    input_shape: tuple[int, ...]
    published_shapes: dict[str, tuple[int, ...]] | None = None
    outputs: tuple[float, ...] = ()

    def network(self) -> nn.Module:
        """In evaluation mode and double precision, with the formula's weights."""
        net = build_model(self.architecture, self.options).double().eval()
        if self.published_shapes is None:
            net.load_state_dict(formula_state_dict({name: tuple(t.shape) for name, t in net.state_dict().items()}))
        else:
            load_published_weights(net, self.published_weights())
        return net

    def published_weights(self) -> dict[str, Tensor]:
        """The formula's weights by the authors' names."""
        assert self.published_shapes is not None
        return formula_state_dict(self.published_shapes)

    def image(self) -> Tensor:
        return formula_tensor(f"input|{self.case}", self.input_shape)

    def sample_of(self, logits: Tensor | list[Tensor]) -> Tensor:
        """What of the logits is kept."""
        flat = torch.cat([y.flatten() for y in (logits if isinstance(logits, list) else [logits])])
        return flat[:: max(1, len(flat) // _SAMPLES)]


def read_vectors() -> dict[str, Vector]:
    """All cases of the repository by name."""
    cases = json.loads(FILE.read_text(encoding="utf-8"))["cases"]
    return {case: _vector(case, facts) for case, facts in cases.items()}


def _vector(case: str, facts: dict[str, Any]) -> Vector:
    shapes = facts.get("published_shapes")
    return Vector(
        case,
        facts["architecture"],
        facts["options"],
        tuple(facts["input_shape"]),
        None if shapes is None else {name: tuple(shape) for name, shape in shapes.items()},
        tuple(facts["outputs"]),
    )


VECTORS = read_vectors()
