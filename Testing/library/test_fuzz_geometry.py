"""A landmark painted at a known place of the patient is found there in the labels, whatever grid the image has.

Files are written, and places looked up, by SimpleITK alone; between them lies all that the library does. The network
is `TinyNet`: label 1 where the channels add up to 1, background where they are 0.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from MambaSegmentLib.api import Model
from MambaSegmentLib.bundle import Channel
from MambaSegmentLib.inference.predictor import Predictor
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec
from MambaSegmentLib.segmentation_io import write_segmentation

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")
# ITK takes the voxels of x.nii for those of x.nii.gz, so each ending has a name of its own.
IMAGE = {ending: f"image{number}{ending}" for number, ending in enumerate(ENDINGS)}
LABELS = {ending: f"labels{number}{ending}" for number, ending in enumerate((".seg.nrrd", *ENDINGS))}
CODES = ("as stored", "LPS", "RAS", "PIR", "SAL", "IPL")
QUIET = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@dataclass(frozen=True)
class Grid:
    """Of an image file; axes in the order (I, J, K)."""

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]

    def image(self, array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image

    @property
    def points_mm(self) -> np.ndarray:
        """(K, J, I, 3) LPS places of all voxels."""
        indices = np.stack(np.indices(self.size[::-1])[::-1], axis=-1)
        return indices * self.spacing_mm @ np.reshape(self.direction, (3, 3)).T + self.origin_mm


@st.composite
def grids(draw, sizes, spacing_mm):
    """Permuted, flipped, tilted by any angle, and as anisotropic as 20 to 1."""
    axes = np.eye(3)[draw(st.permutations([0, 1, 2]))] * draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    angles = draw(st.one_of(st.just((0, 0, 0)), st.tuples(*[st.floats(-180, 180)] * 3)))
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes
    return Grid(
        draw(st.tuples(*[sizes] * 3)),
        draw(st.tuples(*[spacing_mm] * 3)),
        draw(st.tuples(*[st.floats(-1000, 1000)] * 3)),
        tuple(direction.ravel()),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture
def a_model(a_tiny_bundle):
    """Makes models that threshold the sum of their channels."""

    def make(channels: int = 1, **preprocessing) -> Model:
        spec = PreprocessingSpec((Normalization("none"),) * channels, resampling_order=1, **preprocessing)
        names = tuple(Channel(f"c{number}") for number in range(channels))
        bundle = a_tiny_bundle(preprocessing=spec, channels=names, patch_size=(8, 8, 8))
        return Model(Path("tiny"), bundle.manifest, Predictor(bundle, "cpu"), 0.0)

    return make


def segmented(model: Model, images: list[Path], output: Path) -> sitk.Image:
    result = model.segment(images)
    write_segmentation(result.labels, result.segments, output)
    return sitk.ReadImage(str(output))


def label_at(labels: sitk.Image, point_mm: np.ndarray) -> int:
    return labels[labels.TransformPhysicalPointToIndex([float(mm) for mm in point_mm])]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(
    grid=grids(st.integers(1, 12), st.floats(0.3, 6)),
    at=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 3),
    dtype=st.sampled_from(
        [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]
    ),
    source=st.sampled_from(ENDINGS),
    target=st.sampled_from((".seg.nrrd", *ENDINGS)),
    code=st.sampled_from(CODES),
    axis_order=st.permutations([0, 1, 2]),
    crop=st.sampled_from(["none", "nonzero"]),
)
def test_one_voxel_is_found_where_it_was_painted(
    a_model, folder, grid, at, dtype, source, target, code, axis_order, crop
):
    """Nothing is resampled, so the labels are the painted voxel and nothing else."""
    array = np.zeros(grid.size[::-1], dtype)
    voxel = tuple(int(part * size) for part, size in zip(at, array.shape, strict=True))
    array[voxel] = 1
    if array.size == 1:
        return  # a constant image, which is refused
    image = grid.image(array)
    point_mm = image.TransformIndexToPhysicalPoint(voxel[::-1])
    sitk.WriteImage(image, str(folder / IMAGE[source]))
    model = a_model(orientation=code, axis_order=tuple(axis_order), crop=crop)
    labels = segmented(model, [folder / IMAGE[source]], folder / LABELS[target])
    assert label_at(labels, point_mm) == 1
    np.testing.assert_array_equal(sitk.GetArrayFromImage(labels), array == 1)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(
    grid=grids(st.just(0), st.floats(0.4, 4)),
    before=st.tuples(*[st.integers(3, 9)] * 3),
    after=st.tuples(*[st.integers(3, 9)] * 3),
    wanted_mm=st.tuples(*[st.one_of(st.none(), st.floats(0.5, 3))] * 3),
    source=st.sampled_from(ENDINGS),
    target=st.sampled_from((".seg.nrrd", *ENDINGS)),
    code=st.sampled_from(CODES),
    axis_order=st.permutations([0, 1, 2]),
)
def test_a_block_is_found_where_it_was_painted_through_resampling(
    a_model, folder, grid, before, after, wanted_mm, source, target, code, axis_order
):
    """Its centre and its corners' surroundings: resampling may move a face by half a voxel, but nothing else."""
    coarse_mm = max([1.0, *(mm for mm in wanted_mm if mm is not None)])
    block = [math.ceil(3 * coarse_mm / mm) for mm in grid.spacing_mm]
    grid = Grid(
        tuple(map(sum, zip(before, block, after, strict=True))), grid.spacing_mm, grid.origin_mm, grid.direction
    )
    array = np.zeros(grid.size[::-1], np.float32)
    inside = tuple(slice(b, b + n) for b, n in zip(before, block, strict=True))[::-1]
    array[inside] = 1
    image = grid.image(array)
    sitk.WriteImage(image, str(folder / IMAGE[source]))
    model = a_model(orientation=code, axis_order=tuple(axis_order), spacing_mm=wanted_mm)
    labels = segmented(model, [folder / IMAGE[source]], folder / LABELS[target])

    centre_mm = grid.points_mm[inside].reshape(-1, 3).mean(axis=0)
    assert label_at(labels, centre_mm) == 1
    found = sitk.GetArrayFromImage(labels) == 1
    slack_mm = max(coarse_mm, *grid.spacing_mm)
    assert np.linalg.norm(grid.points_mm[found].mean(axis=0) - centre_mm) <= slack_mm / 2
    # Along its own axes: inside by a voxel it is all there, outside by a voxel there is nothing.
    offsets_mm = np.abs((grid.points_mm - centre_mm) @ np.reshape(grid.direction, (3, 3)))
    halves_mm = np.array(block) * grid.spacing_mm / 2
    assert found[(offsets_mm < halves_mm - slack_mm).all(axis=-1)].all()
    assert not found[(offsets_mm > halves_mm + slack_mm).any(axis=-1)].any()


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(
    first=grids(st.integers(10, 14), st.floats(1, 4)),  # larger than the ball, or the second channel is constant
    second=grids(st.just(16), st.floats(1, 3)),
    at=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 3),
    source=st.sampled_from(ENDINGS),
)
def test_a_landmark_of_a_channel_on_another_grid_is_found(a_model, folder, first, second, at, source):
    """A ball around a voxel of the first image, painted into the second one, which lies around that voxel."""
    voxel = tuple(int(part * size) for part, size in zip(at, first.size, strict=True))
    background = np.zeros(first.size[::-1], np.float32)
    background[0, 0, 0] = 0.01  # a constant channel would be refused
    image = first.image(background)
    point_mm = np.array(image.TransformIndexToPhysicalPoint(voxel))
    middle = 7.5 * np.array(second.spacing_mm)
    second = Grid(
        second.size,
        second.spacing_mm,
        tuple(point_mm - np.reshape(second.direction, (3, 3)) @ middle),
        second.direction,
    )
    radius_mm = 2 * max(second.spacing_mm)
    distances_mm = np.linalg.norm(second.points_mm - point_mm, axis=-1)
    sitk.WriteImage(image, str(folder / "first.nrrd"))
    sitk.WriteImage(second.image((distances_mm <= radius_mm).astype(np.float32)), str(folder / IMAGE[source]))
    result_model = a_model(channels=2)
    labels = segmented(result_model, [folder / "first.nrrd", folder / IMAGE[source]], folder / "labels.seg.nrrd")
    assert label_at(labels, point_mm) == 1
    found = first.points_mm[sitk.GetArrayFromImage(labels) == 1]
    assert np.linalg.norm(found - point_mm, axis=-1).max() <= radius_mm + max(second.spacing_mm) * math.sqrt(3)
