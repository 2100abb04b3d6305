"""Medical codes for segments whose model brings none; Slicer's own lists need not be there.

Codes are SNOMED CT concepts as DICOM part 16 uses them (context groups 7150, 7151, 7153, 7159, 7166 and 7191), a small
choice of the structures that models segment most. What is not in the list is called a tissue, as Slicer does itself.
"""

from __future__ import annotations

import re

from MambaSegmentLib.segments import Code, SegmentInfo, Terminology

ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
ABNORMAL = Code("SCT", "49755003", "Morphologically Altered Structure")
TISSUE = Code("SCT", "85756007", "Tissue")
RIGHT, LEFT = Code("SCT", "24028007", "Right"), Code("SCT", "7771000", "Left")

_STRUCTURES = {
    "adrenal gland": "23451007", "aorta": "15825003", "bladder": "89837001", "bone": "272673000", "brain": "12738006",
    "colon": "71854001", "duodenum": "38848004", "esophagus": "32849002", "gallbladder": "28231008",
    "heart": "80891009", "hippocampus": "5366008", "kidney": "64033007", "liver": "10200004", "lung": "39607008",
    "pancreas": "15776009", "prostate": "41216001", "spleen": "78961009", "stomach": "69695003",
    "trachea": "44567001",
}  # fmt: skip
_ABNORMALITIES = {
    "cyst": "367643001", "edema": "79654002", "lesion": "52988006", "mass": "4147007", "necrosis": "6574001",
    "neoplasm": "108369006", "tumor": "108369006",
}  # fmt: skip


def terminologyOf(segment: SegmentInfo) -> Terminology:
    """The model's own codes, else those that the segment's name tells, else those of any tissue."""
    if segment.terminology is not None:
        return segment.terminology
    words = re.findall(r"[a-z]+", segment.name.casefold())
    side = RIGHT if "right" in words and "left" not in words else LEFT if "left" in words else None
    name = " ".join(word for word in words if word not in ("right", "left"))
    for category, codes in ((ANATOMY, _STRUCTURES), (ABNORMAL, _ABNORMALITIES)):
        for key, value in codes.items():
            if name in (key, f"{key}s"):
                meaning = "Neoplasm" if key == "tumor" else key.capitalize()
                return Terminology(category, Code("SCT", value, meaning), side)
    return Terminology(TISSUE, TISSUE, side)
