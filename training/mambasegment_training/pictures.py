"""Images and masks as pictures: PNG, TIFF, JPEG, BMP; grey, colour, with transparency.

A picture becomes a volume of one slice, K = 1, of 1 mm pixels: what pictures say of their resolution is about paper.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from MambaSegmentLib.errors import ImageError
from MambaSegmentLib.volume import Volume

PICTURE_ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
COLOURS = ("red", "green", "blue")
_GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B")


def is_picture(path: Path) -> bool:
    return path.name.lower().endswith(PICTURE_ENDINGS)


def read_picture(path: Path, channels: int) -> list[Volume]:
    """The channels of a picture; transparency is left out.

    Args:
        channels: 1 or 3; a grey picture has the same in all three, and of a coloured one that is asked for one, the
            colours must be alike.
    Raises:
        ImageError: no such picture, several pages, or colours where grey was promised.
    """
    pixels = _pixels(path)
    if channels == 1 and not _is_grey(pixels):
        raise ImageError(f"{path.parent.name}/{path.name} has colours where the other pictures are grey")
    planes = [pixels[..., min(channel, pixels.shape[-1] - 1)] for channel in range(channels)]
    return [Volume(np.ascontiguousarray(plane)[None]) for plane in planes]


def read_mask(path: Path) -> Volume:
    """The labels of a picture whose colours, if it has any, are alike.

    Raises:
        ImageError: no such picture, or a mask in colours, whose meaning nobody can know.
    """
    pixels = _pixels(path, palette=False)
    if not _is_grey(pixels):
        raise ImageError(
            f"{path.parent.name}/{path.name} is a mask in colours; save the label values 0, 1, 2 … as grey values"
        )
    return Volume(np.ascontiguousarray(pixels[..., 0])[None])


def channels_of(paths: Sequence[Path]) -> int:
    """3 if any of the pictures has colours, else 1."""
    return 1 if all(_is_grey(_pixels(path)) for path in paths) else len(COLOURS)


def _pixels(path: Path, *, palette: bool = True) -> np.ndarray:
    """(J, I, 1 or 3); a palette is looked up, or left alone, as indices are the labels of a mask."""
    try:
        with Image.open(path) as picture:
            pages = getattr(picture, "n_frames", 1)
            if pages > 1:
                raise ImageError(f"{path} has {pages} pages; save each as a picture, or all as a volume")
            return _array(picture, palette)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as problem:
        raise ImageError(f"cannot read the picture {path}: {problem}") from problem


def _array(picture: Any, palette: bool) -> np.ndarray:
    if picture.mode in _GREY_MODES or (picture.mode == "P" and not palette):
        grey = np.asarray(picture)
        return (grey.astype(np.uint8) if grey.dtype == bool else grey)[..., None]
    if picture.mode == "LA":
        return np.asarray(picture)[..., :1]
    return np.asarray(picture.convert("RGB"))


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[..., :1]).all())
