"""A small picture of a case with its labels, for the quality report."""

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from MambaSegmentLib.volume import Volume

EDGE_PX = 150
_WINDOW_PERCENTILES = (0.5, 99.5)
_FILL = 0.45
_GOLDEN_RATIO = 0.618033988749895  # steps that keep neighbouring hues apart


def colour_of(label: int) -> tuple[int, int, int]:
    """Red, green and blue of a label in every picture of the report, 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb((label - 1) * _GOLDEN_RATIO % 1.0, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def thumbnail(image: Volume, labels: np.ndarray, values: Sequence[int]) -> bytes:
    """A JPEG of the slice across K that shows most labelled voxels, pixels in their proportions.

    Args:
        labels: (K, J, I), on the image's grid.
        values: the labels to colour.
    """
    coloured = np.isin(labels, values)
    k = int(coloured.sum(axis=(1, 2)).argmax()) if coloured.any() else labels.shape[0] // 2
    plane = image.array[k].astype(np.float32)
    low, high = np.percentile(plane, _WINDOW_PERCENTILES)
    grey = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1) * 255
    pixels = np.repeat(grey[..., None], 3, axis=2)
    for value in np.unique(labels[k][coloured[k]]):
        where = labels[k] == value
        pixels[where] = (1 - _FILL) * pixels[where] + _FILL * np.array(colour_of(int(value)), np.float32)
    width_mm, height_mm = plane.shape[1] * image.spacing_mm[0], plane.shape[0] * image.spacing_mm[1]
    scale = EDGE_PX / max(width_mm, height_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR).save(stream, "JPEG", quality=80)
    return stream.getvalue()
