"""Label files that name their segments, made for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import slicerio

Points = Sequence[tuple[float, float, float]]


def write_seg_nrrd(path: Path, masks: Mapping[str, np.ndarray], ijk_to_lps: np.ndarray | None = None) -> None:
    """Each mask, bool (K, J, I), in a layer of its own, so that they may overlap; values run against the names."""
    segments = [
        {"id": f"Segment_{n}", "name": name, "labelValue": len(masks) - n, "layer": n, "color": [1.0, 0.0, 0.0]}
        for n, name in enumerate(masks)
    ]
    layers = [mask.astype(np.uint8).transpose(2, 1, 0) * (len(masks) - n) for n, mask in enumerate(masks.values())]
    content = {
        "voxels": np.stack(layers) if len(layers) > 1 else layers[0],
        "ijkToLPS": np.eye(4) if ijk_to_lps is None else ijk_to_lps,
        "segments": segments,
    }
    slicerio.write_segmentation(str(path), content)


def write_rtstruct(path: Path, structures: Mapping[str, Sequence[Points]]) -> None:
    """Closed contours in LPS millimetres."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    whole = Dataset()
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    whole.Modality, whole.PatientID = "RTSTRUCT", "nobody"
    whole.StudyInstanceUID, whole.SeriesInstanceUID = generate_uid(), generate_uid()
    whole.StructureSetLabel = "test"
    whole.StructureSetROISequence, whole.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(structures.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, generate_uid()
        drawn.ReferencedROINumber, drawn.ROIDisplayColor, drawn.ContourSequence = number, [255, 0, 0], []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.4f}" for point in points for value in point]
            drawn.ContourSequence.append(contour)
        whole.StructureSetROISequence.append(roi)
        whole.ROIContourSequence.append(drawn)
    whole.save_as(path, enforce_file_format=True)
