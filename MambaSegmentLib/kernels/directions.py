"""The scan of an image or a volume along several directions at once, merged by adding.

Tokens stay where they are on the feature map: a direction is an order of visiting them. A backend that has a function
`directional_scan` walks the map in that order with index arithmetic and adds each direction's result in place; for the
others the directions are composed from `selective_scan`, with a copy of each reordered tensor.

Letters: B batch, D channels, K directions, N states, *spatial the image or volume, L its number of tokens.
Source: cross-scan and cross-merge of Liu et al. 2024, "VMamba", arXiv:2401.10166, section 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..errors import ConfigError, ShapeError
from . import meta_scan
from .arguments import check_tensors
from .dispatch import run_directional
from .operator import somebody_looks


@dataclass(frozen=True)
class Direction:
    """An order of visiting all tokens of a feature map.

    Attributes:
        axes: the spatial axes from the slowest to the fastest: (0, 1) is row by row, (1, 0) column by column.
        reverse: from the last token of that order to the first.
    """

    axes: tuple[int, ...]
    reverse: bool = False

    def tokens(self, image: Tensor) -> Tensor:
        """(..., *spatial) -> (..., L) in the order of visit; a view where the order allows one."""
        first = image.dim() - len(self.axes)
        order = [*range(first), *(first + axis for axis in self.axes)]
        tokens = image.permute(order).flatten(first)
        return tokens.flip(-1) if self.reverse else tokens

    def image(self, tokens: Tensor, spatial: Sequence[int]) -> Tensor:
        """The inverse of `tokens`: (..., L) -> (..., *spatial)."""
        tokens = tokens.flip(-1) if self.reverse else tokens
        first = tokens.dim() - 1
        image = tokens.unflatten(first, [spatial[axis] for axis in self.axes])
        return image.permute([*range(first), *(first + self.axes.index(axis) for axis in range(len(self.axes)))])


def row_major(spatial_dims: int) -> tuple[Direction, ...]:
    """One direction, the order of tokens in memory: what LightM-UNet and U-Mamba scan."""
    return (Direction(tuple(range(spatial_dims))),)


def all_directions(spatial_dims: int) -> tuple[Direction, ...]:
    """Along each axis, then the same from the last token: SS2D's four in 2D (rows, columns, and back), six in 3D.

    The axis that varies fastest is the last, then the first, then the second: (0, 1), (1, 0) in 2D and
    (0, 1, 2), (1, 2, 0), (2, 0, 1) in 3D.
    """
    axes = tuple(range(spatial_dims))
    there = [Direction(axes[first:] + axes[:first]) for first in range(spatial_dims)]
    return (*there, *(replace(direction, reverse=True) for direction in there))


@dataclass(frozen=True)
class DirectionalArguments:
    """What a backend gets: shapes known to fit, any strides, any mix of floating dtypes.

    Attributes:
        u: (B, D, *spatial).
        delta: (B, K D, *spatial), the channels of one direction after those of another.
        A: (K D, N).
        B, C: (B, K, N, *spatial).
        D, delta_bias: (K D,) or None.
        directions: K of them.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    delta_bias: Tensor | None
    delta_softplus: bool
    directions: tuple[Direction, ...]

    def tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors in a fixed order, for autograd functions."""
        return (self.u, self.delta, self.A, self.B, self.C, self.D, self.delta_bias)


def directional_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    *,
    directions: Sequence[Direction],
    backend: str = "auto",
) -> Tensor:
    """The sum over the directions of their scans, each result at the place of its token; differentiable in all tensors.

    Args:
        u: (B, D, *spatial); any strides, here and below: channels-last memory is read in place.
        delta: (B, K D, *spatial): rows k D .. (k + 1) D - 1 belong to direction k, here and below.
        A: (K D, N), real, usually negative.
        B, C: (B, K, N, *spatial).
        D, delta_bias: (K D,).
        delta_softplus: apply softplus to delta (after the bias).
        directions: K orders of visiting the tokens.
        backend: "auto", or a name of `available_backends()`.
    Returns:
        (B, D, *spatial) in the dtype of u.
    Raises:
        ShapeError: shape, dtype or device of an argument does not fit. ConfigError: unknown or unusable backend.
    """
    arguments = DirectionalArguments(u, delta, A, B, C, D, delta_bias, bool(delta_softplus), tuple(directions))
    _check(arguments)
    if u.device.type == "meta":
        return meta_scan.directional_scan(arguments)
    if somebody_looks(u):
        return composed(arguments, backend)  # of operators that PyTorch knows
    return run_directional(backend, arguments, composed)


def composed(arguments: DirectionalArguments, backend: str = "auto") -> Tensor:
    """One `selective_scan` a direction, on reordered copies: right for every backend."""
    from .api import selective_scan  # it imports what this file gives to backends

    a, channels = arguments, arguments.u.shape[1]
    total: Tensor | None = None
    for k, direction in enumerate(a.directions):
        rows = slice(k * channels, (k + 1) * channels)
        y = selective_scan(
            direction.tokens(a.u),
            direction.tokens(a.delta[:, rows]),
            a.A[rows],
            direction.tokens(a.B[:, k]),
            direction.tokens(a.C[:, k]),
            None if a.D is None else a.D[rows],
            delta_bias=None if a.delta_bias is None else a.delta_bias[rows],
            delta_softplus=a.delta_softplus,
            backend=backend,
        )
        assert isinstance(y, Tensor)
        image = direction.image(y, a.u.shape[2:])
        total = image if total is None else total + image
    assert total is not None
    return total


def _check(arguments: DirectionalArguments) -> None:
    """Every shape, dtype and device, and that each direction visits every axis once."""
    u, A, directions = arguments.u, arguments.A, arguments.directions
    if u.dim() < 3:
        raise ShapeError(f"u has shape {tuple(u.shape)}; expected (batch, channels, *spatial)")
    batch, channels, *spatial = u.shape
    axes = set(range(len(spatial)))
    if not directions:
        raise ConfigError("directions is empty; expected at least one Direction")
    for direction in directions:
        if len(direction.axes) != len(axes) or set(direction.axes) != axes:
            raise ConfigError(f"direction {direction.axes} does not visit each of the axes {sorted(axes)} of u once")
    count = len(directions)
    rows = count * channels
    if A.dim() != 2 or A.shape[0] != rows:
        raise ShapeError(f"A has shape {tuple(A.shape)}; expected ({rows}, states): {count} directions of {channels}")
    projected = (batch, count, A.shape[1], *spatial)
    check_tensors(
        {
            "u": (u, tuple(u.shape)),
            "A": (A, tuple(A.shape)),
            "delta": (arguments.delta, (batch, rows, *spatial)),
            "B": (arguments.B, projected),
            "C": (arguments.C, projected),
            "D": (arguments.D, (rows,)),
            "delta_bias": (arguments.delta_bias, (rows,)),
        }
    )
