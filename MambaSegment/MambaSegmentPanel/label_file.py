"""Reading the worker's labels: the voxels of an uncompressed NIfTI file, at the speed of the disk.

The geometry is that of the volume which was handed over, so it is not read here.
Source: nifti1.h (NIfTI-1.1).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from MambaSegmentLib.errors import ImageError

LABEL_ENDING = ".nii"
_HEADER_BYTES = 348
_TYPES = {2: "u1", 512: "u2"}


def readLabels(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """The labels, (K, J, I), uint8 or uint16.

    Raises:
        ImageError: the file is no such image, or of another shape.
    """
    try:
        with path.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
            order = next((order for order in "<>" if header[:4] == struct.pack(order + "i", _HEADER_BYTES)), None)
            if order is None or len(header) < _HEADER_BYTES:
                raise ImageError(f"{path} is no NIfTI file; the worker and the module are of different versions")
            sizes = struct.unpack_from(order + "8h", header, 40)
            (kind,) = struct.unpack_from(order + "h", header, 70)
            (offset,) = struct.unpack_from(order + "f", header, 108)
            if sizes[1:4] != shape[::-1] or kind not in _TYPES:
                raise ImageError(f"{path} holds {sizes[1:4]} voxels of type {kind}; expected {shape[::-1]} labels")
            stream.seek(int(offset))
            labels = np.fromfile(stream, np.dtype(f"{order}{_TYPES[kind]}"), int(np.prod(shape)))
    except OSError as problem:
        raise ImageError(f"the labels in {path} cannot be read: {problem.strerror or problem}") from problem
    if labels.size != np.prod(shape):
        raise ImageError(f"{path} ends after {labels.size} of {np.prod(shape)} voxels")
    return labels.reshape(shape)
