"""What is timed on a GPU: scans of the sizes that networks of this project have, and images in four directions."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from MambaSegmentLib.kernels import Direction, all_directions, directional_scan, selective_scan

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class ScanCase:
    """A scan with softplus, bias, D and gate."""

    batch: int
    channels: int
    length: int
    dtype: torch.dtype = torch.float32
    states: int = 16

    def inputs(self, device: torch.device, channels_last: bool, seed: int = 0) -> Inputs:
        generator = torch.Generator(device).manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=device).to(self.dtype)

        def sequence(width: int) -> Tensor:
            if channels_last:
                return normal(self.batch, self.length, width).transpose(1, 2)
            return normal(self.batch, width, self.length)

        rates = torch.arange(1.0, self.states + 1, device=device).repeat(self.channels, 1)
        return {
            "u": sequence(self.channels), "delta": 0.5 * sequence(self.channels) - 2, "A": -rates,
            "B": sequence(self.states), "C": sequence(self.states), "D": normal(self.channels).float(),
            "z": sequence(self.channels), "delta_bias": normal(self.channels).float(),
        }  # fmt: skip


@dataclass(frozen=True)
class ImageCase:
    """SS2D's scan: an image in four directions."""

    batch: int
    channels: int
    height: int
    width: int
    dtype: torch.dtype = torch.float32
    states: int = 16

    @property
    def directions(self) -> tuple[Direction, ...]:
        return all_directions(2)

    def inputs(self, device: torch.device, seed: int = 0) -> Inputs:
        """Channels last, as the networks have it."""
        generator = torch.Generator(device).manual_seed(seed)

        def image(*width: int) -> Tensor:
            numbers = torch.randn(self.batch, self.height, self.width, *width, generator=generator, device=device)
            return numbers.to(self.dtype).movedim((1, 2), (-2, -1))

        rows = 4 * self.channels
        return {
            "u": image(self.channels), "delta": 0.5 * image(rows) - 2,
            "A": -torch.arange(1.0, self.states + 1, device=device).repeat(rows, 1),
            "B": image(4, self.states), "C": image(4, self.states), "D": torch.ones(rows, device=device),
            "delta_bias": torch.zeros(rows, device=device),
        }  # fmt: skip


def forward(inputs: Inputs, backend: str) -> Callable[[], Any]:
    def call() -> Any:
        with torch.no_grad():
            return selective_scan(**inputs, delta_softplus=True, backend=backend)

    return call


def forward_backward(inputs: Inputs, backend: str) -> Callable[[], Any]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    upstream = torch.randn_like(leaves["u"])

    def call() -> Any:
        y = selective_scan(**leaves, delta_softplus=True, backend=backend)
        return torch.autograd.grad(y, list(leaves.values()), upstream)

    return call


def image_forward(inputs: Inputs, case: ImageCase, backend: str) -> Callable[[], Any]:
    def call() -> Any:
        with torch.no_grad():
            return directional_scan(**inputs, directions=case.directions, backend=backend)

    return call


def image_forward_backward(inputs: Inputs, case: ImageCase, backend: str) -> Callable[[], Any]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    upstream = torch.randn_like(leaves["u"])

    def call() -> Any:
        y = directional_scan(**leaves, directions=case.directions, backend=backend)
        return torch.autograd.grad(y, list(leaves.values()), upstream)

    return call


class MambaSsm:
    """The extension's two functions, on tensors (B, D, L) that are contiguous along L, as it wants them."""

    def __init__(self, extension: ModuleType) -> None:
        self._extension = extension

    def forward(self, inputs: Inputs) -> Callable[[], Any]:
        u, delta, A, B, C, D, z, bias = self._tensors(inputs)
        return lambda: self._extension.fwd(u, delta, A, B, C, D, z, bias, True)

    def forward_backward(self, inputs: Inputs) -> Callable[[], Any]:
        u, delta, A, B, C, D, z, bias = self._tensors(inputs)
        upstream = torch.randn_like(u)

        def call() -> Any:
            out, kept, *_ = self._extension.fwd(u, delta, A, B, C, D, z, bias, True)
            return self._extension.bwd(u, delta, A, B, C, D, z, bias, upstream, kept, out, None, True, False)

        return call

    def image_forward(self, inputs: Inputs, case: ImageCase) -> Callable[[], Any]:
        """Four copies of the image in one call with four groups, put back and added: as SS2D is usually written."""

        def call() -> Any:
            with torch.no_grad():
                return self._image(inputs, case, self._scan)

        return call

    def image_forward_backward(self, inputs: Inputs, case: ImageCase) -> Callable[[], Any]:
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
        upstream = torch.randn_like(leaves["u"])
        function = _function_of(self._extension)

        def call() -> Any:
            y = self._image(leaves, case, function.apply)
            return torch.autograd.grad(y, list(leaves.values()), upstream)

        return call

    def _scan(self, *tensors: Tensor) -> Tensor:
        u, delta, A, B, C, D, bias = tensors
        return self._extension.fwd(u, delta, A, B, C, D, None, bias, True)[0]

    def _image(self, inputs: Inputs, case: ImageCase, scan: Callable[..., Tensor]) -> Tensor:
        channels, size = case.channels, (case.height, case.width)
        orders = case.directions
        u = torch.cat([order.tokens(inputs["u"]) for order in orders], 1)
        delta = torch.cat(
            [order.tokens(part) for order, part in zip(orders, inputs["delta"].split(channels, 1), strict=True)], 1
        )
        B, C = (torch.stack([o.tokens(inputs[n][:, k]) for k, o in enumerate(orders)], 1) for n in ("B", "C"))
        y = scan(
            u.contiguous(),
            delta.contiguous(),
            inputs["A"],
            B.contiguous(),
            C.contiguous(),
            inputs["D"],
            inputs["delta_bias"],
        )
        parts = [order.image(part, size) for order, part in zip(orders, y.split(channels, 1), strict=True)]
        return parts[0] + parts[1] + parts[2] + parts[3]

    def _tensors(self, inputs: Inputs) -> tuple[Tensor | None, ...]:
        B, C = (inputs[name][:, None].contiguous() for name in ("B", "C"))
        z = inputs.get("z")
        return (
            inputs["u"].contiguous(), inputs["delta"].contiguous(), inputs["A"], B, C, inputs["D"],
            None if z is None else z.contiguous(), inputs["delta_bias"],
        )  # fmt: skip


def _function_of(extension: ModuleType) -> Any:
    """The two functions as one that autograd knows."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor
        ) -> Tensor:
            out, kept = extension.fwd(u, delta, A, B, C, D, None, bias, True)[:2]
            ctx.save_for_backward(u, delta, A, B, C, D, bias, kept)
            return out

        @staticmethod
        def backward(ctx: Any, dy: Tensor) -> Any:
            u, delta, A, B, C, D, bias, kept = ctx.saved_tensors
            found = extension.bwd(u, delta, A, B, C, D, None, bias, dy.contiguous(), kept, None, None, True, False)
            du, d_delta, dA, dB, dC, dD, d_bias = found[:7]
            return du, d_delta, dA, dB.to(B.dtype), dC.to(C.dtype), dD, d_bias

    return Function
