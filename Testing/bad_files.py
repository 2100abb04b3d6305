"""Files that are damaged, lie about themselves or are rare, made from small good ones. No torch here.

Every image is 6 × 5 × 4 voxels (I, J, K) of 1 × 1.5 × 2 mm unless it says otherwise.
"""

import gzip
import json
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SIZE_KJI = (4, 5, 6)
SPACING_MM = (1.0, 1.5, 2.0)
_PLACES = {
    "dim": ("<8h", 40), "type": ("<2h", 70), "pixdim": ("<4f", 76), "scale": ("<2f", 112),
    "codes": ("<2h", 252), "sform": ("<12f", 280),
}  # fmt: skip


def values(dtype: Any = np.int16) -> np.ndarray:
    """1, 2, 3, ... so that nothing is zero or alike."""
    return np.arange(1, 121).reshape(SIZE_KJI).astype(dtype)


def write(path: Path, array: np.ndarray | None = None, **geometry: Sequence[float]) -> Path:
    """An image file of this array; `spacing`, `origin` and `direction` as SimpleITK takes them."""
    image = sitk.GetImageFromArray(values() if array is None else array)
    image.SetSpacing(geometry.get("spacing", SPACING_MM[: image.GetDimension()]))
    image.SetOrigin(geometry.get("origin", (10.0, -20.0, 30.0)[: image.GetDimension()]))
    if "direction" in geometry:
        image.SetDirection(geometry["direction"])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=path.suffix in (".nrrd", ".mha"))
    return path


def nifti(path: Path, array: np.ndarray | None = None, **fields: Sequence[float]) -> Path:
    """A NIfTI-1 file with some fields of its header overwritten."""
    content = bytearray(write(path.with_name("plain.nii"), array).read_bytes())
    path.with_name("plain.nii").unlink()
    for name, numbers in fields.items():
        layout, offset = _PLACES[name]
        struct.pack_into(layout, content, offset, *numbers)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def text_header(path: Path, *changes: tuple[str, str]) -> Path:
    """An NRRD or MetaImage file with lines of its header replaced."""
    content = write(path).read_bytes()
    for pattern, replacement in changes:
        content, count = re.subn(pattern.encode(), replacement.encode(), content, count=1)
        assert count == 1, f"{pattern} is not in the header"
    path.write_bytes(content)
    return path


def cut(path: Path, missing_bytes: int = 40) -> Path:
    """Without its end."""
    path.write_bytes(path.read_bytes()[:-missing_bytes])
    return path


def nrrd(path: Path, sizes: str, encoding: str, content: bytes) -> Path:
    """An NRRD file of float voxels that claims these sizes."""
    dimension = len(sizes.split())
    header = f"NRRD0004\ntype: float\ndimension: {dimension}\nsizes: {sizes}\nspacings: {'1 ' * dimension}\n"
    path.write_bytes(f"{header}endian: little\nencoding: {encoding}\n\n".encode() + content)
    return path


def meta_image(path: Path, sizes: str, content: bytes) -> Path:
    """A compressed MetaImage file of float voxels that claims these sizes."""
    path.write_bytes(
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        f"CompressedDataSize = {len(content)}\nElementSpacing = 1 1 1\nDimSize = {sizes}\nElementType = MET_FLOAT\n"
        "ElementDataFile = LOCAL\n".encode()
        + content
    )
    return path


def png(path: Path, width: int, height: int) -> Path:
    """A PNG file of 16 bits that claims this size and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    voxels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + voxels + chunk(b"IEND", b""))
    return path


def zeros(unpacked_bytes: int, wbits: int) -> bytes:
    """A compressed stream that unpacks to this many zeros, made without holding them; wbits 31 is gzip, 15 zlib."""
    packer = zlib.compressobj(9, wbits=wbits)
    block, pieces = bytes(1 << 20), []
    for _ in range(unpacked_bytes >> 20):
        pieces.append(packer.compress(block))
    return b"".join([*pieces, packer.compress(bytes(unpacked_bytes & 0xFFFFF)), packer.flush()])


# --- models ---------------------------------------------------------------------------------------------------------


def damaged_model(source: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    """A model file with its bytes changed."""
    target.write_bytes(change(source.read_bytes()))
    return target


def retold_model(source: Path, target: Path, **changes: Any) -> Path:
    """A model file whose description says something else than when its checksum was taken."""
    content = source.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"]["mambasegment"]) | changes
    header["__metadata__"]["mambasegment"] = json.dumps(document)
    text = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return target


def flip_last_byte(content: bytes) -> bytes:
    """One weight is another number."""
    return content[:-1] + bytes([content[-1] ^ 0x55])


def without_description(content: bytes) -> bytes:
    """A safetensors file, but none of ours."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]
