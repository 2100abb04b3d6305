"""Regions of interest: what a text means, where a box lies, and that the network works on no more than it must."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import MambaSegmentLib as ms
from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.image_io import write_volume
from MambaSegmentLib.inference.predictor import Predictor, context_box
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.roi import AroundLabel, BoxInMm, BoxInVoxels, parse_roi, slices_of, widened
from MambaSegmentLib.volume import Volume

TURNED = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # I runs along y, J along z, K against x
SIZES = (40, 30, 20)  # I, J, K


def a_volume(**geometry) -> Volume:
    return Volume(np.random.default_rng(0).random(SIZES[::-1], dtype=np.float32) * 2, **geometry)


def cut(volume: Volume, box) -> Volume:
    (k, _), (j, _), (i, _) = box
    origin = (volume.ijk_to_lps @ (i, j, k, 1))[:3]
    return Volume(volume.array[slices_of(box)].copy(), volume.spacing_mm, tuple(origin), volume.direction)


def test_the_texts():
    assert parse_roi("voxels:1:2,3:5,0:9") == BoxInVoxels(((1, 2), (3, 5), (0, 9)))
    assert parse_roi("mm:-1.5:2,3:5,0:9e1") == BoxInMm(((-1.5, 2.0), (3.0, 5.0), (0.0, 90.0)))
    around = parse_roi("label:3:12.5:C:\\scans\\organs.nii.gz")
    assert (str(around.labels), around.value, around.margin_mm) == ("C:\\scans\\organs.nii.gz", 3, 12.5)
    assert parse_roi("label:any:0:a.nrrd").value is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be understood; expected voxels:"),
        ("voxels:1:2,3:4", "cannot be understood"),
        ("voxels:1:2,3:4,5:6,7:8", "cannot be understood"),
        ("voxels:1.5:2,3:4,5:6", "cannot be understood"),
        ("box:1:2,3:4,5:6", "cannot be understood"),
        ("label:3:20:", "cannot be understood"),
        ("label:liver:20:a.nrrd", "cannot be understood"),
        ("label:3:-1:a.nrrd", "margin around a label is -1.0 mm"),
        ("voxels:1:2,4:4,5:6", "from 4 to 4 along J, which holds nothing"),
        ("mm:1:2,3:4,6:5", "from 6 to 5 along Z, which holds nothing"),
        ("mm:1:2,3:nan,5:6", "which holds nothing"),
    ],
)
def test_texts_that_are_no_region(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_roi(text)


@pytest.mark.parametrize("roi", [BoxInVoxels(((40, 50), (0, 5), (0, 5))), BoxInMm(((0, 5), (0, 5), (-9, -5)))])
def test_a_region_outside_the_image_is_told_with_the_images_size(roi):
    with pytest.raises(ConfigError, match=r"outside the image: voxels .* I 0:40, J 0:30, K 0:20"):
        roi.box(a_volume())


def test_what_sticks_out_is_cut_off():
    assert BoxInVoxels(((-5, 3), (2, 99), (4, 5))).box(a_volume()) == ((4, 5), (2, 30), (0, 3))


def test_millimetres_follow_the_direction():
    """Voxel n covers [n - 0.5, n + 0.5] · spacing; I runs along y, J along z, K against x."""
    volume = a_volume(spacing_mm=(2.0, 1.0, 3.0), origin_mm=(100.0, 0.0, 0.0), direction=TURNED)
    roi = BoxInMm(((100 - 3 * 4.5, 100 - 3 * 1.5), (2 * 2.5, 2 * 7.5), (9.5, 12.5)))
    assert roi.box(volume) == ((2, 5), (10, 13), (3, 8))


def test_around_a_label_of_a_map_on_another_grid(tmp_path):
    labels = np.zeros((10, 15, 20), np.uint8)
    labels[2:4, 5:6, 7:9] = 3
    grid = Volume(labels, spacing_mm=(2.0, 2.0, 2.0), origin_mm=(0.5, 0.5, 0.5))  # two voxels of the image in each
    expected = ((4 - 1, 8 + 1), (10 - 1, 12 + 1), (14 - 1, 18 + 1))
    assert AroundLabel(grid, 3, 1.0).box(a_volume()) == expected
    write_volume(grid, tmp_path / "organs.nrrd")
    assert parse_roi(f"label:any:1:{tmp_path / 'organs.nrrd'}").box(a_volume()) == expected
    with pytest.raises(ConfigError, match=r"label 4 is not in the label map .*; it holds 3"):
        AroundLabel(grid, 4).box(a_volume())


@given(st.data())
def test_a_widened_box_keeps_the_box_and_stays_in_the_volume(data):
    size = data.draw(st.integers(1, 50))
    first = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(first + 1, size))
    context, least = data.draw(st.integers(0, 60)), data.draw(st.integers(1, 60))
    (begin, stop), *_ = widened(((first, end),) * 3, (size,) * 3, (context,) * 3, (least,) * 3)
    assert 0 <= begin <= max(first - context, 0)
    assert min(end + context, size) <= stop <= size
    assert stop - begin >= min(least, size)


SPECS = {
    "as it is": PreprocessingSpec((Normalization("none"),)),
    "resampled": PreprocessingSpec((Normalization("none"),), spacing_mm=(1.7, 1.3, 0.8)),
    "turned": PreprocessingSpec((Normalization("none"),), "RAS", (1, 2, 0), spacing_mm=(1.7, 1.3, 0.8)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_labels_inside_are_those_of_the_image_cut_to_the_context(a_tiny_bundle, spec):
    volume = a_volume(direction=TURNED, origin_mm=(5.0, 6.0, 7.0))
    bundle = a_tiny_bundle(preprocessing=spec)
    predictor = Predictor(bundle, "cpu")
    box = ((3, 8), (11, 19), (22, 30))
    context = context_box(box, volume, bundle.manifest)
    assert context != box
    found = predictor.segment([volume], box=box)
    alone = predictor.segment([cut(volume, context)])
    expected = np.zeros(volume.array.shape, np.uint8)
    expected[slices_of(context)] = alone.labels.array
    inside = np.zeros(volume.array.shape, bool)
    inside[slices_of(box)] = True
    np.testing.assert_array_equal(found.labels.array, np.where(inside, expected, 0))
    assert found.labels.array[inside].any()
    assert found.labels.same_grid(volume, 0.0)


def test_the_region_restricts_the_work(a_tiny_bundle):
    predictor = Predictor(a_tiny_bundle(), "cpu")
    volume = a_volume()
    whole, part = predictor.segment([volume]), predictor.segment([volume], box=((4, 8), (4, 8), (4, 8)))
    assert whole.tiles == 4 * 7 * 9  # patches of 8 every 4 voxels
    assert part.tiles == 1  # 4 voxels and a quarter of the patch on either side


def test_intensities_are_normalised_with_the_numbers_of_the_whole_image(a_tiny_bundle):
    """TinyNet says class 1 above 0.5 standard deviations and class 2 above 1.5; cut alone, they would be other ones."""
    volume = a_volume()
    volume.array[:10] += 4.0
    bundle = a_tiny_bundle(preprocessing=PreprocessingSpec((Normalization("zscore"),)))
    box = ((0, 6), (4, 20), (4, 20))
    whole = Predictor(bundle, "cpu").segment([volume]).labels.array[slices_of(box)]
    part = Predictor(bundle, "cpu").segment([volume], box=box).labels.array[slices_of(box)]
    context = context_box(box, volume, bundle.manifest)
    alone = Predictor(bundle, "cpu").segment([cut(volume, context)]).labels.array
    np.testing.assert_array_equal(part, whole)
    assert not np.array_equal(part, alone[:6, 2:18, 2:18])


def test_a_region_of_nothing_but_cropped_zeros_needs_no_network(a_tiny_bundle):
    volume = a_volume()
    volume.array[:, :, 20:] = 0
    bundle = a_tiny_bundle(preprocessing=PreprocessingSpec((Normalization("none"),), crop="nonzero"))
    result = Predictor(bundle, "cpu").segment([volume], box=((0, 5), (0, 5), (35, 40)))
    assert not result.labels.array.any()
    assert result.tiles == 0


def test_slice_by_slice_only_the_regions_slices_are_computed(a_tiny_bundle):
    result = Predictor(a_tiny_bundle(patch_size=(8, 8)), "cpu").segment([a_volume()], box=((3, 7), (0, 4), (0, 4)))
    assert result.tiles == 4


def test_only_the_named_labels_are_written_through_the_api(a_tiny_bundle, tmp_path):
    from MambaSegmentLib.bundle import write_bundle

    bundle = a_tiny_bundle()
    write_bundle(tmp_path / "tiny.safetensors", bundle.manifest, bundle.folds)
    model = ms.load_model(tmp_path / "tiny.safetensors", "cpu")
    volume = a_volume()
    every, one = model.segment(volume), model.segment(volume, labels=["posterior"])
    np.testing.assert_array_equal(one.labels.array, np.where(every.labels.array == 5, 5, 0))
    assert [segment.name for segment in one.segments] == ["Posterior"]
    with pytest.raises(
        ConfigError, match=r"no label 'Posteior'; did you mean 'Posterior'\? It has Anterior, Posterior"
    ):
        model.segment(volume, labels=["Posteior"])
    part = model.segment(volume, roi="voxels:4:8,4:8,4:8", labels=["Anterior"])
    inside = (slice(4, 8),) * 3
    np.testing.assert_array_equal(part.labels.array[inside], np.where(every.labels.array[inside] == 1, 1, 0))
    assert np.count_nonzero(part.labels.array) == np.count_nonzero(part.labels.array[inside]) > 0
