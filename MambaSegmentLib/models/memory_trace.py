"""How much memory tensors hold at each moment of a computation, on any device, without data as well."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MemoryTrace(TorchDispatchMode):
    """Follows every piece of memory that an operator makes, from there until nothing refers to it any more.

    Views count once, with what they look at. What an operator makes and frees inside itself is not seen, nor is memory
    from before the trace.

    Attributes:
        live_bytes: held now.
        peak_bytes: the most that was held after any operator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = 0
        self._sizes: dict[int, int] = {}  # of storages alive, by their identity

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage(), before)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return result

    def _follow(self, storage: torch.UntypedStorage, known: set[int]) -> None:
        key = id(storage)  # PyTorch keeps the Python object as long as the storage itself lives
        if key in known or key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.live_bytes += storage.nbytes()
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key)
