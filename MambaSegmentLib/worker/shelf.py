"""Models that stay loaded: the most recently used ones that fit into a budget of memory."""

import gc
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BundleError
from ..quality import folds_from_text
from ..safetensors_file import read_header
from .protocol import Options

if TYPE_CHECKING:
    from ..api import Model

DEFAULT_BUDGET_BYTES = 2_000_000_000
_SMALLEST_NUMBER_BYTES = 4  # half precision in the file becomes single precision in memory
_BYTES = {"F64": 8, "I64": 8, "U64": 8}

_Key = tuple[str, int, int, str, float | None, Any, Any, str]
Loader = Callable[[Path, Options], "Model"]


class ModelShelf:
    """Loads models when they are asked for and forgets those that were not used for longest.

    Args:
        budget_bytes: of weights, on all devices together; the model in use is kept even if it alone exceeds this.
    """

    def __init__(self, budget_bytes: int, load: "Loader | None" = None) -> None:
        self._budget_bytes = budget_bytes
        self._load = load or _load
        self._models: dict[_Key, tuple[Model, int]] = {}  # the most recently used last

    def get(self, name: str, options: Options) -> "tuple[Model, bool]":
        """The model, and whether it had to be loaded. A file that changed since counts as another model.

        Raises:
            BundleError: unknown or damaged. ConfigError, ResourceError: no such device, or not enough memory.
        """
        path = _find(name)
        key = _key(path, options)
        if key in self._models:
            self._models[key] = self._models.pop(key)
            return self._models[key][0], False
        self._drop([other for other in self._models if other[0] == key[0] and other[1:3] != key[1:3]])
        size_bytes = weights_bytes(path)
        self._make_room(size_bytes)
        model = self._load(path, options)
        self._models[key] = (model, size_bytes)
        return model, True

    def forget(self, name: str | None = None) -> None:
        """Give the memory of a model back, whatever device it is on, or that of all."""
        path = None if name is None else str(_find(name).resolve())
        self._drop([key for key in self._models if path is None or key[0] == path])

    @property
    def paths(self) -> list[str]:
        """Of the models that are loaded, the most recently used last."""
        return [key[0] for key in self._models]

    def _make_room(self, size_bytes: int) -> None:
        kept_bytes = sum(size for _, size in self._models.values())
        dropped = []
        for key, (_, size) in self._models.items():
            if kept_bytes + size_bytes <= self._budget_bytes:
                break
            kept_bytes -= size
            dropped.append(key)
        self._drop(dropped)

    def _drop(self, keys: list[_Key]) -> None:
        for key in keys:
            del self._models[key]
        if keys:
            gc.collect()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()


def weights_bytes(path: Path) -> int:
    """Memory that the weights of a model file take once they are loaded."""
    entries = read_header(path).entries.values()
    return sum(math.prod(entry.shape) * _BYTES.get(entry.dtype, _SMALLEST_NUMBER_BYTES) for entry in entries)


def _find(name: str) -> Path:
    from ..store import find_model  # not before it is needed: with it comes numpy, and `hello` shall come at once

    return find_model(name)


def _key(path: Path, options: Options) -> _Key:
    from ..devices import choose_device

    try:
        facts = path.stat()
    except OSError as problem:
        raise BundleError(f"the model file {path} cannot be read: {problem.strerror or problem}") from problem
    device = str(choose_device(options.device))
    file = (str(path.resolve()), facts.st_mtime_ns, facts.st_size)
    return *file, device, options.overlap, options.quality, options.folds, options.precision


def _load(path: Path, options: Options) -> "Model":
    from ..api import load_model

    step = None if options.overlap is None else 1 - options.overlap
    (of_model,) = options.of_models(1)
    return load_model(
        path,
        options.device,
        step=step,
        quality=of_model.qualities[0],
        folds=folds_from_text(of_model.folds_of_each[0]),
        precision=options.precision,
    )
