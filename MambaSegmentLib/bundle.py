"""A model is one file: `NAME.safetensors` with weights, description and checksum.

Tensors are named `fold_0/<parameter>`, `fold_1/<parameter>` and so on; parameters that share memory are stored once,
under the first of their names. The metadata key `mambasegment` holds the description (`manifest.py`) as JSON text, with
`sha256`.

The checksum is SHA-256 over
1. the canonical JSON of the description without `sha256`: sorted keys, separators "," and ":" without spaces,
   non-ASCII characters as they are (`ensure_ascii=False`), encoded as UTF-8;
2. then, for each tensor in the order of the names: the canonical JSON of [name, dtype, shape], dtype as safetensors
   writes it ("F32"), followed by the tensor's bytes as in the file (little-endian, row-major).

Nothing is ever unpickled. `read_manifest` and `verify_bundle` need no torch.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BundleError, ConfigError
from .files import atomic_path
from .manifest import SCHEMA_VERSION, Channel, Manifest, canonical_json
from .safetensors_file import Header, read_header

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "SCHEMA_VERSION",
    "Bundle",
    "Channel",
    "Manifest",
    "fold_count",
    "read_bundle",
    "read_manifest",
    "verify_bundle",
    "write_bundle",
]

METADATA_KEY = "mambasegment"
ENDING = ".safetensors"
_FOLD_NUMBERS = {str(number) for number in range(1000)}


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model as it was read: its description and, for each fold, the parameters by name."""

    manifest: Manifest
    folds: "tuple[dict[str, Tensor], ...]"

    def build_networks(self, folds: Sequence[int] | None = None) -> "list[nn.Module]":
        """One network per fold, in evaluation mode.

        Args:
            folds: numbers of those that are wanted; None wants all.
        Raises:
            BundleError: an architecture this version does not know, or weights that do not fit it.
        """
        wanted = range(len(self.folds)) if folds is None else folds
        return [_network(self.manifest, self.folds[number], number) for number in wanted]


def fold_count(path: Path) -> int:
    """How many folds a model file has: quick, as `read_manifest`. Raises: BundleError, as that."""
    return len({_place(name)[0] for name in read_header(path).entries})


def read_manifest(path: Path) -> Manifest:
    """Read the description alone: quick, without torch and without checking the weights.

    Raises:
        BundleError: no file, no bundle, damaged or too new.
    """
    return _manifest(read_header(path))


def verify_bundle(path: Path) -> Manifest:
    """Read the description and compare the checksum with the whole file; needs no torch.

    Raises:
        BundleError: as for `read_manifest`, or the file was changed since it was written.
    """
    header = read_header(path)
    manifest = _manifest(header)
    _check_folds(header)
    document = _document(header)
    stored = document.pop("sha256", None)
    try:
        actual = _checksum(document, header)
    except ConfigError as problem:
        raise BundleError(f"the model {path} cannot be used: {problem}") from problem
    except OSError as problem:
        raise BundleError(f"the model file {path} cannot be read: {problem.strerror or problem}") from problem
    if stored != actual:
        raise BundleError(
            f"the checksum of {path} is wrong (says {stored}, is {actual}): it was changed or damaged; fetch it again"
        )
    return manifest


def read_bundle(path: Path, device: str = "cpu") -> Bundle:
    """Read a model, checksum verified.

    Args:
        device: where the tensors shall be, as torch names it.
    Returns:
        The weights as float32 where they are stored as float16 or bfloat16, else as stored.
    Raises:
        BundleError: as for `verify_bundle`.
    """
    manifest = verify_bundle(path)
    import torch
    from safetensors import SafetensorError, safe_open

    folds: list[dict[str, Tensor]] = []
    try:
        with safe_open(str(path), framework="pt", device=device) as file:
            for name in sorted(file.keys(), key=_place):
                number, parameter = _place(name)
                if number == len(folds):
                    folds.append({})
                tensor = file.get_tensor(name)
                short = tensor.dtype in (torch.float16, torch.bfloat16)
                folds[number][parameter] = tensor.float() if short else tensor
    except (SafetensorError, OSError) as problem:
        raise BundleError(f"the weights in {path} cannot be read: {problem}") from problem
    return Bundle(manifest, tuple(folds))


def write_bundle(
    path: Path, manifest: Manifest, folds: "Sequence[Mapping[str, Tensor]]", *, half: bool = False
) -> Manifest:
    """Write a model; it appears whole or not at all.

    Args:
        path: ends in `.safetensors`; an existing file is replaced.
        folds: state dicts, one per fold, on any device.
        half: store float32 parameters as float16 (half the size); those that float16 cannot hold stay as they are.
    Returns:
        The manifest with its checksum.
    Raises:
        ConfigError: no fold, weights that are not finite, or a description that is no JSON. BundleError: a path
        that cannot be written.
    """
    path = Path(path)
    if path.suffix != ENDING:
        raise BundleError(f"a model is written to {path.name}, but its name must end in {ENDING}")
    if not folds:
        raise ConfigError("a model needs the weights of at least one fold")
    from safetensors.torch import save

    tensors = {
        f"fold_{number}/{name}": _as_stored(f"fold_{number}/{name}", tensor, half)
        for number, fold in enumerate(folds)
        for name, tensor in _distinct(fold).items()
    }
    manifest = replace(manifest, sha256=None)
    document = manifest.to_json()
    canonical_json(document)  # refuses what JSON cannot hold, before anything is written
    with atomic_path(path, error=BundleError) as temporary:
        # The checksum covers the bytes as the file holds them, so they are laid down once to be read back.
        temporary.write_bytes(save(tensors))
        sha256 = _checksum(document, read_header(temporary))
        text = json.dumps({**document, "sha256": sha256}, ensure_ascii=False)
        temporary.write_bytes(save(tensors, metadata={METADATA_KEY: text}))
        verify_bundle(temporary)
    return replace(manifest, sha256=sha256)


def _manifest(header: Header) -> Manifest:
    try:
        return Manifest.from_json(_document(header))
    except BundleError as problem:
        raise BundleError(f"the model {header.path} cannot be used: {problem}") from problem


def _document(header: Header) -> dict[str, Any]:
    text = header.metadata.get(METADATA_KEY)
    if text is None:
        raise BundleError(
            "it is a safetensors file, but none of ours: the description is missing. "
            "Files of other projects come in through `mambasegment models import`"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise BundleError("its description is no JSON, so it is damaged; fetch it again") from problem


def _checksum(document: Mapping[str, Any], header: Header) -> str:
    digest = hashlib.sha256(canonical_json(document))
    for name, entry, pieces in header.blocks():
        digest.update(canonical_json([name, entry.dtype, list(entry.shape)]))
        for piece in pieces:
            digest.update(piece)
    return digest.hexdigest()


def _check_folds(header: Header) -> None:
    numbers = {_place(name)[0] for name in header.entries}
    if not numbers or numbers != set(range(len(numbers))):
        raise BundleError(
            f"the model {header.path} must hold tensors named fold_0/..., fold_1/... without a gap; "
            f"it has {sorted(header.entries)[:3]}. The file is damaged, fetch it again"
        )


def _place(name: str) -> tuple[int, str]:
    """ "fold_3/a.b" -> (3, "a.b"); fold -1 for a name of another form."""
    fold, _, parameter = name.partition("/")
    number = fold.removeprefix("fold_")
    return (int(number), parameter) if number in _FOLD_NUMBERS and parameter else (-1, name)


def _network(manifest: Manifest, weights: "Mapping[str, Tensor]", number: int) -> "nn.Module":
    from .models import build_model

    try:
        network = build_model(manifest.architecture_name, manifest.architecture_options)
    except (ConfigError, TypeError) as problem:
        raise BundleError(f"the model {manifest.name!r} cannot be built: {problem}") from problem
    try:
        network.load_state_dict(_with_shared_names(network, weights), strict=True)
    except RuntimeError as problem:
        details = " ".join(str(problem).split())[:500]
        raise BundleError(
            f"fold {number} of the model {manifest.name!r} does not fit its network: {details}"
        ) from problem
    return network.eval()


def _distinct(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """One name, the first in alphabetical order, for all parameters that are the same piece of memory."""
    seen: dict[tuple[Any, ...], str] = {}
    for name in sorted(state):
        seen.setdefault(_memory(state[name]) if state[name].numel() else (name,), name)
    return {name: state[name] for name in seen.values()}


def _with_shared_names(network: "nn.Module", weights: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Give a parameter that was stored once to all the names it has in the network."""
    complete = dict(weights)
    first: dict[tuple[Any, ...], str] = {}
    own = network.state_dict(keep_vars=True)
    for name in sorted(own):
        original = first.setdefault(_memory(own[name]), name)
        if name not in complete and original in complete and own[name].numel():
            complete[name] = complete[original]
    return complete


def _memory(tensor: "Tensor") -> tuple[Any, ...]:
    return tensor.data_ptr(), str(tensor.device), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _as_stored(name: str, tensor: "Tensor", half: bool) -> "Tensor":
    import torch

    tensor = tensor.detach().to("cpu").contiguous().clone()
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ConfigError(
            f"the weights {name} hold NaN or infinity; the training diverged, so there is no model to store"
        )
    if half and tensor.dtype == torch.float32:
        short = tensor.half()
        return short if bool(torch.isfinite(short).all()) else tensor
    return tensor
