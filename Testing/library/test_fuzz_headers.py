"""Headers that say anything at all: what they say is believed where it can be true, and refused where it cannot."""

import math
import struct
from pathlib import Path

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from MambaSegmentLib.errors import GeometryError, MambaSegmentError
from MambaSegmentLib.image_io import read_volume
from Testing import bad_files as files

POSSIBLE_SIZE, ANY_SIZE = st.integers(1, 5), st.integers(0, 32767)
POSSIBLE_MM = st.floats(0.0625, 100, width=32)
ANY_MM = st.one_of(POSSIBLE_MM, st.sampled_from([0.0, -1.0, math.nan, math.inf, 1e-30, 1e30]))
CLAIMED = st.one_of(st.tuples(*[POSSIBLE_SIZE] * 3), st.tuples(POSSIBLE_SIZE, POSSIBLE_SIZE, ANY_SIZE))
SPACING = st.one_of(st.tuples(*[POSSIBLE_MM] * 3), st.tuples(*[ANY_MM] * 3))
HELD = math.prod(files.SIZE_KJI)
EACH = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("headers")


def assert_believed_or_refused(path: Path, sizes: tuple[int, ...], spacing_mm: tuple[float, ...]) -> None:
    """The file holds HELD voxels, whatever its header says."""
    possible_spacing = all(math.isfinite(mm) and mm > 0 for mm in spacing_mm)
    possible_size = 0 < math.prod(sizes) <= HELD
    if not possible_spacing and possible_size:
        with pytest.raises(GeometryError, match="voxel spacing"):
            read_volume(path)
    elif not (possible_spacing and possible_size):
        with pytest.raises(MambaSegmentError):
            read_volume(path)
    else:
        volume = read_volume(path)
        assert volume.array.shape == sizes[::-1]
        assert volume.spacing_mm == pytest.approx(spacing_mm, rel=1e-6)
        np.testing.assert_array_equal(volume.array.ravel(), files.values().ravel()[: math.prod(sizes)])


@EACH
@given(sizes=CLAIMED, spacing_mm=SPACING, compressed=st.booleans())
def test_nifti(folder, sizes, spacing_mm, compressed):
    path = folder / ("a.nii.gz" if compressed else "b.nii")
    spacing_mm = struct.unpack("<3f", struct.pack("<3f", *spacing_mm))
    files.nifti(path, dim=(3, *sizes, 1, 1, 1, 1), pixdim=(1, *spacing_mm))
    assert_believed_or_refused(path, sizes, spacing_mm)


@EACH
@given(sizes=CLAIMED, spacing_mm=SPACING)
def test_nrrd(folder, sizes, spacing_mm):
    path = files.write(folder / "x.nrrd")
    header, _, voxels = path.read_bytes().partition(b"\n\n")
    kept = [line for line in header.decode().splitlines() if not line.startswith(("space", "sizes", "kinds"))]
    lines = [*kept, "sizes: " + " ".join(map(str, sizes)), "spacings: " + " ".join(map(str, spacing_mm))]
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + voxels)
    assert_believed_or_refused(path, sizes, spacing_mm)


@EACH
@given(sizes=CLAIMED, spacing_mm=SPACING)
def test_meta_image(folder, sizes, spacing_mm):
    words = [" ".join(map(str, numbers)) for numbers in (sizes, spacing_mm)]
    changes = (("DimSize = .*", f"DimSize = {words[0]}"), ("ElementSpacing = .*", f"ElementSpacing = {words[1]}"))
    assert_believed_or_refused(files.text_header(folder / "x.mha", *changes), sizes, spacing_mm)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["x.nii", "y.nii.gz", "x.nrrd", "x.mha"]),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    kept=st.floats(0, 1),
    cut=st.booleans(),
)
def test_damaged_bytes_are_read_as_an_image_or_refused(folder, name, edits, kept, cut):
    """Whatever they are; a header that asks for gigabytes does not get them."""
    content = bytearray(files.write(folder / name).read_bytes())
    for place, value in edits:
        content[int(place * min(len(content), 400))] = value
    (folder / name).write_bytes(content[: int(len(content) * kept)] if cut else content)
    before_bytes = psutil.Process().memory_info().rss
    volume, problem = None, None
    try:
        volume = read_volume(folder / name)
    except MambaSegmentError as error:
        problem = error
    assert psutil.Process().memory_info().rss - before_bytes < 500_000_000
    if volume is None:
        assert "\n" not in str(problem)
        return
    assert volume.array.nbytes <= 64 * HELD
    image = sitk.ReadImage(str(folder / name))
    assert volume.spacing_mm == pytest.approx((*image.GetSpacing(), 1.0)[:3])
