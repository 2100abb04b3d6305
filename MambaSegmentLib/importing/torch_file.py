"""Look at a PyTorch file before torch does: its kind, what its pickle would run, and how large its tensors claim to be.

Standard library alone. Files of `torch.save` are zip archives of uncompressed members, `…/data.pkl` among them, the
data of each storage in a member of its own; before version 1.6, a row of five pickles with all storages behind.
Source: torch/serialization.py.
"""

import math
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ..errors import BundleError
from .pickle_scan import Call, Global, Scan, scan_pickle, shown

_LARGEST_PICKLE_BYTES = 1 << 28
_LARGEST_NAME_COUNT = 1_000_000
_VIEWS_PER_BYTE = 16  # nnU-Net's files name each tensor up to four times
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that old torch.save wrote first
_LEGACY_PICKLES = 5  # that number, a version, the system, the object, the names of the storages
_TEXT_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
    b"<": "a web page, probably an error of the download; fetch the file again",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"\x89HDF": "an HDF5 file of another framework",
}

_ITEM_BYTES = {"Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2, "BFloat16": 2, "Short": 2}
_ITEM_BYTES |= {"Char": 1, "Byte": 1, "Bool": 1}
_STORAGES = {f"torch.{place}{kind}Storage": size for kind, size in _ITEM_BYTES.items() for place in ("", "cuda.")}
_TENSOR = "torch._utils._rebuild_tensor_v2"
_NUMPY_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
ALLOWED = {
    *_STORAGES,
    _TENSOR,
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
    "collections.OrderedDict",
    *_NUMPY_SCALARS,
    "numpy.dtype",
    "_codecs.encode",  # how a scalar's bytes are written
}
_NUMPY_TYPE = re.compile(r"[<>|=]?[biufS?][0-9]{0,2}")


def check_torch_file(path: Path) -> bool:
    """Let a file of `torch.save` through that holds nothing but tensors and plain values.

    Returns:
        Whether it is a zip archive, so that torch can map it.
    Raises:
        BundleError: another kind of file, a damaged one, one that would run code, one whose tensors claim more data
            than it holds.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(512)
        if not start:
            raise BundleError(f"{path} is empty; fetch it again")
        if start.startswith(b"PK\x03\x04"):
            _check_zip(path, size)
            return True
        if start.startswith(b"\x80"):
            _check_legacy(path, stream, size)
            return False
        raise BundleError(f"{path} is {_kind_of(path, start)}")


def _kind_of(path: Path, start: bytes) -> str:
    for mark, kind in _TEXT_STARTS.items():
        if start.lstrip().startswith(mark):
            return kind
    if start[257:262] == b"ustar" or tarfile.is_tarfile(path):
        return (
            "a tar archive, as PyTorch wrote before 2017, or a packed folder. Unpack the folder, or load the file in "
            "its old PyTorch and save it again"
        )
    return "no PyTorch file; expected what torch.save writes, .safetensors, or a results folder of nnU-Net"


def _check_zip(path: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename: entry for entry in archive.infolist()}
            _check_members(path, archive.infolist(), size)
            pickles = [name for name in members if PurePosixPath(name).name == "data.pkl"]
            if any(PurePosixPath(name).name == "constants.pkl" for name in members):
                raise BundleError(
                    f"{path} is a TorchScript program, not weights; save the network's state_dict instead"
                )
            if len(pickles) != 1:
                raise BundleError(f"{path} is a zip archive, but none of torch.save: it has no single data.pkl")
            if members[pickles[0]].file_size > _LARGEST_PICKLE_BYTES:
                raise BundleError(f"{path} describes its tensors in {members[pickles[0]].file_size} bytes: absurd")
            with archive.open(pickles[0]) as stream:
                scan = _scanned(path, stream)  # type: ignore[arg-type]  # reads and knows where it is, as asked
            folder = str(PurePosixPath(pickles[0]).parent / "data")
            _check_calls(path, scan)
            _check_tensors(path, scan, size, lambda key: _member_bytes(members, f"{folder}/{key}"))
    except (zipfile.BadZipFile, EOFError, OSError) as problem:
        raise BundleError(
            f"{path} is a zip archive that is cut off or damaged ({problem}); fetch it again"
        ) from problem


def _check_members(path: Path, entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what an archive of torch.save never has: it would only serve an attack."""
    if len(entries) > _LARGEST_NAME_COUNT or len({entry.filename for entry in entries}) != len(entries):
        raise BundleError(f"{path} has {len(entries)} members, some of the same name; it was tampered with")
    for entry in entries:
        refuse_strange_member(path, entry)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise BundleError(
                f"{path}: its member {entry.filename!r} is compressed ({entry.compress_size} to {entry.file_size} "
                "bytes), which torch.save never does; it may be a decompression bomb and is not unpacked"
            )
    if sum(entry.file_size for entry in entries) > size:
        raise BundleError(f"{path} claims to hold more than its {size} bytes; its members overlap, as in a zip bomb")


def refuse_strange_member(path: Path, entry: zipfile.ZipInfo) -> None:
    """Raises: BundleError, for a member that lies outside the archive's folder, is a link or is encrypted."""
    name = entry.filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or ":" in name or "\0" in name:
        raise BundleError(f"{path}: its member {name!r} would be written outside of the folder it is unpacked to")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BundleError(f"{path}: its member {name!r} is a link or a device, not a file")
    if entry.flag_bits & 1:
        raise BundleError(f"{path}: its member {name!r} is encrypted; unpack it first")


def _check_legacy(path: Path, stream: BinaryIO, size: int) -> None:
    stream.seek(0)
    torchs = stream.read(len(_LEGACY_START)) == _LEGACY_START
    stream.seek(0)
    scan = Scan()
    for _ in range(_LEGACY_PICKLES if torchs else 1):
        scan = _scanned(path, stream, scan)
    _check_calls(path, scan)
    if not torchs:
        raise BundleError(f"{path} is a pickle, but none of torch.save; expected weights that torch.save wrote")
    _check_tensors(path, scan, size, lambda _: None)
    claimed = sum(_storage_bytes(path, key) for key in {entry.key for entry in scan.persistent})
    if claimed > size - stream.tell():
        raise BundleError(f"{path} claims {claimed} bytes of tensors, but holds {size - stream.tell()}; it is cut off")


def _scanned(path: Path, stream: BinaryIO, scan: Scan | None = None) -> Scan:
    try:
        return scan_pickle(stream, scan)
    except BundleError as problem:
        raise BundleError(f"{path} cannot be read: {problem}; fetch it again") from problem


def _check_calls(path: Path, scan: Scan) -> None:
    """Everything that is called, and everything that is merely named, must be on the list."""
    for call in scan.calls:
        name = call.function.name if isinstance(call.function, Global) else None
        if name not in ALLOWED:
            raise BundleError(
                f"{path} is refused: opening it would run {shown(call)}. Weights need no such call; get the file from "
                f"its authors as .safetensors{_advice(name)}"
            )
        _check_numpy_and_codecs(path, name, call)
    for entry in scan.globals:
        if entry.name not in ALLOWED:
            raise BundleError(
                f"{path} is refused: it asks for {shown(entry)}, which weights do not need{_advice(entry.name)}"
            )


def _advice(name: str | None) -> str:
    if name is None or name.split(".")[0] in ("os", "posix", "nt", "subprocess", "builtins", "sys", "socket"):
        return ""
    return (
        f". If it is harmless, load the file in the program that wrote it and save only the weights: "
        f"torch.save(network.state_dict(), …), without {shown(Global(name))}"
    )


def _check_numpy_and_codecs(path: Path, name: str, call: Call) -> None:
    arguments = call.arguments if isinstance(call.arguments, tuple) else ()
    fits = True
    if name == "_codecs.encode":
        fits = len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1")
    elif name == "numpy.dtype":
        fits = bool(arguments) and isinstance(arguments[0], str) and bool(_NUMPY_TYPE.fullmatch(arguments[0]))
    if not fits:
        raise BundleError(f"{path} is refused: opening it would run {shown(call)}, which no number needs")


def _check_tensors(path: Path, scan: Scan, size: int, held_bytes: Callable[[str], int | None]) -> None:
    """Sizes before anything is allocated: no tensor beyond its storage, no storage beyond the file."""
    total = 0
    for call in scan.calls:
        if isinstance(call.function, Global) and call.function.name == _TENSOR:
            total += _checked_tensor(path, call, held_bytes)
    if total > _VIEWS_PER_BYTE * size:
        raise BundleError(f"{path} has {size} bytes, but its tensors claim {total} in all; it is damaged or hostile")


def _checked_tensor(path: Path, call: Call, held_bytes: Callable[[str], int | None]) -> int:
    try:
        storage, offset, shape, strides = call.arguments[:4]
        numbers = (offset, *shape, *strides)
        fits = all(type(number) is int and number >= 0 for number in numbers) and len(shape) == len(strides)
        key, count = storage.key[2], storage.key[4]
        bytes_ = _storage_bytes(path, storage.key)
    except (AttributeError, IndexError, TypeError, ValueError) as problem:
        raise BundleError(f"{path}: a tensor is described as {shown(call)}, which makes no sense") from problem
    held = held_bytes(str(key))
    if held is not None and held != bytes_:
        raise BundleError(f"{path}: the storage {key!a} claims {bytes_} bytes, but {held} are there; it is damaged")
    elements = math.prod(shape) if fits else 0
    reach = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True)) + 1
    if not fits or elements > count or (elements and reach > count):
        raise BundleError(
            f"{path}: a tensor of shape {shown(tuple(shape))} claims more than the {count} numbers of its storage; "
            "the file is damaged or hostile"
        )
    return elements * (bytes_ // count if count else 0)


def _storage_bytes(path: Path, key: Any) -> int:
    """Of what a tensor's storage says about itself: ("storage", type, name, place, count)."""
    if not (isinstance(key, tuple) and len(key) >= 5 and key[0] == "storage" and isinstance(key[1], Global)):
        raise BundleError(f"{path} refers to {shown(key)} outside of itself, which is no tensor's data")
    if key[1].name not in _STORAGES or type(key[4]) is not int or key[4] < 0:
        raise BundleError(f"{path} has a storage {shown(key)} that cannot be read")
    return _STORAGES[key[1].name] * key[4]


def _member_bytes(members: Mapping[str, zipfile.ZipInfo], name: str) -> int:
    return members[name].file_size if name in members else -1
