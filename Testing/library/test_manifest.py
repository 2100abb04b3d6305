import json

import pytest

from MambaSegmentLib.bundle import Channel
from MambaSegmentLib.errors import BundleError, ConfigError
from MambaSegmentLib.manifest import Manifest, Region, canonical_json


def test_json_both_ways(a_manifest):
    manifest = a_manifest(
        mirror_axes=(0, 2), training={"cases": 40, "loss": "dice_ce"}, ignore_label=9, description="für Tests",
        regions=(Region("whole", (1, 5), 1), Region("core", (5,), 5)),
    )  # fmt: skip
    document = json.loads(json.dumps(manifest.to_json()))
    assert Manifest.from_json(document) == manifest


def test_unknown_keys_are_kept_wherever_they_are(a_manifest):
    document = a_manifest().to_json()
    document["since"] = {"year": 2031}
    document["preprocessing"]["denoise"] = "a lot"
    document["preprocessing"]["resampling"]["kernel"] = [1, 2]
    document["channels"][0]["units"] = "none"
    document["labels"][1]["snomed"] = "later"
    document["training"] = {"seed": 3}
    expected = json.loads(json.dumps(document))
    assert Manifest.from_json(document).to_json() == expected


def test_canonical_json_by_hand():
    assert canonical_json({"b": [1, 2.5], "a": "é", "c": None}) == '{"a":"é","b":[1,2.5],"c":null}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\ud800"])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(ConfigError, match="JSON"):
        canonical_json({"measured": value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "named"),
        ({"name": "../escape"}, "named"),
        ({"patch_size": (8,)}, "patch_size"),
        ({"patch_size": (8, 8, 0)}, "patch_size"),
        ({"patch_size": (8, 8, 8.0)}, "patch_size"),
        ({"step": 0}, "step"),
        ({"step": 1.5}, "step"),
        ({"mirror_axes": (3,)}, "mirror_axes"),
        ({"mirror_axes": (0, 0)}, "mirror_axes"),
        ({"segments": ()}, "at least one label"),
        ({"channels": (Channel("T1"), Channel("T2"))}, "2 channels, but 1 normalizations"),
        ({"license": None}, "license must be a text"),
        ({"regions": (Region("core", (2,), 2),)}, "painted with 2"),
        ({"ignore_label": 5}, "ignore_label 5"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(a_manifest, changes, message):
    with pytest.raises(ConfigError, match=message):
        a_manifest(**changes)


@pytest.mark.parametrize("key", ["schema_version", "name", "architecture", "channels", "labels", "preprocessing"])
@pytest.mark.parametrize("value", ["missing", None, 7, [7], {"x": 7}])
def test_any_damaged_key_is_a_bundle_error(a_manifest, key, value):
    document = a_manifest().to_json()
    if value == "missing":
        del document[key]
    else:
        document[key] = value
    with pytest.raises(BundleError):
        Manifest.from_json(document)


def test_a_newer_schema_says_update(a_manifest):
    with pytest.raises(BundleError, match="newer version"):
        Manifest.from_json({**a_manifest().to_json(), "schema_version": 2})
