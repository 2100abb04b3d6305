"""The figures of a segment, worked out by hand."""

import numpy as np
import pytest

from MambaSegmentLib.errors import GeometryError
from MambaSegmentLib.review.statistics import segment_statistics, table
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

LIVER = SegmentInfo(7, "liver", (1.0, 0.0, 0.0))
SPLEEN = SegmentInfo(9, "spleen", (0.0, 1.0, 0.0))


def on_grid(array: np.ndarray, spacing_mm: tuple[float, float, float] = (1.0, 2.0, 5.0)) -> Volume:
    return Volume(array, spacing_mm=spacing_mm, origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))


@pytest.fixture
def labels() -> Volume:
    array = np.zeros((3, 4, 8), np.uint8)
    array[0, 0, 0:4] = 7  # 3 mm along I
    array[2, 3, 7] = 7  # a piece of its own
    return on_grid(array)


def test_the_figures_of_a_segment(labels: Volume) -> None:
    image = np.zeros(labels.array.shape, np.int16)
    image[0, 0, 0:4] = (10, 20, 30, 40)
    image[2, 3, 7] = 50
    (found,) = segment_statistics(labels, [LIVER], on_grid(image))
    assert (found.voxels, found.pieces) == (5, 2)
    assert found.volume_ml == pytest.approx(5 * 10 / 1000)
    assert found.largest_piece_ml == pytest.approx(4 * 10 / 1000)
    assert (found.intensity_mean, found.intensity_sd) == (30, pytest.approx(np.sqrt(200)))
    assert found.diameter_mm == pytest.approx(np.sqrt(7**2 + 6**2 + 10**2))
    assert found.in_plane_diameter_mm == pytest.approx(3)


def test_an_empty_segment_has_no_diameter(labels: Volume) -> None:
    liver, spleen = segment_statistics(labels, [LIVER, SPLEEN])
    assert liver.intensity_mean is None
    assert (spleen.voxels, spleen.volume_ml, spleen.diameter_mm, spleen.pieces) == (0, 0.0, None, 0)
    assert table([spleen])[0]["diameter_mm"] == ""


def test_an_image_on_another_grid_is_refused(labels: Volume) -> None:
    with pytest.raises(GeometryError, match="grid"):
        segment_statistics(labels, [LIVER], on_grid(labels.array, (1.0, 1.0, 1.0)))
