"""The process that opens a foreign file: `python -m MambaSegmentLib.importing.child FILE FOLDER`.

It writes `weights.safetensors` and `facts.json` into the folder, or `problem.json`, and nothing else. Whatever a file
did to it, the program that asked keeps its memory, its data and its answer.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BundleError
from .torch_file import check_torch_file
from .torch_version import require_safe_torch

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, FACTS, PROBLEM = "weights.safetensors", "facts.json", "problem.json"
_CONTAINERS = ("network_weights", "state_dict", "model_state_dict", "model", "net", "network", "weights")
_KEPT = ("trainer_name", "init_args", "current_epoch", "_best_ema", "inference_allowed_mirroring_axes")
_CURVES = ("mean_fg_dice", "ema_fg_dice", "val_losses", "train_losses")
_DEEPEST = 12


def main(source: Path, folder: Path) -> int:
    try:
        mappable = check_torch_file(source)
        require_safe_torch()
        content = _load(source, mappable)
        name, tensors = _weights_in(source, content)
        aliases = _write(tensors, folder / WEIGHTS)
        facts = {"entry": name, "aliases": aliases, **_facts_in(content)}
        (folder / FACTS).write_text(json.dumps(facts, allow_nan=False), encoding="utf-8")
    except BundleError as problem:
        (folder / PROBLEM).write_text(json.dumps(str(problem)), encoding="utf-8")
        return BundleError.exit_code
    return 0


def _load(source: Path, mappable: bool) -> Any:
    """The content, by torch's restricted loader with numpy's scalars on its list."""
    import pickle

    import numpy as np
    import torch

    multiarray = getattr(np, "_core", None) or np.core
    scalar = multiarray.multiarray.scalar
    kinds = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    allowed: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in (*kinds, "float16", "float32", "float64", "S1")),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mappable or None)
    except pickle.UnpicklingError as problem:
        raise BundleError(f"{source} is refused by PyTorch: {_first_line(problem)}") from problem
    except (RuntimeError, ValueError, TypeError, KeyError, EOFError, OSError, AttributeError) as problem:
        raise BundleError(
            f"{source} cannot be read, it is damaged: {_first_line(problem)}; fetch it again"
        ) from problem


def _weights_in(source: Path, content: Any) -> "tuple[str, dict[str, Tensor]]":
    """The state dict, and the entry it was found under ("" for the file as a whole)."""
    from torch import Tensor

    if isinstance(content, Mapping):
        candidates = [("", content)]
        for name in _CONTAINERS:
            if isinstance(content.get(name), Mapping):
                candidates.insert(0 if name == _CONTAINERS[0] else len(candidates), (name, content[name]))
        for name, entry in candidates:
            if entry and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entry.items()):
                return name, dict(entry)
        held = ", ".join(ascii(key) for key in list(content)[:8]) or "nothing"
    else:
        held = f"a {type(content).__name__}"
    raise BundleError(
        f"{source} holds {held}, but no state dict (names and tensors) under any of {', '.join(_CONTAINERS)}; "
        "save the network's state_dict()"
    )


def _write(tensors: "Mapping[str, Tensor]", target: Path) -> dict[str, str]:
    """Each distinct tensor once; returns the further names -> the first one."""
    from safetensors.torch import save_file

    first: dict[Any, str] = {}
    aliases: dict[str, str] = {}
    distinct = {}
    for name, tensor in tensors.items():
        if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
            raise BundleError(f"the tensor {name!a} is sparse, quantised or complex; expected plain numbers")
        place = (tensor.data_ptr(), tensor.storage_offset(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        original = first.setdefault(place, name) if tensor.numel() else name
        if original == name:
            distinct[name] = tensor.detach().contiguous().clone()
        else:
            aliases[name] = original
    save_file(distinct, target)
    return aliases


def _facts_in(content: Mapping[str, Any]) -> dict[str, Any]:
    """What nnU-Net notes beside the weights, as plain JSON."""
    facts = {key: _plain(content[key]) for key in _KEPT if key in content}
    history = content.get("logging")
    if isinstance(history, Mapping):
        for name in _CURVES:
            values = [value for value in _plain(history.get(name)) or [] if isinstance(value, float)]
            if values:
                facts[f"last_{name}"] = values[-1]
    return facts


def _plain(value: Any, depth: int = 0) -> Any:
    """JSON of a value; what JSON has no word for is left out."""
    if hasattr(value, "item") and hasattr(value, "dtype") and getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if depth > _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, depth + 1) for entry in value]
    return None


def _first_line(problem: BaseException) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:300]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
