"""DICOM segmentations: read back with highdicom, by hand from the file's elements, and with dcmqi where it is there."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MambaSegmentLib import dicom_seg
from MambaSegmentLib.api import load_model, segment
from MambaSegmentLib.bundle import write_bundle
from MambaSegmentLib.cli import main
from MambaSegmentLib.dicom_seg import read_source, write_dicom_seg
from MambaSegmentLib.dicom_series import read_dicom_series
from MambaSegmentLib.errors import ConfigError, GeometryError, ImageError
from MambaSegmentLib.extras import Extras
from MambaSegmentLib.segments import Code, SegmentInfo, Terminology
from Testing.dicom_files import COLUMN, NORMAL, ORIGIN, ROW, STEP_MM, write_series, write_slice

pytest.importorskip("highdicom", reason="DICOM segmentations need pip install mambasegment[dicom]")
LIVER = Terminology(
    Code("SCT", "123037004", "Anatomical Structure"), Code("SCT", "10200004", "Liver"), Code("SCT", "7771000", "Left")
)
SEGMENTS = (
    SegmentInfo(9, "Löwe 肝", (0.0, 1.0, 0.0), LIVER),
    SegmentInfo(3, "no code", (1.0, 0.0, 0.0)),
    SegmentInfo(300, "empty", (0.0, 0.0, 1.0), LIVER),
)
LIVER_ALONE = (SegmentInfo(1, "Liver", (0.8, 0.4, 0.3), LIVER),)
FRAME = "1.2.3.99"  # Frame of Reference UID
POINT_IJK = (3, 2, 1)
POINT_LPS = ORIGIN + 3 * 0.75 * ROW + 2 * 0.5 * COLUMN + 1 * STEP_MM * NORMAL  # spacing: see Testing/dicom_files.py


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    write_series(folder, t0020_0052=FRAME, t0020_0011="4", t0010_0020="P7")
    return folder


@pytest.fixture
def labels(series):
    volume = read_dicom_series(series)
    array = np.zeros(volume.array.shape, np.uint16)
    i, j, k = POINT_IJK
    array[k, j, i] = 9
    array[2:4, 0, 1] = 3
    return volume.with_array(array)


@pytest.fixture
def written(series, labels, a_manifest, tmp_path):
    path = tmp_path / "out.dcm"
    write_dicom_seg(labels, SEGMENTS, path, read_source(series), a_manifest(version="2.1"))
    return path


def test_highdicom_finds_the_labels_on_the_slices_they_were_made_on(written, labels, series):
    highdicom = pytest.importorskip("highdicom")
    found = highdicom.seg.segread(written)
    assert found.segmentation_type == highdicom.seg.SegmentationTypeValues.BINARY
    assert list(found.segment_numbers) == [1, 2, 3]
    slices = [str(header.SOPInstanceUID) for header in read_source(series).headers]
    frames = found.get_pixels_by_source_instance(
        slices, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames, np.select([labels.array == 9, labels.array == 3], [1, 2], 0))
    volume = found.get_volume(combine_segments=True)
    (index,) = np.argwhere(volume.array == 1)
    np.testing.assert_allclose(volume.map_indices_to_reference(index[None])[0], POINT_LPS, atol=1e-6)


def test_what_the_file_says_of_model_and_segments(written):
    pydicom = pytest.importorskip("pydicom")
    found = pydicom.dcmread(written)
    assert (found.Modality, found.PatientID, found.StudyInstanceUID) == ("SEG", "P7", "1.2.3")
    assert (found.FrameOfReferenceUID, found.SpecificCharacterSet) == (FRAME, "ISO_IR 192")
    assert found.SeriesInstanceUID != "1.2.3.1"
    first, second, empty = found.SegmentSequence
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["Löwe 肝", "no code", "empty"]
    assert {segment.SegmentAlgorithmType for segment in found.SegmentSequence} == {"AUTOMATIC"}
    (algorithm,) = first.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("tiny", "2.1")
    (kind,) = first.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("10200004", "SCT", "Liver")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert [segment.TrackingID for segment in (first, second, empty)] == ["label 9", "label 3", "label 300"]


def test_each_frame_by_hand_from_its_bits_and_its_functional_groups(written):
    """Without highdicom's reader: bits unpacked in order, each set voxel at the place that its frame gives."""
    pydicom = pytest.importorskip("pydicom")
    found = pydicom.dcmread(written)
    frames = np.unpackbits(np.frombuffer(found.PixelData, np.uint8), bitorder="little")
    frames = frames[: 3 * found.Rows * found.Columns].reshape(3, found.Rows, found.Columns)
    shared = found.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    places = []
    for frame, groups in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for j, i in np.argwhere(frame):
            places.append((number, position + i * between_columns * row + j * between_rows * column))
    expected = [(1, POINT_LPS), *((2, ORIGIN + 0.75 * ROW + k * STEP_MM * NORMAL) for k in (2, 3))]
    places.sort(key=lambda found: (found[0], tuple(found[1])))  # frames may come in any order
    assert [number for number, _ in places] == [1, 2, 2]
    for (_, place), (_, wanted) in zip(places, expected, strict=True):
        np.testing.assert_allclose(place, wanted, atol=1e-6)


def test_dcmqi_finds_the_point_too(written, tmp_path):
    """An independent reader in C++ (dcmtk); heavy, and so not among the packages that the tests install."""
    program = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which(
        "segimage2itkimage"
    )
    if program is None:
        pytest.skip("dcmqi is not installed; pip install dcmqi")
    folder = tmp_path / "dcmqi"
    folder.mkdir()
    arguments = ["--inputDICOM", str(written), "--outputDirectory", str(folder), "--outputType", "nrrd"]
    subprocess.run([program, *arguments], check=True, capture_output=True)
    image = sitk.ReadImage(str(folder / "1.nrrd"))
    (index,) = np.argwhere(sitk.GetArrayFromImage(image))
    place = image.TransformIndexToPhysicalPoint([int(number) for number in index[::-1]])
    np.testing.assert_allclose(place, POINT_LPS, atol=1e-4)
    facts = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    assert [group[0]["SegmentLabel"] for group in facts["segmentAttributes"]] == ["Löwe 肝", "no code", "empty"]
    assert facts["segmentAttributes"][0][0]["recommendedDisplayRGBValue"] == [0, 255, 0]


def test_the_liver_of_a_real_ct_lies_where_another_program_put_it(shared, a_manifest, tmp_path):
    """dcmqi's own example: its segmentation as labels, written anew, must have the same voxels at the same places."""
    import highdicom

    folder = shared / "data" / "dicom_ct_with_seg"
    theirs, source = highdicom.seg.segread(folder / "liver_seg.dcm"), read_source(folder / "ct")
    ct = read_dicom_series(folder / "ct")
    slices = [str(header.SOPInstanceUID) for header in source.headers]
    frames = theirs.get_pixels_by_source_instance(
        slices, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    write_dicom_seg(ct.with_array(frames.astype(np.uint8)), LIVER_ALONE, tmp_path / "o.dcm", source, a_manifest())
    ours = highdicom.seg.segread(tmp_path / "o.dcm")
    assert _places(ours).shape == (107098, 3)
    np.testing.assert_allclose(_places(ours), _places(theirs), atol=2e-3)  # places are rounded to 1 µm


def _places(segmentation) -> np.ndarray:
    """Of all voxels of all segments in mm, in a fixed order."""
    volume = segmentation.get_volume(combine_segments=True)
    places = volume.map_indices_to_reference(np.argwhere(volume.array))
    return np.unique(np.round(places, 3), axis=0)


def test_labels_without_a_voxel_are_written_as_empty_frames(series, labels, a_manifest, tmp_path):
    highdicom = pytest.importorskip("highdicom")
    write_dicom_seg(
        labels.with_array(labels.array * 0), SEGMENTS, tmp_path / "e.dcm", read_source(series), a_manifest()
    )
    assert not highdicom.seg.segread(tmp_path / "e.dcm").pixel_array.any()


def test_the_shell_makes_one_from_a_series(series, a_tiny_bundle, tmp_path, capsys):
    """The slices hold 0..11 plus 100 times their number: with the tiny model 1 becomes label 1, from 2 on label 5."""
    highdicom = pytest.importorskip("highdicom")
    bundle = a_tiny_bundle()
    write_bundle(tmp_path / "tiny.safetensors", bundle.manifest, bundle.folds)
    output = tmp_path / "labels.dcm"
    arguments = ["segment", str(series), "-m", str(tmp_path / "tiny.safetensors"), "-o", str(output), "--device", "cpu"]
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    volume = highdicom.seg.segread(output).get_volume(combine_segments=True)
    assert np.unique(volume.array, return_counts=True)[1].tolist() == [1, 1, 46]


def test_an_image_that_is_no_series_is_refused_before_work(a_tiny_bundle, tmp_path, series):
    bundle = a_tiny_bundle()
    write_bundle(tmp_path / "tiny.safetensors", bundle.manifest, bundle.folds)
    model = load_model(tmp_path / "tiny.safetensors", "cpu")
    volume = read_dicom_series(series)
    for image in (volume, next(series.iterdir())):
        with pytest.raises(ImageError, match=r"give the folder of the series, or name the output \.seg\.nrrd"):
            segment(image, model=model, output=tmp_path / "o.dcm")
    assert not (tmp_path / "o.dcm").exists()


def test_a_series_without_identifiers_is_refused(tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for index in range(2):
        write_slice(folder / f"{index}.dcm", index)
    pydicom = pytest.importorskip("pydicom")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.pop("FrameOfReferenceUID", None)
        header.save_as(path)
    with pytest.raises(ImageError, match="lacks FrameOfReferenceUID"):
        read_source(folder)


def test_labels_of_another_place_or_another_meaning_are_refused(series, labels, a_manifest, tmp_path):
    source = read_source(series)
    moved = type(labels)(labels.array[::-1], labels.spacing_mm, tuple(ORIGIN + 20), labels.direction)
    with pytest.raises(GeometryError, match="segment that very series"):
        write_dicom_seg(moved, SEGMENTS, tmp_path / "o.dcm", source, a_manifest())
    short = type(labels)(labels.array[:2], labels.spacing_mm, labels.origin_mm, labels.direction)
    with pytest.raises(GeometryError, match="2 slices"):
        write_dicom_seg(short, SEGMENTS, tmp_path / "o.dcm", source, a_manifest())
    with pytest.raises(ConfigError, match="value 3, which no segment names"):
        write_dicom_seg(labels, SEGMENTS[:1], tmp_path / "o.dcm", source, a_manifest())
    assert not (tmp_path / "o.dcm").exists()


def test_missing_packages_are_named_with_what_to_run(monkeypatch, series, a_tiny_bundle, tmp_path):
    """A stand-in for an installation without the extra: the packages cannot be found."""
    find = importlib.util.find_spec
    monkeypatch.setattr(dicom_seg.importlib.util, "find_spec", lambda name: None if name == "highdicom" else find(name))
    with pytest.raises(ConfigError, match=r"need highdicom.*pip install mambasegment\[dicom\]"):
        segment(series, model="none", output=tmp_path / "o.dcm", extras=Extras())


def test_segments_of_several_models_name_their_own(series, labels, a_manifest, tmp_path):
    organ, lesion = a_manifest(name="organ", version="1"), a_manifest(name="lesion", version="4")
    path = tmp_path / "o.dcm"
    write_dicom_seg(labels, SEGMENTS, path, read_source(series), organ, {9: lesion})
    written = pytest.importorskip("pydicom").dcmread(path)
    algorithms = [segment.SegmentationAlgorithmIdentificationSequence[0] for segment in written.SegmentSequence]
    named = {segment.TrackingID: (one.AlgorithmName, one.AlgorithmVersion)
             for segment, one in zip(written.SegmentSequence, algorithms, strict=True)}  # fmt: skip
    assert named.pop("label 9") == ("lesion", "4")
    assert set(named.values()) == {("organ", "1")}
    assert written.ManufacturerModelName == "organ + lesion"
