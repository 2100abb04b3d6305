"""What a label value means: names, colours, codes, and the text Slicer reads."""

import json

import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.segments import Code, SegmentInfo, Terminology, check_unique_values

ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
LIVER = Code("SCT", "10200004", "Liver")
KIDNEY = Code("SCT", "64033007", "Kidney")
LEFT = Code("SCT", "7771000", "Left")


def test_tag_is_the_text_of_slicers_documentation():
    assert Terminology(ANATOMY, LIVER).to_slicer_tag() == (
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
        "~Anatomic codes - DICOM master list~^^~^^"
    )


def test_modifier_is_the_fourth_field():
    assert Terminology(ANATOMY, KIDNEY, LEFT).to_slicer_tag().split("~")[3] == "SCT^7771000^Left"


@pytest.mark.parametrize("terminology", [None, Terminology(ANATOMY, LIVER), Terminology(ANATOMY, KIDNEY, LEFT)])
def test_json_and_back(terminology):
    segment = SegmentInfo(3, "Leber, rechter Lappen", (1, 0.5, 0), terminology)
    assert SegmentInfo.from_json(json.loads(json.dumps(segment.to_json()))) == segment


def test_json_has_the_keys_of_a_bundle():
    entry = SegmentInfo(1, "kidney", (0, 0, 1), Terminology(ANATOMY, KIDNEY, LEFT)).to_json()
    assert entry == {
        "value": 1,
        "name": "kidney",
        "color": [0.0, 0.0, 1.0],
        "terminology": {
            "category": {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"},
            "type": {"scheme": "SCT", "value": "64033007", "meaning": "Kidney"},
            "modifier": {"scheme": "SCT", "value": "7771000", "meaning": "Left"},
        },
    }


def test_unknown_keys_are_left_alone():
    assert SegmentInfo.from_json({"value": 1, "name": "a", "color": [0, 0, 0], "note": "x"}).name == "a"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "a", "color": [0, 0, 0]}, "lacks value"),
        ({"value": 0, "name": "a", "color": [0, 0, 0]}, "1..65535"),
        ({"value": 65536, "name": "a", "color": [0, 0, 0]}, "1..65535"),
        ({"value": True, "name": "a", "color": [0, 0, 0]}, "integer"),
        ({"value": 1.0, "name": "a", "color": [0, 0, 0]}, "integer"),
        ({"value": 1, "name": " ", "color": [0, 0, 0]}, "named"),
        ({"value": 1, "name": "a|b", "color": [0, 0, 0]}, "named"),
        ({"value": 1, "name": "a\nb", "color": [0, 0, 0]}, "named"),
        ({"value": 1, "name": "a", "color": [0, 0]}, "three numbers"),
        ({"value": 1, "name": "a", "color": [0, 0, 255]}, "three numbers"),
        ({"value": 1, "name": "a", "color": [0, 0, float("nan")]}, "three numbers"),
        ({"value": 1, "name": "a", "color": "red"}, "three numbers"),
        ({"value": 1, "name": "a", "color": None}, "three numbers"),
        ({"value": 1, "name": "a", "color": [0, 0, 0], "terminology": {"category": {}}}, "lacks type"),
        ([], "JSON object"),
    ],
)
def test_impossible_entries_are_refused(entry, said):
    with pytest.raises(ConfigError, match=said):
        SegmentInfo.from_json(entry)


@pytest.mark.parametrize("part", ["", "a~b", "a^b", "a|b", "a&b", "a\nb", 7])
def test_codes_that_would_break_slicers_tag_are_refused(part):
    for fields in [(part, "1", "x"), ("SCT", part, "x"), ("SCT", "1", part)]:
        with pytest.raises(ConfigError):
            Code(*fields)


def test_two_segments_must_not_share_a_value():
    first, second = SegmentInfo(1, "a", (0, 0, 0)), SegmentInfo(1, "b", (0, 0, 0))
    with pytest.raises(ConfigError, match="'a' and 'b'"):
        check_unique_values([first, second])
