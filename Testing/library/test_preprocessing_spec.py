import pytest

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.normalization import Normalization
from MambaSegmentLib.preprocessing_spec import PreprocessingSpec


def test_json_both_ways_and_unknown_keys():
    spec = PreprocessingSpec(
        (Normalization("zscore"), Normalization("ct", 0.0, 1.0, 0.5, 0.1)),
        orientation="RAS",
        axis_order=(2, 0, 1),
        spacing_mm=(1.0, None, 0.5),
        resampling_order=1,
        coarse_axis_order=0,
        crop="nonzero",
    )
    assert PreprocessingSpec.from_json({**spec.to_json(), "since": "2031"}) == spec
    assert PreprocessingSpec.from_json({"normalization": ["zscore"]}) == PreprocessingSpec((Normalization("zscore"),))


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"normalization": []},
        {"normalization": ["zscore"], "orientation": "XYZ"},
        {"normalization": ["zscore"], "axis_order": [0, 1, 1]},
        {"normalization": ["zscore"], "spacing_mm": [1.0, 0.0, 1.0]},
        {"normalization": ["zscore"], "spacing_mm": [1.0, 1.0]},
        {"normalization": ["zscore"], "spacing_mm": "1 mm"},
        {"normalization": ["zscore"], "resampling": {"order": 7}},
        {"normalization": ["zscore"], "resampling": 3},
        {"normalization": ["zscore"], "crop": "tight"},
    ],
)
def test_specs_that_make_no_sense_are_refused(document):
    with pytest.raises(ConfigError):
        PreprocessingSpec.from_json(document)
