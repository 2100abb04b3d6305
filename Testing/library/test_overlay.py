"""The picture of a segmentation: what is where, whatever the order in which the voxels are stored."""

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from MambaSegmentLib.errors import GeometryError, ImageError, ShapeError
from MambaSegmentLib.overlay import WIDTH_PX, draw_overlay, draw_plane, write_overlay
from MambaSegmentLib.segments import SegmentInfo
from MambaSegmentLib.volume import Volume

RED, BLUE = SegmentInfo(1, "Red", (1.0, 0.0, 0.0)), SegmentInfo(4, "Blue", (0.0, 0.3, 1.0))


def a_case(shape=(20, 24, 28), **geometry) -> tuple[Volume, Volume]:
    """A ramp image and a red box in the patient's right, anterior, superior corner of the middle."""
    image = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    labels = np.zeros(shape, np.uint8)
    labels[10:15, 6:12, 4:12] = 1  # LPS: low I is right, low J anterior, high K superior
    labels[10:15, 6:12, 12:16] = 4
    return Volume(image, **geometry), Volume(labels, **geometry)


def places(picture: Image.Image, segment: SegmentInfo) -> np.ndarray:
    """(row, column) of pixels in a segment's full colour: its outline."""
    pixels = np.asarray(picture).astype(int)
    return np.argwhere(np.abs(pixels - np.round(255 * np.array(segment.color))).max(axis=2) < 12)


def test_segments_are_outlined_and_listed():
    picture = draw_overlay(*a_case(), [RED, BLUE], title="A case")
    assert picture.size[0] == WIDTH_PX
    assert picture.mode == "RGB"
    for segment in (RED, BLUE):
        found = places(picture, segment)
        assert len(found) > 300
        assert found[:, 0].max() > picture.height - 60  # the swatch of the legend


def test_the_patients_right_is_on_the_left():
    picture = draw_overlay(*a_case(), [RED, BLUE])
    red, blue = (places(picture, segment) for segment in (RED, BLUE))
    in_axial = [found[(found[:, 1] < 500) & (found[:, 0] < picture.height - 90)] for found in (red, blue)]
    assert in_axial[0][:, 1].mean() < in_axial[1][:, 1].mean()


@pytest.mark.parametrize("orientation", ["RAS", "ASR", "PIL", "SAL", "LIP"])
def test_the_order_of_storage_does_not_show(orientation):
    image, labels = a_case(spacing_mm=(0.8, 1.1, 1.7))
    expected = np.asarray(draw_overlay(image, labels, [RED, BLUE]))
    turned = [Volume.from_sitk(sitk.DICOMOrient(volume.to_sitk(), orientation)) for volume in (image, labels)]
    np.testing.assert_array_equal(np.asarray(draw_overlay(*turned, [RED, BLUE])), expected)


def test_anisotropic_voxels_keep_their_proportions():
    labels = np.zeros((12, 60, 60), np.uint8)
    labels[4:8, 20:40, 20:40] = 1  # 4 x 5 mm by 20 x 1 mm: a cube
    image = Volume(np.ones(labels.shape, np.float32), spacing_mm=(1, 1, 5))
    picture = draw_overlay(image, image.with_array(labels), [RED])
    coronal = places(picture, RED)
    coronal = coronal[(coronal[:, 1] > 600) & (coronal[:, 1] < 1100) & (coronal[:, 0] < picture.height - 90)]
    height, width = np.ptp(coronal, axis=0)
    assert height == pytest.approx(width, rel=0.06)


def test_a_single_voxel_is_seen():
    image, labels = a_case()
    labels.array[:] = 0
    labels.array[10, 12, 14] = 1
    picture = draw_overlay(image, labels, [RED])
    assert np.count_nonzero(places(picture, RED)[:, 0] < picture.height - 90) > 30


def test_an_outline_does_not_leave_its_voxels():
    image, labels = a_case()
    labels.array[:] = 0
    labels.array[5:15, 6:18, 7:21] = 1
    picture = np.asarray(draw_overlay(image, labels, [RED])).astype(int)
    axial = picture[74:-90, 36:500]
    colored = np.argwhere(axial[..., 0] - axial[..., 1] > 40)
    height, width = np.ptp(colored, axis=0)
    assert width / height == pytest.approx(14 / 12, rel=0.06)


@pytest.mark.parametrize("brightness", [0.0, 5.0, np.nan])
def test_an_even_image_can_be_drawn(brightness):
    image, labels = a_case()
    image.array[:] = brightness
    draw_overlay(image, labels, [RED, BLUE])


def test_without_segments_the_middle_is_shown():
    image, labels = a_case()
    labels.array[:] = 0
    empty = draw_overlay(image, labels, [RED])
    assert len(places(empty, RED)) < 500  # the swatch alone
    assert draw_overlay(image, labels, []).size[0] == WIDTH_PX


def test_a_single_slice_gives_a_single_plane():
    labels = np.zeros((1, 30, 40), np.uint8)
    labels[0, 10:20, 10:20] = 1
    image = Volume(np.random.default_rng(0).random(labels.shape), spacing_mm=(1, 1, 1))
    picture = draw_overlay(image, image.with_array(labels), [RED])
    assert places(picture, RED)[:, 1].max() < WIDTH_PX * 0.7


def test_many_segments_fit_the_legend():
    image, labels = a_case()
    segments = [SegmentInfo(value, f"Segment {value}", (0.5, value / 20, 0.2)) for value in range(1, 12)]
    assert draw_overlay(image, labels, segments).height > draw_overlay(image, labels, segments[:3]).height + 100


def test_the_picture_is_written_whole(tmp_path):
    path = tmp_path / "overlay.png"
    write_overlay(*a_case(), [RED, BLUE], path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] == WIDTH_PX
    assert [entry.name for entry in tmp_path.iterdir()] == ["overlay.png"]
    with pytest.raises(ImageError, match="does not exist"):
        write_overlay(*a_case(), [RED], tmp_path / "no such folder" / "overlay.png")


def test_grids_and_labels_that_do_not_fit_are_refused():
    image, labels = a_case()
    with pytest.raises(GeometryError, match="do not lie on the image's grid"):
        draw_overlay(image, Volume(labels.array, spacing_mm=(2, 1, 1)), [RED])
    with pytest.raises(ShapeError, match="integers"):
        draw_overlay(image, image, [RED])


def _two_blobs() -> tuple[Volume, Volume, Volume]:
    """A bright image, labels at one end, and what to look at at the other."""
    image = np.random.default_rng(0).normal(100, 20, (40, 40, 40)).astype(np.float32)
    labels, focus = np.zeros((40, 40, 40), np.uint8), np.zeros((40, 40, 40), bool)
    labels[2:5, 2:5, 2:5] = 1
    focus[30:34, 20:38, 28:30] = True
    return Volume(image), Volume(labels), Volume(focus)


def test_planes_go_through_the_focus_rather_than_the_segments():
    image, labels, focus = _two_blobs()
    nothing = labels.with_array(np.zeros_like(labels.array))
    segments = [SegmentInfo(1, "blob", (1.0, 0.0, 0.0))]
    seen = draw_overlay(image, labels, segments, focus=focus)
    # the segment is drawn in none of the planes, but for its swatch in the legend
    below = slice(0, seen.height - 60)
    np.testing.assert_array_equal(
        np.asarray(seen)[below], np.asarray(draw_overlay(image, nothing, segments, focus=focus))[below]
    )
    assert np.asarray(draw_overlay(image, labels, segments)).tolist() != np.asarray(seen).tolist()


def test_a_plane_alone_is_the_one_that_shows_most_of_the_focus():
    image, _, focus = _two_blobs()  # 4 x 18 x 2 voxels along K, J, I: most of it in a sagittal plane
    segments = [SegmentInfo(1, "blob", (1.0, 0.0, 0.0))]
    panel = draw_plane(image, focus.with_array(focus.array.astype(np.uint8)), segments, size=(200, 160), focus=focus)
    assert panel.size == (200, 160)
    red = np.asarray(panel)[..., 0].astype(int) - np.asarray(panel)[..., 1]
    rows, columns = np.nonzero(red > 40)
    assert np.ptp(columns) > 2 * np.ptp(rows)  # 18 mm along the patient's back, 4 mm upwards
    with pytest.raises(GeometryError):
        draw_plane(image, Volume(np.zeros((3, 3, 3), np.uint8)), segments, size=(10, 10))
