"""Named tensors and JSON facts in one safetensors file with a checksum: whole or not at all, and without pickle.

The metadata key `mambatrain` holds the facts, `sha256` the SHA-256 over their text and then, in the order of the names,
over name, dtype, shape and bytes of each tensor. Files of versions without a checksum are read as they are.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path

_KEY, _SUM = "mambatrain", "sha256"


class DamagedFileError(ConfigError):
    """A file that is missing, cut short or changed, so that an older one is needed."""


def write_tensors(path: Path, tensors: dict[str, Tensor], facts: Mapping[str, Any], keep: Path | None = None) -> None:
    """Write a file.

    Args:
        tensors: contiguous, on the CPU, and no two in the same memory.
        keep: where the file that is replaced goes. For a moment there is none at `path`; whoever is killed in it finds
            the old one there.
    Raises:
        ConfigError: the place cannot be written. ResourceError: the disk is full.
    """
    text = json.dumps(facts, allow_nan=False)
    metadata = {_KEY: text, _SUM: _checksum(text, tensors)}
    with atomic_path(path, ConfigError) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        if keep is not None and path.exists():
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())  # the new one is on the disk before the old one moves
            os.replace(path, keep)  # noqa: PTH105


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote, checksum compared.

    Raises:
        DamagedFileError: no such file, a damaged one, or one of another origin.
    """
    if not path.is_file():
        raise DamagedFileError(f"{path} does not exist; there is nothing to go on from")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            text = metadata[_KEY]
            facts = json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{path} is damaged or no checkpoint of mambatrain: {error}") from error
    if _SUM in metadata and metadata[_SUM] != _checksum(text, tensors):
        raise DamagedFileError(f"{path} is damaged: its checksum is not that of its content")
    return tensors, facts


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
