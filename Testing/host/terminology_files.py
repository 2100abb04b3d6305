"""Small terminology files for the terminologies logic, which complains where its three default files are absent.

The schema is that of DICOM segmentation contexts; codes are SNOMED CT. Enough for lookups by label, not a copy of the
lists that Slicer ships.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SCHEMAS = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas"
_GENERAL = "Segmentation category and type - 3D Slicer General Anatomy list"
_DICOM = "Segmentation category and type - DICOM master list"
_REGIONS = "Anatomic codes - DICOM master list"


def writeTerminologies(folder: Path) -> None:
    """Write the files under the names that the logic looks for."""
    general = _segmentContext(_GENERAL)
    files = {
        "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy.term.json": general,
        "SegmentationCategoryTypeModifier-DICOM-Master.term.json": _segmentContext(_DICOM),
        "AnatomicRegionAndModifier-DICOM-Master.term.json": _regionContext(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _code(value: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"CodingSchemeDesignator": "SCT", "CodeValue": value, "CodeMeaning": meaning, **more}


def _segmentContext(name: str) -> dict[str, Any]:
    def kind(value: str, meaning: str, color: list[int]) -> dict[str, Any]:
        return _code(value, meaning, recommendedDisplayRGBValue=color, **{"3dSlicerLabel": meaning.lower()})

    tissue = _code("85756007", "Tissue", showAnatomy=True, Type=[kind("85756007", "Tissue", [128, 174, 128])])
    organs = [kind("10200004", "Liver", [221, 130, 101]), kind("64033007", "Kidney", [185, 102, 83])]
    structure = _code("123037004", "Anatomical Structure", showAnatomy=False, Type=organs)
    return {
        "SegmentationCategoryTypeContextName": name,
        "@schema": f"{_SCHEMAS}/segment-context-schema.json#",
        "SegmentationCodes": {"Category": [tissue, structure]},
    }


def _regionContext() -> dict[str, Any]:
    return {
        "AnatomicContextName": _REGIONS,
        "@schema": f"{_SCHEMAS}/anatomic-context-schema.json#",
        "AnatomicCodes": {"AnatomicRegion": [_code("12738006", "Brain")]},
    }
