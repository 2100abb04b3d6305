"""One optimiser step: the batch in parts, the gradients of all processes, and what is no number left out."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from MambaSegmentLib.errors import MambaSegmentError
from MambaSegmentLib.large_blocks import give_free_memory_back

from .checkpoint import TrainingState
from .config import TrainingConfig
from .network import HeldStill
from .ranks import Ranks
from .sampler import Batch

_GIVE_BACK_EVERY_S = 4.0  # a quarter of a second for what is taken anew is a few percent then


class Stepper:
    """Takes the steps of a training.

    Args:
        loss: of logits, or of a list of them with deep supervision, and labels.
        held: the parameters that do not train yet.
        precision: "float32" or "bfloat16".
        at_once: images of a batch that the network sees together, see images_at_once.py; None for all.
    """

    def __init__(
        self,
        state: TrainingState,
        loss: nn.Module,
        held: HeldStill,
        config: TrainingConfig,
        device: torch.device,
        ranks: Ranks,
        *,
        precision: str,
        at_once: int | None = None,
    ) -> None:
        self._state, self._loss, self._held, self._config = state, loss, held, config
        self._device, self._ranks, self._precision = device, ranks, precision
        self._at_once = at_once or config.data.batch_size
        self._synchronised: nn.Module | None = None
        self._forward: nn.Module | Callable[[Tensor], Any] | None = None  # that, compiled if so configured
        self._frozen: bool | None = None
        self._given_back_at = -math.inf
        self._compiles = config.compile
        self._compiler_failures: tuple[type[Exception], ...] = _compiler_failures() if config.compile else ()

    def take(self, batch: Batch, rate: float, say: Callable[[str], None]) -> None:
        """Learn from a batch.

        Args:
            batch: `data.batch_size` x `data.accumulate` samples.
            say: tells the user of a step that was left out.
        Raises:
            MambaSegmentError: too many steps in a row whose loss or gradients are no numbers.
        """
        state = self._state
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.network.train()
        self._hold()
        state.optimizer.zero_grad(set_to_none=True)
        loss = self._ranks.totals([self._backward(batch, say)])[0] / self._ranks.size
        good = bool(torch.isfinite(self._clip())) and math.isfinite(loss)
        if good:
            state.optimizer.step()
            if state.average is not None:
                state.average.update(state.network)
            state.loss_sum += loss
            state.loss_steps += 1
            state.bad_steps = 0
        else:
            state.bad_steps += 1
            state.left_out += 1
        state.step += 1
        state.open_steps += 1
        if not good:
            self._bad_step(loss, say)

    def close(self) -> None:
        """Let go of what synchronises the gradients of several processes, before their group ends. No step after it."""
        self._forward = self._synchronised = None

    def _backward(self, batch: Batch, say: Callable[[str], None]) -> float:
        """Gradients of the mean loss over the parts of the batch, averaged over all processes; that loss here."""
        images, labels = (tensor.to(self._device, non_blocking=True) for tensor in batch)
        parts = [*zip(self._taken_apart(images), self._taken_apart(labels), strict=True)]
        total = 0.0
        for number, (image, label) in enumerate(parts, start=1):
            share = len(image) / len(images)
            if number == len(parts):
                self._give_memory_back()
            with self._alone(number < len(parts)):
                with self._autocast():
                    logits = self._logits(image, say)
                loss = self._loss(logits, label)
                (loss if share == 1 else loss * share).backward()
            total += float(loss.detach()) * share
            del logits, loss  # with all that they keep, before the next part
        return total

    def _give_memory_back(self) -> None:
        """On a CPU, now and then: before the last part the heap has gaps between the gradients of those before it."""
        now = time.monotonic()
        if self._device.type == "cpu" and now - self._given_back_at >= _GIVE_BACK_EVERY_S:
            self._given_back_at = now
            give_free_memory_back()

    def _taken_apart(self, tensor: Tensor) -> list[Tensor]:
        """Of each batch of a step, the images that are computed together."""
        batches = tensor.chunk(self._config.data.accumulate)
        return [part for batch in batches for part in batch.split(self._at_once)]

    def _logits(self, images: Tensor, say: Callable[[str], None]) -> Any:
        """What the network answers. PyTorch compiles at the first call; where it cannot, it goes on uncompiled."""
        assert self._forward is not None
        try:
            return self._forward(images)
        except self._compiler_failures as problem:
            if not self._compiles:
                raise
            assert self._synchronised is not None
            self._compiles, self._forward = False, self._synchronised
            reason = _first_line(getattr(problem, "inner_exception", problem))
            say(
                f"compile is true, but PyTorch cannot compile for {self._device} here ({reason}); going on uncompiled. "
                + _what_compiling_needs(self._device)
            )
        return self._forward(images)

    def _clip(self) -> Tensor:
        """The norm of all gradients, which are then no longer than configured."""
        limit = self._config.optimizer.gradient_clip
        return nn.utils.clip_grad_norm_(self._state.network.parameters(), math.inf if limit is None else limit)

    def _hold(self) -> None:
        """Freeze or free parameters, and wrap the network accordingly."""
        state = self._state
        self._held.at(state.step)
        frozen = state.step < self._held.steps
        if self._forward is not None and frozen == self._frozen:
            return
        self._frozen, forward = frozen, state.network
        if self._ranks.size > 1:
            ids = [self._device] if self._device.type == "cuda" else None
            # heads that only deep supervision uses get no gradient
            forward = DistributedDataParallel(forward, device_ids=ids, find_unused_parameters=True)
        self._synchronised = forward
        self._forward = torch.compile(forward) if self._compiles else forward

    def _alone(self, wanted: bool) -> AbstractContextManager[None]:
        """Within, gradients stay in this process: only the last part of a batch sends them."""
        if wanted and isinstance(self._synchronised, DistributedDataParallel):
            return self._synchronised.no_sync()
        return nullcontext()

    def _autocast(self) -> Any:
        if self._precision == "bfloat16" and self._state.float32_from is None:
            return torch.autocast(self._device.type, torch.bfloat16)
        return nullcontext()

    def _bad_step(self, loss: float, say: Callable[[str], None]) -> None:
        """Say so; after too many in a row go on in float32, or give up."""
        state, limit = self._state, self._config.optimizer.bad_steps
        became = f"the loss became {loss}" if not math.isfinite(loss) else "the gradients became infinite or NaN"
        say(f"step {state.step}: {became}; the step is left out ({state.bad_steps} in a row)")
        if state.bad_steps < limit:
            return
        if self._precision == "bfloat16" and state.float32_from is None:
            state.float32_from, state.bad_steps = state.step, 0
            say(f"{limit} steps in a row were left out; going on in float32 instead of bfloat16")
            return
        raise MambaSegmentError(
            f"{became} at step {state.step}, the {limit}th in a row; lower optimizer.learning_rate, and look "
            "for images with extreme values"
        )


def _compiler_failures() -> tuple[type[Exception], ...]:
    """What torch.compile raises where it cannot compile; errors of the network itself come as they are."""
    from torch._dynamo.exc import BackendCompilerFailed  # seconds to import, and torch has no public name for it

    return (BackendCompilerFailed,)


def _what_compiling_needs(device: torch.device) -> str:
    folder = Path(torch.__file__).parent
    if device.type == "cpu" and " " in str(folder):  # PyTorch 2.13 names its libraries to the linker without quotes
        return f"It cannot link what it compiled while its own folder, {folder}, has a space in its path"
    return "It needs a C++ compiler (g++, clang, or Visual Studio on Windows), on a GPU Triton as well"


def _first_line(problem: Exception) -> str:
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
